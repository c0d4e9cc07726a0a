"""Networks of torchvision, timm and transformers: traced, verified, built, run, equal to the masked ones, counted."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from explorer import models
from explorer.analysis.facts import prunable_share
from explorer.bench.zoo import built, chosen, listed, traced
from explorer.pruning.surgery import Surgeon
from explorer.pruning.surgery.skeleton import copied
from explorer.pruning.surgery.window_attention import SmallerWindowAttention
from explorer.tracing import trace
from explorer.tracing.returned import counting
from explorer.tracing.tape import tensors_in
from explorer.tracing.verification.check import Check
from explorer.tracing.verification.comparison import difference
from explorer.tracing.verification.masking import masked
from explorer.utils.modules import run
from spaces import Network, PruningError, Recipe, costs_of
from tests.support import foreign
from tests.support.identities import counted, random_kept, random_recipe
from tests.support.snapshots import changed, snapshot

_DECLARED = None if foreign.missing("torchvision") else foreign.declare_operators()
ZOO = listed()
FAST = [
    ("torchvision", "mobilenet_v3_small"),
    ("torchvision", "regnet_y_400mf"),
    ("torchvision", "shufflenet_v2_x0_5"),
    ("torchvision", "squeezenet1_1"),
    ("timm", "convnextv2_atto"),
    ("timm", "ghostnet_050"),
    ("timm", "tinynet_e"),
    ("transformers", "bert"),
    ("transformers", "distilbert"),
    ("transformers", "vit"),
    ("kinds", "segformer"),
    ("kinds", "wav2vec2"),
    ("kinds", "llama_lm"),
    ("kinds", "mixtral"),
    ("kinds", "t5"),
]
# most of whose FLOPs are where the model's code divides the width by the number of heads, or standardises the weights
FEW = {
    "davit_tiny": 0.35,
    "deberta-v2": 0.4,
    "nest_tiny": 0.45,
    "timesformer": 0.35,
    "nfnet_l0": 0.0,
    "twins_svt_small": 0.4,
}
# which expert a row is sent to, and so what is multiplied, depends on the weights that are left
ROUTED = ("switch_transformers",)


def _missing(library: str) -> bool:
    return any(map(foreign.missing, ("torchvision", "transformers") if library == "kinds" else (library,)))


def _cases(names: list[tuple[str, str]], *marks: pytest.MarkDecorator) -> list[Any]:
    return [
        pytest.param(library, name, marks=[*marks, pytest.mark.skipif(_missing(library), reason=f"no {library}")])
        for library, name in names
    ]


EVERY = [(library, name) for library, entries in ZOO.items() for name in entries if (library, name) not in FAST]


@pytest.mark.parametrize(("library", "name"), [*_cases(FAST), *_cases(EVERY, pytest.mark.slow)])
def test_traced_built_and_run(library: str, name: str) -> None:
    entry = ZOO[library][name]
    model, example = built(library, name, entry)
    outputs = entry.get("outputs")
    before = snapshot(model)
    network = trace(model, example, outputs=outputs)
    assert not changed(before, snapshot(model))
    assert prunable_share(network) >= FEW.get(name, 0.5)
    large = sum(parameter.numel() for parameter in model.parameters()) > 1e8
    rng = np.random.default_rng(0)
    _check_costs(model, network, example, Recipe(), {}, [])
    for _ in range(1 if large else 2):
        recipe = random_recipe(network, rng)
        kept = random_kept(network, recipe, rng)
        blocks = [block.name for block in network.blocks if rng.random() < 0.3]
        if name in ROUTED:
            small = Surgeon(model, network).build(kept, blocks)
        else:
            small = _check_costs(model, network, example, recipe, kept, blocks)
    _check_masked(model, network, example, outputs)
    _check_runs(model, small, Surgeon(model, network).build(kept, blocks), example, outputs)
    _check_generates(small, example)
    _check_trains(model, small, example, outputs)


def _check_costs(
    model: nn.Module, network: Network, example: Any, recipe: Recipe, kept: Any, blocks: list[str]
) -> nn.Module:
    """Check the formula against the built module, which is returned."""
    small = Surgeon(model, network).build(kept, blocks)
    asked = Recipe.of(dict(recipe.channels), blocks=blocks).canonical(network)
    assert costs_of(network, asked) == counted(small, example, network.context if network.caches else None)
    return small


def _check_masked(model: nn.Module, network: Network, example: Any, outputs: Any) -> None:
    """Check sliced against masked networks, with random parameters and other subsets than verification had."""
    if not network.units and not network.blocks:
        return
    check, rng = Check(model, network, [example], outputs), np.random.default_rng(1)
    for gain in range(4):
        kept = random_kept(network, random_recipe(network, rng), rng)
        blocks = [block.name for block in network.blocks if rng.random() < 0.3]
        dense = masked(check.model, network, kept, blocks)
        expected, got = check.run(dense), check.run(check.surgeon.build(kept, blocks))
        assert len(expected) == len(got) > 0
        differences = [difference(a, b) for a, b in zip(expected, got, strict=True)]
        if max(differences) <= check.tolerance:
            return
        # a network that multiplies rounding errors is tried with smaller weights
        assert check.calmed(expected, dense), (gain, differences)
    raise AssertionError("no weights are small enough")


def _outputs(model: nn.Module, example: Any, outputs: Any) -> list[Tensor]:
    """Return the tensors that are used of what a model makes of its own copy of an example."""
    return tensors_in(counting(run(model, tree_map(torch.clone, example)), outputs))


def _check_runs(dense: nn.Module, small: nn.Module, other: nn.Module, example: Any, outputs: Any) -> None:
    """Check that a sub-network is copied, that its state loads, and that it exports where the dense network does."""
    small.eval()
    with torch.no_grad():
        expected = _outputs(small, example, outputs)
    for tensor in other.state_dict().values():
        if tensor.is_floating_point():
            tensor.zero_()
    other.load_state_dict(small.state_dict(), strict=True)
    for same in (other.eval(), copied(small)):
        with torch.no_grad():
            for a, b in zip(expected, _outputs(same, example, outputs), strict=True):
                torch.testing.assert_close(a, b, equal_nan=True)
    exported = _exported(small, example, dense)
    if exported is not None:
        with torch.no_grad():
            got = _outputs(exported, example, outputs)
        for a, b in zip(expected, got, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)
    _check_gradients(small, example, outputs)


def _check_gradients(model: nn.Module, example: Any, outputs: Any) -> None:
    model.zero_grad()
    _outputs(model, example, outputs)[0].square().sum().backward()
    assert any(p.grad is not None for p in model.parameters())


def _check_trains(dense: nn.Module, small: nn.Module, example: Any, outputs: Any) -> None:
    """Check that a sub-network runs forward and backward in training mode, where the dense network does."""
    try:
        with torch.random.fork_rng(devices=[]):
            _check_gradients(dense.train(), example, outputs)
    except Exception:
        # such as a norm over a batch of one value
        return
    finally:
        dense.eval()
    with torch.random.fork_rng(devices=[]):
        _check_gradients(small.train(), example, outputs)


def _check_generates(small: Any, example: Any) -> None:
    """Check that a language model continues a text by the same tokens with a cache and without."""
    if not getattr(small, "can_generate", lambda: False)():
        return
    # so that no two tokens are as good; torch's grouped products know no doubles
    routed = any(type(part).__name__.endswith("Experts") for part in small.modules())
    twin = copied(small).to(torch.float32 if routed else torch.float64).eval()
    inputs = example if isinstance(example, dict) else {"input_ids": example}
    inputs = {key: value.to(twin.dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    found = [twin.generate(**inputs, max_new_tokens=6, do_sample=False, use_cache=cache) for cache in (True, False)]
    assert torch.equal(*found)


def _exported(small: nn.Module, example: Any, dense: nn.Module) -> Any:
    """Return the exported program as a module; None where the dense network, of another kind, has none."""
    keywords = example if isinstance(example, dict) else {}
    inputs = tree_map(torch.clone, () if keywords else (example,)), tree_map(torch.clone, keywords)
    try:
        return torch.export.export(small, *inputs, strict=False).module()
    except Exception:
        assert keywords
        with pytest.raises(Exception):  # noqa: B017, PT011
            torch.export.export(dense, *inputs, strict=False)
        return None


def test_the_lists() -> None:
    assert len(ZOO["torchvision"]) == 80
    assert len(ZOO["timm"]) >= 60
    assert len(ZOO["transformers"]) >= 10
    assert len(ZOO["kinds"]) >= 50
    assert chosen({"libraries": ["timm"], "models": ["tinynet_e"]}) == [("timm", "tinynet_e", {"image": 64})]
    if not foreign.missing("torchvision"):
        import torchvision

        assert set(ZOO["torchvision"]) == set(torchvision.models.list_models(module=torchvision.models))


@pytest.mark.skipif(foreign.missing("torchvision"), reason="no torchvision")
def test_what_does_not_run_in_eval_mode_is_listed() -> None:
    model, example = built("torchvision", "googlenet", ZOO["torchvision"]["googlenet"])
    idle = [entry.name for entry in trace(model, example).fixed if entry.reason == "did not run in eval mode"]
    assert {name.partition(".")[0] for name in idle} == {"aux1", "aux2"}


@pytest.mark.skipif(foreign.missing("torchvision"), reason="no torchvision")
@pytest.mark.parametrize("size", [8, 13, 16, 21])
@pytest.mark.parametrize("version", ["", "V2"])
def test_windows_are_torchvisions(version: str, size: int) -> None:
    from torchvision.models import swin_transformer

    torch.manual_seed(0)
    kind = getattr(swin_transformer, f"ShiftedWindowAttention{version}")
    dense = kind(24, [8, 8], [4, 4], 3, attention_dropout=0.1, dropout=0.1).double().eval()
    for parameter in dense.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, size, size + 3, 24, dtype=torch.float64)
    expected = dense(x)
    dense.__class__ = SmallerWindowAttention
    torch.testing.assert_close(dense(x), expected)
    torch.manual_seed(1)
    dropped = dense.train()(x)
    dense.__class__ = kind
    torch.manual_seed(1)
    torch.testing.assert_close(dropped, dense(x))


def test_a_problem_is_a_row() -> None:
    row = traced("timm", "no such model", {"image": 32})
    assert row.problem.startswith("PruningError: model")
    assert (row.units, row.blocks, row.share) == (0, 0, 0)


@pytest.mark.skipif(foreign.missing("transformers"), reason="no transformers")
def test_a_folder_with_a_configuration(tmp_path: Path) -> None:
    values = {**ZOO["transformers"]["distilbert"]["config"], "model_type": "distilbert"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    model = models.transformers(architecture=str(tmp_path), num_classes=3, config={"n_layers": 1})
    model.save_pretrained(tmp_path)
    assert len(model.distilbert.transformer.layer) == 1
    assert model(torch.ones(2, 5, dtype=torch.int64)).logits.shape == (2, 3)
    again = models.transformers(architecture=str(tmp_path), num_classes=3, pretrained=True)
    for one, other in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(PruningError, match=r"model\.weights: .*can't be read"):
        models.transformers(architecture=str(tmp_path), num_classes=4, pretrained=True)


@pytest.mark.parametrize(
    ("library", "options", "message"),
    [
        ("torchvision", {"architecture": "resnet51"}, "'resnet51' is unknown, did you mean 'resnet"),
        ("torchvision", {"architecture": "resnet18", "in_channels": 1}, "reads 3 channels, the data has 1"),
        ("timm", {"architecture": "convnext_ato"}, "did you mean 'convnext_atto'"),
        ("transformers", {"architecture": "distillbert"}, "did you mean 'distilbert'"),
        ("transformers", {"architecture": "timesformer"}, "classifies neither images nor text"),
        ("transformers", {"architecture": "bert", "config": {"hiden_size": 8}}, "did you mean 'hidden_size'"),
        ("transformers", {"architecture": "bert", "pretrained": True}, "'bert' has no weights"),
    ],
)
def test_mistakes_are_one_line(library: str, options: dict[str, Any], message: str) -> None:
    if foreign.missing(library):
        pytest.skip(f"no {library}")
    with pytest.raises(PruningError, match=re.escape(message)) as caught:
        getattr(models, library)(**options)
    assert str(caught.value).startswith("model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", foreign.LIBRARIES)
def test_a_missing_library_is_one_line(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Without(library), *sys.meta_path])
    with pytest.raises(PruningError, match=f"{library} is not installed, pip install {library}"):
        getattr(models, library)(architecture="resnet18")


class _Without:
    """Finds no module of one package."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.package)
