"""Built-in networks: known sizes and costs, and strict loading of weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from explorer import data, models
from explorer.data.task import Task
from explorer.models.resnet import PadShortcut
from spaces.errors import PruningError

SHARED = Path(__file__).parents[3] / "shared"
WEIGHTS = SHARED / "weights"
CIFAR = SHARED / "data" / "cifar10-jpeg"

# name, input, parameters in M, multiply-adds in M (published, or counted by hand from the definition)
KNOWN = [
    ("densenet40", (3, 32, 32), 0.176122, 72.365352),
    ("mobilenet_v2", (3, 32, 32), 2.237, 87.98),
    ("resnet20", (3, 32, 32), 0.27, 40.55),
    ("resnet32", (3, 32, 32), 0.464, 68.86),
    ("resnet44", (3, 32, 32), 0.659, 97.17),
    ("resnet56", (3, 32, 32), 0.853, 125.49),
    ("resnet110", (3, 32, 32), 1.728, 252.89),
    ("resnet_digits", (1, 8, 8), 0.172, 1.632),
    ("vgg16_bn", (3, 32, 32), 14.728, 313.2),
    ("vit_digits", (1, 8, 8), 0.114778, 1.994592),
    ("vit_tiny", (3, 32, 32), 5.362762, 365.107584),
]


@pytest.mark.parametrize(("name", "shape", "parameters", "macs"), KNOWN)
def test_known_sizes(name: str, shape: tuple[int, ...], parameters: float, macs: float) -> None:
    model = models.build(name).eval()
    # fused attention has no count of its own
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        logits = model(torch.zeros(2, *shape))
    assert logits.shape == (2, 10)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(parameters, abs=6e-4)
    assert counter.get_total_flops() / 2 / 2e6 == pytest.approx(macs, rel=2e-4)


def test_every_model_is_known() -> None:
    assert sorted(models.MODELS) == sorted(name for name, *_ in KNOWN)


@pytest.mark.parametrize("name", ["densenet40", "mobilenet_v2", "resnet20", "resnet_digits", "vgg16_bn", "vit_digits"])
def test_options_set_the_outer_widths(name: str) -> None:
    size = 8 if name.endswith("_digits") else 32
    model = models.build(name, num_classes=7, in_channels=2).eval()
    assert model(torch.zeros(1, 2, size, size)).shape == (1, 7)


def test_shortcut_is_option_a() -> None:
    x = torch.randn(2, 16, 8, 6)
    y = PadShortcut(16, 32)(x)
    assert y.shape == (2, 32, 4, 3)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_shortcuts_are_leaves_without_state() -> None:
    model = models.build("resnet20")
    shortcuts = [m for name, m in model.named_modules() if name.endswith("shortcut")]
    assert len(shortcuts) == 9
    assert sum(isinstance(m, PadShortcut) for m in shortcuts) == 2
    assert not any("shortcut" in key for key in model.state_dict())
    assert not any(list(m.children()) for m in shortcuts)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.build("resnet65"), "model: 'resnet65' is unknown, did you mean 'resnet56'?"),
        (lambda: models.build("resnet20", num_classes=0), "model.num_classes: 0 is not"),
        (lambda: models.build("resnet20", num_classes="ten"), "model.num_classes: 'ten' is not"),
    ],
)
def test_bad_options(call, message: str) -> None:
    with pytest.raises(PruningError, match=re.escape(message)):
        call()


def _state(name: str = "resnet_digits") -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in models.build(name).state_dict().items()}


def _equal(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items() if key in state)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_round_trip_without_counters(tmp_path: Path, suffix: str) -> None:
    state = {k: v for k, v in _state().items() if not k.endswith("num_batches_tracked")}
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    model = models.build("resnet_digits")
    models.load_weights(model, path)
    assert _equal(model, state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3, "args": {"lr": 0.1}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"model": {f"module._orig_mod.{k}": v for k, v in s.items()}},
    ],
)
def test_wrapped_checkpoints_are_accepted(tmp_path: Path, wrap) -> None:
    state = _state()
    torch.save(wrap(state), tmp_path / "w.pt")
    model = models.build("resnet_digits")
    models.load_weights(model, tmp_path / "w.pt")
    assert _equal(model, state)


def _without(state: dict[str, torch.Tensor], key: str) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: _without(s, "bn1.weight"), "lacks 'bn1.weight' [16]"),
        (lambda s: {**s, "fc.weight": torch.zeros(2)}, "has 'fc.weight' [2], which the model doesn't know"),
        (
            lambda s: {**s, "linear.weight": torch.zeros(100, 64), "linear.bias": torch.zeros(100)},
            "has 'linear.weight' as [100, 64], the model needs [10, 64] (and 1 more mismatches)",
        ),
    ],
)
def test_weights_that_do_not_fit_change_nothing(tmp_path: Path, change, message: str) -> None:
    save_file(change(_state()), tmp_path / "w.safetensors")
    model = models.build("resnet_digits")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(PruningError, match=re.escape(message)) as caught:
        models.load_weights(model, tmp_path / "w.safetensors")
    assert str(caught.value).startswith("model.weights: ")
    assert _equal(model, before)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("unpickled",)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("gone.safetensors", lambda p: None, "there is no file"),
        ("w.safetensors", lambda p: p.write_bytes(b"not a header"), "can't be read as safetensors"),
        ("w.pt", lambda p: p.write_bytes(b"garbage"), "can't be read as a pickle of tensors"),
        ("w.pt", lambda p: torch.save({"x": _Evil()}, p), "can't be read as a pickle of tensors"),
        ("w.pt", lambda p: torch.save([1, 2], p), "holds no state dict"),
        ("w.pt", lambda p: torch.save({"epoch": 3}, p), "holds no state dict"),
        ("w.onnx", lambda p: p.write_bytes(b""), "unknown suffix"),
    ],
)
def test_unreadable_weights_are_one_line(tmp_path: Path, name: str, write, message: str, capsys) -> None:
    write(tmp_path / name)
    with pytest.raises(PruningError, match=message) as caught:
        models.load_weights(models.build("resnet_digits"), tmp_path / name)
    assert str(caught.value).startswith("model.weights: ")
    assert "\n" not in str(caught.value)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="no shared weights")
@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_shared_weights_fit(name: str) -> None:
    for path in WEIGHTS.glob(f"{name}-*.safetensors"):
        models.load_weights(models.build(name), path)
    with pytest.raises(PruningError, match=r"lacks|doesn't know"):
        models.load_weights(models.build("resnet32"), path)


@pytest.mark.slow
@pytest.mark.skipif(not (WEIGHTS.is_dir() and CIFAR.is_dir()), reason="no shared weights or data")
def test_resnet20_accuracy_on_cifar10() -> None:
    model = models.build("resnet20")
    models.load_weights(model, WEIGHTS / "resnet20-cifar10-jpeg.safetensors")
    test = data.load_cifar10(path=CIFAR).test
    batches = data.Batches(test, 200, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert 100 * (1 - Task().evaluate(model, batches).error) == pytest.approx(88.4, abs=0.1)
