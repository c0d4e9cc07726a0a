"""Surgery: the sliced module computes what the masked one does, stands alone, and leaves the dense one alone."""

from __future__ import annotations

import copy
import io
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explorer import models
from explorer.pruning.surgery import Kept, Surgeon
from explorer.tracing import trace
from explorer.tracing.verification.masking import masked
from spaces import Network, PruningError, Recipe
from tests.support.identities import assert_sliced_is_masked, fresh, outputs, random_kept, random_recipe
from tests.support.known import image_size
from tests.support.small_models import CASES, IMG, Fn, cbr, conv

BUILT_IN = ("mobilenet_v2", "resnet20", "resnet56", "resnet_digits", "vgg16_bn")
SMALL = ("option A in a leaf", "depthwise with multiplier", "grouped twice", "transposed depthwise", "gate", "prelu")


@cache
def _dense(name: str) -> tuple[nn.Module, Network, Tensor]:
    """Return a float32 model with random statistics, its network and an example; nobody may change them."""
    torch.manual_seed(0)
    if name in CASES:
        model, example = CASES[name].build(), CASES[name].example
    else:
        model, example = models.build(name), torch.randn(2, *image_size(name))
    return fresh(model, torch.float32), trace(model, example, verify=False), example


def _kept(network: Network, seed: int = 0) -> Kept:
    rng = np.random.default_rng(seed)
    return random_kept(network, random_recipe(network, rng), rng)


def _small(name: str, seed: int = 0) -> nn.Module:
    model, network, _ = _dense(name)
    return Surgeon(model, network).build(_kept(network, seed))


@pytest.mark.parametrize("name", models.MODELS)
def test_sliced_is_masked_to_float32_rounding(name: str) -> None:
    model, network, example = _dense(name)
    for seed in range(1 if name == "resnet110" else 2):
        assert_sliced_is_masked(model, network, example, _kept(network, seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", models.MODELS)
def test_sliced_is_masked_in_float64(name: str) -> None:
    model, network, example = _dense(name)
    for seed in range(10):
        assert_sliced_is_masked(copy.deepcopy(model).double(), network, example, _kept(network, seed))


@pytest.mark.parametrize("name", [*BUILT_IN, *SMALL])
def test_result_stands_alone(name: str) -> None:
    model, _network, example = _dense(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for seed in range(2):
        small = _small(name, seed)
        assert type(small) is type(model)
        dense = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
        own = [t.untyped_storage().data_ptr() for t in (*small.parameters(), *small.buffers())]
        assert not dense & set(own)
        assert not {id(m) for m in model.modules() if not isinstance(m, nn.Identity)} & {id(m) for m in small.modules()}
        # what it computes survives the dense model's weights
        expected = outputs(small, example)
        for value in small.parameters():
            value.data.add_(1)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(torch.equal(a, b) for a, b in zip(expected, outputs(small, example), strict=True))


@pytest.mark.parametrize("name", [*BUILT_IN, *SMALL])
def test_the_dense_recipe_is_the_dense_model(name: str) -> None:
    model, network, example = _dense(name)
    built = Surgeon(model, network).build({})
    for a, b in zip(outputs(model, example), outputs(built, example), strict=True):
        assert torch.equal(a, b)
    assert [key for key, _ in built.named_parameters()] == [key for key, _ in model.named_parameters()]


@pytest.mark.parametrize("name", [*BUILT_IN, *SMALL])
def test_state_dict_loads_strictly(name: str) -> None:
    small, other = _small(name), _small(name)
    for value in other.parameters():
        value.data.zero_()
    other.load_state_dict(small.state_dict(), strict=True)
    example = _dense(name)[2]
    for a, b in zip(outputs(small, example), outputs(other, example), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", [*BUILT_IN, *SMALL])
def test_result_can_be_trained(name: str) -> None:
    small, example = _small(name).train(), _dense(name)[2]
    small(example).square().sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in small.parameters())
    torch.optim.SGD(small.parameters(), 1e-3).step()


def test_requires_grad_and_training_flags_are_kept() -> None:
    model, network, _ = _dense("resnet_digits")
    model = copy.deepcopy(model).train()
    model.conv1.weight.requires_grad_(False)
    model.layer1.eval()
    small = Surgeon(model, network).build(_kept(network))
    assert [p.requires_grad for p in small.parameters()] == [p.requires_grad for p in model.parameters()]
    dense, built = dict(model.named_modules()), dict(small.named_modules())
    assert all(built[name].training == module.training for name, module in dense.items())


@pytest.mark.parametrize("name", ["resnet_digits", "mobilenet_v2", "vgg16_bn", "grouped twice", "option A in a leaf"])
def test_result_is_exported(name: str) -> None:
    small, example = _small(name), _dense(name)[2]
    program = torch.export.export(small, (example,))
    torch.testing.assert_close(program.module()(example), small(example))


@pytest.mark.parametrize("name", BUILT_IN)
def test_result_is_copied_and_pickled(name: str) -> None:
    small, example = _small(name), _dense(name)[2]
    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    for other in (copy.deepcopy(small), torch.load(file, weights_only=False)):
        assert torch.equal(outputs(other, example)[0], outputs(small, example)[0])


@pytest.mark.parametrize("name", [*models.MODELS, *SMALL])
def test_attributes_agree_with_tensors(name: str) -> None:
    for module in _small(name).modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (module.out_channels, module.in_channels // module.groups)
            assert module.in_channels % module.groups == module.out_channels % module.groups == 0
        elif isinstance(module, nn.ConvTranspose2d):
            assert module.weight.shape[:2] == (module.in_channels, module.out_channels // module.groups)
        elif isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.num_features == len(module.running_mean) == len(module.weight)
        elif isinstance(module, nn.PReLU):
            assert module.num_parameters == len(module.weight)


class Wired(nn.Module):
    """Modules reached in every way but the plain one: a list, an alias, a hook, a tied weight, a shared block."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = cbr(3, 8), cbr(8, 8), nn.Linear(8, 8)
        self.shared = nn.Sequential(self.b, nn.ReLU())
        self.d, self.head = nn.Linear(8, 8), nn.Linear(8, 2)
        self.d.weight = self.c.weight
        self.path: list[Any] = [self.a, {"second": self.b}, (self.c, 3)]
        self.calls: list[int] = []
        self.a.register_forward_hook(self.count)

    def count(self, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        self.calls.append(out.size(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.path[1]["second"](self.path[0](x))).mean((2, 3))
        return self.head(self.d(self.path[2][0](x)))


def test_what_was_compiled_in_place_is_not_the_dense_model() -> None:
    model = Fn(lambda m, x: m.b(m.a(x)), a=conv(3, 8), b=conv(8, 2))
    surgeon = Surgeon(model, trace(model, IMG))
    expected = surgeon.build({"a": torch.arange(4)})(IMG)
    model.compile(backend="eager")
    torch.testing.assert_close(Surgeon(model, surgeon.network).build({"a": torch.arange(4)})(IMG), expected)


def test_references_point_into_the_copy() -> None:
    torch.manual_seed(0)
    model = Wired().eval()
    network = trace(model, IMG)
    assert [(unit.name, unit.channels) for unit in network.units] == [("a.0", 8)]
    model.calls.clear()
    small = Surgeon(model, network).build({"a.0": torch.tensor([1, 4, 6])})
    assert small.path[0] is small.a
    assert small.path[1]["second"] is small.b is small.shared[0]
    assert small.path[2][0] is small.c
    assert small.c.weight is small.d.weight
    assert isinstance(small.a[0], nn.Conv2d)
    small(IMG)
    assert small.calls == [3]
    assert model.calls == []
    assert_sliced_is_masked(fresh(model), network, IMG, {"a.0": torch.tensor([1, 4, 6])})


def test_masked_zeroes_only_what_reads() -> None:
    model = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 2)).eval()
    network = trace(model, IMG)
    copied = masked(model, network, {"0": torch.tensor([0, 2])})
    changed = [key for key, value in copied.state_dict().items() if not torch.equal(value, model.state_dict()[key])]
    assert changed == ["3.weight"]
    assert not copied[3].weight[:, [1, 3]].any()
    assert copied[3].weight[:, [0, 2]].all()


@pytest.mark.parametrize(
    ("kept", "rows", "inputs"),
    [
        # two groups of four inputs and three outputs each
        ({"0": torch.tensor([0, 3, 4, 5])}, [0, 1, 2, 3, 4, 5], [[0, 3]] * 3 + [[0, 1]] * 3),
        ({"1": torch.tensor([2, 3])}, [2, 3], [[0, 1, 2, 3]] * 2),
        ({"0": torch.tensor([3, 7]), "1": torch.tensor([0, 2, 4, 5])}, [0, 2, 4, 5], [[3]] * 4),
    ],
)
def test_grouped_weights_by_hand(kept: Kept, rows: list[int], inputs: list[list[int]]) -> None:
    model = nn.Sequential(conv(3, 8), conv(8, 6, groups=2), conv(6, 2)).eval()
    small = Surgeon(model, trace(model, IMG)).build(kept)
    expected = torch.stack([model[1].weight[row, chosen] for row, chosen in zip(rows, inputs, strict=True)])
    assert torch.equal(small[1].weight, expected)


@pytest.mark.parametrize(
    "other", [nn.Sequential(conv(3, 6)), nn.Sequential(nn.ReLU()), Fn(lambda m, x: m.a(x), a=conv(3, 8))]
)
def test_other_models_are_refused(other: nn.Module) -> None:
    network = trace(nn.Sequential(conv(3, 8), conv(8, 2)), IMG)
    with pytest.raises(PruningError, match=r"^model: it has no tensor '0\.weight' of shape \[8, 3, 3, 3\]"):
        Surgeon(other, network)


def test_weights_are_read_at_every_build() -> None:
    model = nn.Sequential(conv(3, 8), conv(8, 2))
    surgeon = Surgeon(model, trace(model, IMG))
    with torch.no_grad():
        model[0].weight.fill_(7)
    assert (surgeon.build({"0": torch.tensor([1])})[0].weight == 7).all()


def test_recipes_of_full_width_need_no_surgery() -> None:
    assert random_kept(_dense("resnet20")[1], Recipe(), np.random.default_rng(0)) == {}
