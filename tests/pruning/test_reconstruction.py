"""Reconstruction: what is left of every kind of layer is solved to give what the dense network gave."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from explorer.evaluation.training import reestimate_bn
from explorer.pruning.criteria import score
from explorer.pruning.patterns import Masks, weight_of
from explorer.pruning.pruner import Pruner
from explorer.pruning.reconstruction import Reconstructor, Report, Settings, calibration, layers, solving
from explorer.tracing import trace
from explorer.utils.modules import run
from spaces import PATTERNS, Network, PruningError, Recipe
from tests.support.identities import fresh
from tests.support.norm_models import Conv1D
from tests.support.small_models import Attention, Fn, LambdaLayer, cbr, conv

EXACT = Settings(positions=1000, ridge=1e-10)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches_of(*shape: int, count: int = 3, size: int = 40, dtype: torch.dtype = torch.float64) -> list[Any]:
    inputs = torch.randn(count * size, *shape, generator=generator(), dtype=dtype)
    return [(part, torch.zeros(len(part), dtype=torch.int64)) for part in inputs.split(size)]


class Made:
    """A dense network, its pruner and its calibration batches."""

    def __init__(self, model: nn.Module, batches: list[Any], settings: Settings = EXACT) -> None:
        self.model, self.batches = fresh(model), batches
        self.network: Network = trace(self.model, head(batches[0][0]))
        self.pruner = Pruner(self.model, self.network, score(self.model, self.network))
        self.reconstruct = Reconstructor(self.model, self.network, batches, settings)

    def __call__(self, recipe: Recipe) -> tuple[nn.Module, Masks, Report]:
        module, masks = self.pruner(recipe)
        return module, masks, self.reconstruct(module, masks, self.pruner.kept(recipe))

    def error(self, module: nn.Module) -> float:
        """Return the mean squared difference of the outputs to the dense network's over their variance."""
        got, wanted = (torch.cat([outputs(part, x) for x, _ in self.batches]) for part in (module, self.model))
        return float((got - wanted).square().mean() / wanted.var())


def head(inputs: Any) -> Any:
    return {key: value[:1] for key, value in inputs.items()} if isinstance(inputs, dict) else inputs[:1]


def outputs(module: nn.Module, inputs: Any) -> Tensor:
    with torch.no_grad():
        return torch.cat([leaf.flatten(1) for leaf in tree_leaves(run(module.eval(), inputs))], 1)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float = 0.0) -> bool:
    return first.keys() == second.keys() and all(
        torch.allclose(first[name].double(), second[name].double(), rtol=tolerance, atol=tolerance) for name in first
    )


def residual(**options: Any) -> nn.Module:
    """Return blocks whose shortcut is computed after the branch, as that of option A is."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = F.relu(m.stem(x))
        x = F.relu(m.b(m.a(x)) + m.short(x))
        y = m.d(m.c(x))
        y += x
        return m.head(F.relu(y).mean((2, 3)))

    return Fn(
        forward,
        stem=cbr(3, 8),
        a=cbr(8, 8),
        b=nn.Sequential(conv(8, 8, bias=False), nn.BatchNorm2d(8)),
        short=LambdaLayer(lambda x: x.flip(-1)),
        c=cbr(8, 8),
        d=nn.Sequential(conv(8, 8, bias=False), nn.BatchNorm2d(8)),
        head=nn.Linear(8, 5),
    )


def tower() -> nn.Module:
    """Return an embedding by a strided convolution, its tokens transposed, and two residual blocks with a scale."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.embed(x).flatten(2).transpose(1, 2)
        x = x + m.gamma * m.block(x)
        return m.head(m.attention(x).mean(1))

    made = Fn(
        forward,
        embed=nn.Conv2d(3, 8, 4, 4),
        block=nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8)),
        attention=Attention(8, 2, 12),
        head=nn.Linear(8, 5),
    )
    made.gamma = nn.Parameter(torch.full((8,), 0.5))
    return made


def convolutions(kind: type[nn.Module], norm: type[nn.Module], **options: Any) -> nn.Module:
    return nn.Sequential(
        kind(4, 8, 3, padding=1, bias=False, **options), norm(8), nn.ReLU(), kind(8, 8, 3, stride=2, padding=1),
        nn.ReLU(), kind(8, 6, 3, padding=2, dilation=2), nn.Flatten(), nn.LazyLinear(5),
    )  # fmt: skip


def attending() -> nn.Module:
    return nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0), nn.Flatten(), nn.Linear(40, 5)
    )


def twice() -> nn.Module:
    return Fn(
        lambda m, x: m.head(m.b(F.relu(m.b(F.relu(m.a(x)))))),
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 8),
        head=nn.Linear(8, 3),
    )


def lazily(model: nn.Module, batches: list[Any]) -> nn.Module:
    run(model, batches[0][0].float())
    return model


IMAGES, TOKENS, ROWS = (3, 8, 8), (5, 8), (6,)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "chain": (lambda: nn.Sequential(cbr(3, 8), cbr(8, 6), nn.Flatten(), nn.Linear(384, 5)), IMAGES),
    "residual": (residual, IMAGES),
    "tower": (tower, (3, 16, 16)),
    "conv1d": (lambda: convolutions(nn.Conv1d, nn.BatchNorm1d), (4, 16)),
    "conv3d": (lambda: convolutions(nn.Conv3d, nn.BatchNorm3d), (4, 4, 4, 4)),
    "transposed": (lambda: convolutions(nn.ConvTranspose2d, nn.BatchNorm2d), (4, 5, 5)),
    "grouped": (lambda: nn.Sequential(cbr(3, 8), cbr(8, 8, groups=2), conv(8, 5), nn.Flatten()), IMAGES),
    "depthwise": (lambda: nn.Sequential(cbr(3, 8), cbr(8, 16, groups=8), conv(16, 5, 1), nn.Flatten()), IMAGES),
    "linear": (lambda: nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4, bias=False)), ROWS),
    "attention": (lambda: nn.Sequential(Attention(8, 2, 12), Attention(8, 2, 12), nn.Linear(8, 3)), TOKENS),
    "torch's attention": (attending, TOKENS),
    "gpt's layer": (lambda: nn.Sequential(nn.LayerNorm(8), Conv1D(12, 8), nn.GELU(), Conv1D(8, 12)), TOKENS),
    "used twice": (twice, ROWS),
}


@pytest.fixture(scope="module", params=list(MODELS))
def made(request: pytest.FixtureRequest) -> Made:
    build, shape = MODELS[request.param]
    torch.manual_seed(0)
    batches = batches_of(*shape)
    return Made(lazily(build(), batches), batches)


def halved(network: Network) -> Recipe:
    return Recipe.of({unit.name: 0.5 for unit in network.units})


def test_the_whole_network_stays_as_it_is(made: Made) -> None:
    module, _, report = made(Recipe.of())
    assert same(state(module), state(made.model))
    assert not report.solved
    assert not report.left
    assert len(report.unchanged) == len(made.network.layers)


def test_what_is_left_comes_closer_to_the_dense_network(made: Made) -> None:
    recipe = halved(made.network)
    inherited, _ = made.pruner(recipe)
    module, _, report = made(recipe)
    assert not report.left
    assert report.solved
    assert made.error(module) < 0.8 * made.error(inherited)
    assert made.error(module) < 1


def test_every_solution_is_the_best_one(made: Made) -> None:
    """The last layer's outputs leave an error that no change of its weights makes smaller."""
    recipe = halved(made.network)
    module, _, _ = made(recipe)
    last = [layer for layer in made.network.layers if layer.weight in dict(module.named_parameters())][-1]
    weight = module.get_parameter(last.weight)
    best = sum(float((outputs(module, x) - outputs(made.model, x)).square().sum()) for x, _ in made.batches)
    for seed in range(3):
        change = torch.randn(weight.shape, generator=generator(seed), dtype=weight.dtype)
        for sign in (-1, 1):
            with torch.no_grad():
                weight.add_(sign * 1e-3 * change)
            there = sum(float((outputs(module, x) - outputs(made.model, x)).square().sum()) for x, _ in made.batches)
            with torch.no_grad():
                weight.sub_(sign * 1e-3 * change)
            assert there > best * (1 - 1e-9)


def test_the_same_again_and_in_any_order(made: Made) -> None:
    recipe = halved(made.network)
    first, _, _ = made(recipe)
    again, _, _ = made(recipe)
    assert same(state(first), state(again))
    few = Settings(positions=2, ridge=0.01)
    mixed = [(x.flip(0), y) for x, y in reversed(made.batches)]
    results = []
    for batches in (made.batches, mixed):
        module, masks = made.pruner(recipe)
        Reconstructor(made.model, made.network, batches, few)(module, masks, made.pruner.kept(recipe))
        results.append(state(module))
    assert same(*results, tolerance=1e-7)


def test_modes_and_the_dense_network_are_left(made: Made) -> None:
    before, random = state(made.model), torch.get_rng_state()
    module, masks = made.pruner(halved(made.network))
    module.train()
    made.reconstruct(module, masks, made.pruner.kept(halved(made.network)))
    assert all(part.training for part in module.modules())
    assert same(before, state(made.model))
    assert torch.equal(random, torch.get_rng_state())
    with pytest.raises(AttributeError):
        _ = next(module.parameters()).grad.shape  # type: ignore[union-attr]


def before_activations() -> nn.Module:
    """Return layers with norms before them, one of which runs over what was concatenated."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        x = torch.cat([x, m.a(F.relu(m.norm_a(x)))], 1)
        return m.head(F.relu(m.norm_b(x)))

    members = {"stem": conv(3, 8), "norm_a": nn.BatchNorm2d(8), "a": conv(8, 8), "norm_b": nn.BatchNorm2d(16)}
    return Fn(forward, **members, head=conv(16, 3))


@pytest.mark.parametrize("name", ["chain", "residual", "depthwise", "norms before"])
def test_training_goes_on_from_the_solution(name: str) -> None:
    """On the calibration inputs batch norms give in training what they give in eval mode."""
    build, shape = MODELS.get(name, (before_activations, IMAGES))
    torch.manual_seed(0)
    batches = batches_of(*shape)
    model = fresh(build())
    whole = torch.cat([x for x, _ in batches])
    reestimate_bn(model, [(whole, whole)])
    made = Made(model, batches)
    made.model.load_state_dict(model.state_dict())
    made.reconstruct = Reconstructor(made.model, made.network, batches, EXACT)
    recipe = halved(made.network)
    inherited, _ = made.pruner(recipe)
    module, _, _ = made(recipe)
    for part, before in zip(module.modules(), inherited.modules(), strict=True):
        if isinstance(part, nn.Conv2d) and part.bias is None:
            lengths = (net.weight.detach().flatten(1).norm(dim=1) for net in (before, part))
            torch.testing.assert_close(*lengths)
    x = torch.cat([x for x, _ in batches])
    evaluated = outputs(module, x)
    with torch.no_grad():
        trained = module.train()(x).flatten(1)
    assert float((trained - evaluated).square().mean() / evaluated.var()) < 1e-3


@pytest.mark.parametrize("granularity", PATTERNS)
def test_masks_hold_and_a_solution_is_least_squares_on_its_support(granularity: str) -> None:
    torch.manual_seed(0)
    batches = batches_of(12, size=60)
    made = Made(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 10)), batches)
    sizes = {"block": {"height": 4, "width": 5}, "tile": {"width": 4}, "tile_element": {"width": 4}}
    pattern: dict[str, Any] = {
        "granularity": granularity,
        **sizes.get(granularity, {"width": 4} if "tile" in granularity else {}),
    }
    if "vector" in granularity:
        pattern |= {"n": 1, "m": 2}
    if granularity != "vector":
        pattern["ratio"] = 0.4
    module, masks, _ = made(Recipe.of({}, {"2": pattern}))
    x = torch.cat([x for x, _ in batches])
    with torch.no_grad():
        inner, wanted = module[1](module[0](x)).numpy(), made.model(x).numpy()
    layer = made.network.layer["2"]
    weight = module[2].weight.detach()
    keep = weight_of(made.network, layer, masks["2"][1].keep, weight).numpy()
    assert not weight.numpy()[~keep].any()
    for column in range(10):
        rows = np.column_stack([inner[:, keep[column]], np.ones(len(inner))])
        best, *_ = np.linalg.lstsq(rows, wanted[:, column], rcond=None)
        np.testing.assert_allclose(weight.numpy()[column][keep[column]], best[:-1], atol=1e-6)
        np.testing.assert_allclose(float(module[2].bias.detach()[column]), best[-1], atol=1e-6)


@pytest.mark.parametrize("name", ["chain", "residual", "depthwise", "attention", "grouped"])
@pytest.mark.parametrize("granularity", ["element", "kernel"])
def test_masked_layers_of_every_kind_come_closer(name: str, granularity: str) -> None:
    build, shape = MODELS[name]
    torch.manual_seed(0)
    made = Made(build(), batches_of(*shape))
    recipe = Recipe.of({}, {layer.name: {"granularity": granularity, "ratio": 0.5} for layer in made.network.layers})
    inherited, _ = made.pruner(recipe)
    module, masks, report = made(recipe)
    assert not report.left
    for layer, (_, mask) in masks.items():
        weight = module.get_parameter(made.network.layer[layer].weight)
        assert not weight[~weight_of(made.network, made.network.layer[layer], mask.keep, weight)].any()
    assert made.error(module) < 0.7 * made.error(inherited)


def test_copies_are_removed_without_a_change() -> None:
    torch.manual_seed(0)
    made = Made(nn.Sequential(cbr(3, 4), conv(4, 8), nn.ReLU(), conv(8, 6), nn.Flatten()), batches_of(*IMAGES))
    model = made.model
    with torch.no_grad():
        model[1].weight[4:] = model[1].weight[:4] * 2
        model[1].bias[4:] = model[1].bias[:4] * 2
    made.reconstruct = Reconstructor(model, made.network, made.batches, EXACT)
    module, _, report = made(Recipe.of({"1": 0.5}))
    assert module[1].out_channels == 4
    assert made.error(module) < 1e-12
    assert report.solved == ("3.weight",)


def test_a_sum_makes_up_for_what_its_other_operand_lost() -> None:
    """The branch adds what the shortcut no longer has: without the sum as target it could not know."""
    torch.manual_seed(0)

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.drop(x)
        return y + m.branch(x)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)

    made = Made(Fn(forward, drop=Block(), branch=nn.Linear(6, 6)), batches_of(6))
    module, _, report = made(Recipe.of(blocks=["drop"]))
    assert report.solved == ("branch.weight",)
    assert made.error(module) < 1e-12


def clipped(clip: Callable[[Tensor], Tensor], *, summed: bool = False, read: bool = False) -> nn.Module:
    """Return a layer whose output is clipped: in a sum where `summed`, and read before as well where `read`."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.b(F.relu(m.a(x)))
        y = x.repeat(1, 2) + y if summed else y
        return torch.cat([clip(y), y], 1) if read else clip(y)

    return Fn(forward, a=nn.Linear(6, 12), b=nn.Linear(12, 12))


@pytest.mark.parametrize("clip", [F.relu, F.relu6, F.relu_])
@pytest.mark.parametrize("summed", [False, True])
def test_what_is_clipped_need_not_be_given(
    clip: Callable[[Tensor], Tensor], summed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(clipped(clip, summed=summed), batches_of(6))
    recipe = Recipe.of({made.network.layer["a"].weight.removesuffix(".weight"): 0.5})
    errors = []
    for steps in (0, 3, 50, 60):
        monkeypatch.setattr(layers, "_CLIPPED", steps)
        errors.append(made.error(made(recipe)[0]))
    assert errors[1] < errors[0]
    assert errors[3] == pytest.approx(errors[2], rel=0.01)


def test_what_is_read_before_it_is_clipped_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(clipped(F.relu, summed=True, read=True), batches_of(6))
    states = []
    for steps in (0, 3):
        monkeypatch.setattr(layers, "_CLIPPED", steps)
        states.append(state(made(halved(made.network))[0]))
    assert same(*states)


def test_a_dropped_block_is_made_up_for() -> None:
    from explorer.models import build

    torch.manual_seed(0)
    made = Made(build("resnet_digits"), batches_of(1, 8, 8))
    block = made.network.blocks[0].name
    recipe = Recipe.of(blocks=[block])
    inherited, _ = made.pruner(recipe)
    module, _, report = made(recipe)
    assert not report.left
    assert made.error(module) < 0.5 * made.error(inherited)


def test_layers_that_cannot_be_solved_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)

    def forward(m: Any, x: Tensor) -> Tensor:
        # another operation reads the last weight too
        return m.head(F.relu(m.b(F.relu(m.a(x))))) + F.normalize(m.head.weight, dim=0).mean()

    made = Made(Fn(forward, a=nn.Linear(6, 8), b=nn.Linear(8, 8), head=nn.Linear(8, 3)), batches_of(6))
    with caplog.at_level("WARNING", logger="explorer"):
        module, _, report = made(Recipe.of({"a": 0.5}))
        made(Recipe.of({"a": 0.25}))
    assert report.left == ("head.weight",)
    assert caplog.text.count("1 layers are left as they are: head.weight") == 1
    inherited, _ = made.pruner(Recipe.of({"a": 0.5}))
    assert torch.equal(module.head.weight, inherited.head.weight)


def test_few_rows_leave_it_to_the_ridge(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    made = Made(
        nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3)), batches_of(6, count=1, size=8), Settings()
    )
    with caplog.at_level("INFO", logger="explorer"):
        module, _, _ = made(Recipe.of({"0": 0.5}))
    assert "fewer rows than inputs, the ridge decides: 2.weight" in caplog.text
    assert outputs(module, made.batches[0][0]).isfinite().all()


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_inputs_are_harmless(value: float) -> None:
    torch.manual_seed(0)
    batches = [(torch.full((10, *IMAGES), value, dtype=torch.float64), torch.zeros(10, dtype=torch.int64))]
    made = Made(residual(), batches, Settings())
    module, _, _ = made(halved(made.network))
    assert all(tensor.isfinite().all() for tensor in module.state_dict().values())
    torch.testing.assert_close(outputs(module, batches[0][0]), outputs(made.model, batches[0][0]))


def test_inputs_that_are_no_numbers_are_a_mistake_of_one_line() -> None:
    torch.manual_seed(0)
    batches = batches_of(*IMAGES)
    made = Made(residual(), batches)
    batches[1][0][3, 0, 0, 0] = float("nan")
    made.reconstruct = Reconstructor(made.model, made.network, batches, EXACT)
    with pytest.raises(PruningError, match=r"^reconstruction: what .*weight reads or is to give is not finite$"):
        made(halved(made.network))


def test_a_batch_that_the_model_refuses_is_a_mistake_of_one_line() -> None:
    made = Made(residual(), batches_of(*IMAGES))
    made.reconstruct = Reconstructor(made.model, made.network, batches_of(4, 8, 8), EXACT)
    with pytest.raises(PruningError, match=r"^reconstruction: forward raised RuntimeError \("):
        made(halved(made.network))


def test_batches_of_another_shape_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    made = Made(residual(), batches_of(*IMAGES))
    with caplog.at_level("WARNING", logger="explorer"):
        made.reconstruct = Reconstructor(
            made.model, made.network, [*made.batches, *batches_of(3, 6, 6, count=1)], EXACT
        )
    assert "1 of 4 calibration batches have another shape and are not used" in caplog.text


def test_inputs_with_names_are_joined() -> None:
    torch.manual_seed(0)

    def forward(m: Any, x: Tensor, mask: Tensor) -> Tensor:
        return m.b(F.relu(m.a(x)) * mask[..., None])

    x = torch.randn(80, 5, 6, generator=generator(), dtype=torch.float64)
    mask = (torch.rand(80, 5, generator=generator()) > 0.3).double()
    batches = [({"x": a, "mask": b}, torch.zeros(40)) for a, b in zip(x.split(40), mask.split(40), strict=True)]
    made = Made(Fn(forward, a=nn.Linear(6, 12), b=nn.Linear(12, 3)), batches)
    recipe = Recipe.of({"a": 0.5})
    inherited, _ = made.pruner(recipe)
    module, _, _ = made(recipe)
    assert made.error(module) < 0.8 * made.error(inherited)


def test_labels_are_not_read() -> None:
    torch.manual_seed(0)
    batches = batches_of(*IMAGES)
    made = Made(residual(), batches)
    recipe = halved(made.network)
    module, _, _ = made(recipe)
    made.reconstruct = Reconstructor(made.model, made.network, [(x, None) for x, _ in batches], EXACT)
    again, _, _ = made(recipe)
    assert same(state(module), state(again))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types_are_solved_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = copy.deepcopy(fresh(residual(), torch.float32)).to(dtype)
    batches = [(x.to(dtype), y) for x, y in batches_of(*IMAGES)]
    network = trace(model, batches[0][0][:1], verify=False)
    pruner = Pruner(model, network, score(model, network))
    recipe = halved(network)
    module, masks = pruner(recipe)
    before = outputs(module, batches[0][0])
    Reconstructor(model, network, batches, Settings())(module, masks, pruner.kept(recipe))
    wanted = outputs(model, batches[0][0])
    assert all(parameter.dtype == dtype for parameter in module.parameters())
    assert (outputs(module, batches[0][0]) - wanted).float().norm() < 0.7 * (before - wanted).float().norm()


def test_as_many_inputs_as_memory_allows_at_more_places(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    made = Made(residual(), batches_of(*IMAGES))
    recipe, few = halved(made.network), Settings(positions=4)
    largest = 8 * 8 * 8 * 8  # bytes of an image's 8 channels of 8x8 places
    monkeypatch.setattr(calibration, "_ACTIVATION", 30 * largest)
    results = []
    for batches in (made.batches, [(x.flip(0), y) for x, y in reversed(made.batches)]):
        made.reconstruct = Reconstructor(made.model, made.network, batches, few)
        with caplog.at_level("INFO", logger="explorer"):
            module, _, _ = made(recipe)
        results.append(state(module))
    assert caplog.text.count("30 of 120 calibration inputs fit in memory, at 16 places each") == 2
    assert same(*results, tolerance=1e-7)


def test_rows_in_blocks_and_inputs_in_parts_are_solved_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    x, error = (torch.randn(1, 90, size, generator=generator(size), dtype=torch.float64) for size in (24, 5))
    x = x + 3
    keep = torch.rand(1, 24, 5, generator=generator()) > 0.4
    changes = []
    for mask in (None, keep):
        for block in (1 << 24, 7 * 24):
            monkeypatch.setattr(solving, "_BLOCK", block)
            rows = solving.Rows(90, 24, lambda part: x[:, part].clone())
            mean = rows.centre()
            torch.testing.assert_close(mean, x.mean(1, keepdim=True))
            changes.append(solving.solver(rows, groups=1, ridge=0.1, keep=mask)(error))
    torch.testing.assert_close(changes[0], changes[1])
    torch.testing.assert_close(changes[2], changes[3])
    assert not changes[2][~keep].any()


@pytest.mark.parametrize("rows", [10, 90])
def test_wide_layers_are_solved(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer rows than inputs by the rows' own system, otherwise by parts of the inputs, which is no worse."""
    x, error = (torch.randn(1, rows, size, generator=generator(size), dtype=torch.float64) for size in (24, 5))

    def missing(change: Tensor) -> float:
        return float((x @ change - error).square().sum() + 0.1 * x.square().sum() / 24 * change.square().sum())

    made = solving.Rows(rows, 24, lambda part: x[:, part].clone())
    whole = solving.solver(made, groups=1, ridge=0.1)(error)
    monkeypatch.setattr(solving, "_WIDE", 12)
    found = solving.solver(solving.Rows(rows, 24, lambda part: x[:, part].clone()), groups=1, ridge=0.1)(error)
    if rows < 12:
        torch.testing.assert_close(found, whole)
    assert missing(found) < float(error.square().sum())
    assert missing(found) < 1.2 * missing(whole) + 1e-9


def test_alternating_directions_come_near_the_exact_solution() -> None:
    x, error = (torch.randn(400, size, generator=generator(size), dtype=torch.float64) for size in (32, 6))
    x = x @ torch.randn(32, 32, generator=generator(), dtype=torch.float64)
    gram, right = x.T @ x, x.T @ error
    gram.diagonal().add_(0.01 * gram.diagonal().mean())
    keep = torch.rand(32, 6, generator=generator()) > 0.5
    exact, near = (make(gram, keep)(right) for make in (solving._masked, solving.Alternating))
    assert not near[~keep].any()

    def value(change: Tensor) -> float:
        return float((change * (gram @ change)).sum() - 2 * (change * right).sum())

    assert value(exact) <= value(near) + 1e-9
    assert value(near) < 0.9 * value(exact)
