"""Criteria against references written out in loops, what they must not change, and what they refuse."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import explorer
from explorer.data.task import Task, regression
from explorer.pruning.criteria import CRITERIA, Options, Scores, cached_scores, score, scoring_batches
from explorer.pruning.patterns import make_masks
from explorer.pruning.ranking import Ranking
from explorer.pruning.surgery import Surgeon
from explorer.tracing import trace
from spaces import PATTERNS, Network, PruningError, PruningSpace, Recipe
from spaces.granularity import kept_steps
from tests.support.quick_runs import QUICK
from tests.support.small_models import Attention, Fn, cbr, conv, image, tokens

WEIGHTS = [name for name, row in CRITERIA.items() if not row.channels_only]
ONLY = [name for name, row in CRITERIA.items() if row.channels_only]
TASK = Task()


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def convolutions(groups: int) -> nn.Module:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return nn.Sequential(cbr(3, 8), cbr(8, 8, groups=groups, stride=2), cbr(8, 8), head)


def residual() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.head((x + m.b(m.a(x))).mean((2, 3)))

    return Fn(forward, stem=cbr(3, 6), a=cbr(6, 4), b=cbr(4, 6), head=nn.Linear(6, 3))


class Tokens(nn.Module):
    """A transformer's layer between layers that read and write tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block, self.head = nn.Linear(4, 8), Attention(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x)).mean(1))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "mlp": (mlp, lambda: torch.randn(7, 5, generator=torch.Generator().manual_seed(0))),
    "conv": (lambda: convolutions(1), lambda: image(batch=4)),
    "grouped": (lambda: convolutions(2), lambda: image(batch=4)),
    "depthwise": (lambda: convolutions(8), lambda: image(batch=4)),
    "residual": (residual, lambda: image(batch=4)),
    "attention": (Tokens, lambda: tokens(dim=4)),
}


def made(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Network, list[tuple[Tensor, Tensor]]]:
    """Return a model in eval mode with random parameters, its network and two batches of different sizes."""
    build, example = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().to(dtype).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, 0.3, 0.5)
    x = example().to(dtype)
    y = torch.arange(len(x)) % 3
    return model, trace(model, x[:1], verify=False), [(x, y), (x[:-1].flip(0) * 1.5, y[1:])]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _entries(network: Network, name: str, axis: int) -> list[tuple[tuple[str, int] | None, Callable[[Tensor], Tensor]]]:
    """Return for every entry of a dimension its unit and atom, and what takes its slice of a weight."""
    dim = network.tensor[name].dims[axis]
    places: list[tuple[str, int] | None] = []
    for run in dim.spans:
        for i in range(run.entries):
            places.append(None if run.unit is None else (run.unit, run.start + i // run.each))
    each = len(places) // dim.groups

    def taken(e: int) -> Callable[[Tensor], Tensor]:
        def take(weight: Tensor) -> Tensor:
            rows = len(weight) // dim.groups
            own = weight[e // each * rows : (e // each + 1) * rows] if dim.groups > 1 else weight
            return own.select(axis, e % each).flatten()

        return take

    return [(place, taken(e)) for e, place in enumerate(places)]


def _aggregated(
    network: Network, weights: dict[str, Tensor], norm: str = "l1", normalizer: str = "mean", reduction: str = "sum"
) -> dict[str, list[float]]:
    """Return the channel scores that follow from the scores of weights, by definition."""
    power = {"l1": 1, "l2": 2}[norm]
    divisors = {"mean": _mean, "max": max, "sum": sum, "none": lambda values: 1.0}
    members: dict[tuple[str, int], list[float]] = {}
    for name, scores in weights.items():
        for axis, dim in enumerate(network.tensor[name].dims):
            if not dim.units:
                continue
            sums: dict[tuple[str, int], float] = {}
            every = []
            for place, take in _entries(network, name, axis):
                total = sum(value**power for value in take(scores).tolist())
                every.append(total ** (1 / power))
                if place is not None:
                    sums[place] = sums.get(place, 0.0) + total
            for place, total in sums.items():
                members.setdefault(place, []).append(total ** (1 / power) / divisors[normalizer](every))
    reduce = {"sum": sum, "mean": _mean, "max": max, "prod": math.prod}[reduction]
    return {unit.name: [reduce(members[unit.name, i]) for i in range(unit.atoms)] for unit in network.units}


def _gradients(model: nn.Module, batches: Any) -> list[dict[str, Tensor]]:
    found = []
    for x, y in batches:
        own = copy.deepcopy(model)
        F.cross_entropy(own(x), y).backward()
        found.append({name: parameter.grad for name, parameter in own.named_parameters()})
    return found


def _by_entry(model: nn.Module, name: str, function: Callable[[float, tuple[int, ...]], float]) -> Tensor:
    """Return a tensor of the weight's shape made by a function of each entry and its place."""
    weight = model.get_parameter(name).detach()
    out = torch.zeros(weight.shape, dtype=torch.float64)
    for place in np.ndindex(*weight.shape):
        out[place] = function(weight[place].item(), place)
    return out


def _input_norms(model: nn.Module, batches: Any) -> dict[str, Tensor]:
    """Return the norm of what every weight is multiplied with, from inputs caught by hooks and unfolded."""
    squares: dict[str, Tensor] = {}

    def catch(name: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Tensor, ...]) -> None:
            if isinstance(module, nn.Linear):
                found = args[0].flatten(0, -2).square().sum(0).expand_as(module.weight)
            else:
                columns = F.unfold(args[0], module.kernel_size, padding=module.padding, stride=module.stride)
                rows = columns.square().sum((0, 2)).view(module.groups, 1, -1, *module.kernel_size)
                found = rows.expand(-1, len(module.weight) // module.groups, -1, -1, -1).flatten(0, 1)
            squares[name] = squares.get(name, 0) + found

        return hook

    handles = [
        module.register_forward_pre_hook(catch(f"{name}.weight"))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        for x, _ in batches:
            model(x)
    for handle in handles:
        handle.remove()
    return {name: value.sqrt() for name, value in squares.items()}


def weight_reference(criterion: str, model: nn.Module, network: Network, batches: Any) -> dict[str, Tensor]:
    names = [layer.weight for layer in network.layers]
    if criterion in ("l1", "l2"):
        return {name: _by_entry(model, name, lambda w, _: abs(w) if criterion == "l1" else w * w) for name in names}
    if criterion == "wanda":
        norms = _input_norms(model, batches)
        return {name: _by_entry(model, name, lambda w, i, n=name: abs(w) * norms[n][i].item()) for name in names}
    gradients = _gradients(model, batches)
    estimate = {"taylor": lambda wg: abs(wg), "obd": lambda wg: 0.5 * wg**2}[criterion]
    return {
        name: _by_entry(model, name, lambda w, i, n=name: _mean([estimate(w * g[n][i].item()) for g in gradients]))
        for name in names
    }


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("criterion", [name for name in WEIGHTS if name not in ("obs", "random")])
def test_scores_are_those_of_the_definition(criterion: str, name: str) -> None:
    model, network, batches = made(name)
    found = score(model, network, criterion, batches=batches, task=TASK)
    expected = weight_reference(criterion, model, network, batches)
    assert found.weights.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found.weights[key], value, rtol=1e-9, atol=1e-15)
    for unit, values in _aggregated(network, expected).items():
        torch.testing.assert_close(
            found.channels[unit], torch.tensor(values, dtype=torch.float64), rtol=1e-9, atol=1e-15
        )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_fpgm_sums_the_distances_to_the_others(name: str, norm: str) -> None:
    model, network, _ = made(name)
    power = {"l1": 1, "l2": 2}[norm]
    expected = {unit.name: [0.0] * unit.atoms for unit in network.units}
    for layer in network.layers:
        weight = model.get_parameter(layer.weight).detach()
        for axis, dim in enumerate(network.tensor[layer.weight].dims):
            entries = _entries(network, layer.weight, axis)
            each = len(entries) // dim.groups
            sums = [
                sum(
                    sum(abs(a - b) ** power for a, b in zip(take(weight).tolist(), other(weight).tolist(), strict=True))
                    ** (1 / power)
                    for _, other in entries[e // each * each : (e // each + 1) * each]
                )
                for e, (_, take) in enumerate(entries)
            ]
            for (place, _), value in zip(entries, sums, strict=True):
                if place is not None:
                    expected[place[0]][place[1]] += value / _mean(sums)
    found = score(model, network, {"name": "fpgm", "norm": norm}).channels
    for unit, values in expected.items():
        torch.testing.assert_close(found[unit], torch.tensor(values, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_norm_scales_are_summed_over_the_norms_of_a_unit() -> None:
    model, network, _ = made("residual")
    scales = [model.get_parameter(f"{name}.1.weight").detach().abs() for name in ("stem", "b")]
    found = score(model, network, "bn_scale").channels
    torch.testing.assert_close(found["stem.0"], sum(scale / scale.mean() for scale in scales))
    # nothing scales the channels between these layers
    plain, bare = nn.Sequential(cbr(3, 4), conv(4, 5), nn.ReLU(), conv(5, 2)), image()
    network = trace(plain, bare[:1], verify=False)
    found, magnitudes = (score(plain, network, name).channels for name in ("bn_scale", "l1"))
    assert torch.equal(found["1"], magnitudes["1"])
    assert torch.equal(found["0.0"], torch.ones(4).double())


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("normalizer", ["mean", "max", "sum", "none"])
@pytest.mark.parametrize("reduction", ["sum", "mean", "max", "prod"])
def test_aggregation_is_that_of_the_definition(norm: str, normalizer: str, reduction: str) -> None:
    options = {"norm": norm, "normalizer": normalizer, "reduction": reduction}
    for name in ("residual", "attention", "grouped"):
        model, network, _ = made(name)
        weights = {layer.weight: model.get_parameter(layer.weight).detach().abs() for layer in network.layers}
        found = score(model, network, {"name": "l1", **options}).channels
        for unit, values in _aggregated(network, weights, **options).items():
            torch.testing.assert_close(found[unit], torch.tensor(values, dtype=torch.float64), rtol=1e-9, atol=0)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([name for name in CRITERIA if name != "random"]),
    st.permutations(range(8)),
    st.sampled_from(["mlp", "conv"]),
)
def test_permuted_channels_have_permuted_scores(criterion: str, order: list[int], name: str) -> None:
    if criterion == "bn_scale" and name == "mlp":
        return
    model, network, batches = made(name)
    before = score(model, network, criterion, batches=batches, task=TASK)
    written, read, unit = {"mlp": ("0.", "2.weight", "0"), "conv": ("0.", "1.0.weight", "0.0")}[name]
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.startswith(written) and tensor.dim():
                tensor.copy_(tensor[order])
            elif key == read:
                tensor.copy_(tensor[:, order])
    after = score(model, network, criterion, batches=batches, task=TASK)
    torch.testing.assert_close(after.channels[unit], before.channels[unit][order], rtol=1e-6, atol=1e-9)
    if before.weights:
        torch.testing.assert_close(after.weights[read], before.weights[read][:, order], rtol=1e-6, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["l1", "l2", "fpgm", "wanda"]), st.floats(0.01, 100), st.integers(0, 2))
def test_the_scale_of_a_layer_changes_no_channel_score(criterion: str, scale: float, layer: int) -> None:
    model, network, batches = made("mlp")
    with torch.no_grad():
        for linear in model[::2]:
            # what follows a layer without a bias scales with it
            linear.bias.zero_()
    before = score(model, network, criterion, batches=batches).channels
    with torch.no_grad():
        model[2 * layer].weight.mul_(scale)
    after = score(model, network, criterion, batches=batches).channels
    for unit, values in before.items():
        torch.testing.assert_close(after[unit], values, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_model_is_left_as_it_was(criterion: str) -> None:
    model, network, batches = made("conv", torch.float32)
    expected = score(model, network, criterion, batches=batches, task=TASK)
    model.train()
    model[1].eval()
    model[0].requires_grad_(False)
    model[2][0].weight.grad = torch.ones_like(model[2][0].weight)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    drawn = torch.get_rng_state()
    with torch.inference_mode():
        again = score(model, network, criterion, batches=batches, task=TASK)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == [
        not n.startswith("0.") for n, _ in model.named_parameters()
    ]
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["2.0.weight"]
    assert torch.equal(model[2][0].weight.grad, torch.ones_like(model[2][0].weight))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert same(expected, again)


def same(first: Scores, second: Scores) -> bool:
    return all(
        a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())
        for a, b in ((first.weights, second.weights), (first.channels, second.channels))
    )


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_layout_in_memory_changes_nothing(criterion: str) -> None:
    model, network, batches = made("grouped")
    expected = score(model, network, criterion, batches=batches, task=TASK)
    model = model.to(memory_format=torch.channels_last)
    turned = [(x.contiguous(memory_format=torch.channels_last), y) for x, y in batches]
    found = score(model, network, criterion, batches=turned, task=TASK)
    for before, after in ((expected.weights, found.weights), (expected.channels, found.channels)):
        for name, values in before.items():
            torch.testing.assert_close(after[name], values, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("criterion", ["taylor", "obd", "wanda"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_everything_frozen_and_half_precision_are_scored(criterion: str, dtype: torch.dtype) -> None:
    model, network, batches = made("conv", dtype)
    frozen = copy.deepcopy(model).requires_grad_(False)
    first, second = (score(m, network, criterion, batches=batches, task=TASK) for m in (model, frozen))
    assert same(first, second)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(values.dtype == torch.float32 and values.any() for values in first.weights.values())


@pytest.mark.parametrize("criterion", [name for name in CRITERIA if name not in ("bn_scale", "random")])
def test_shared_and_fused_weights_are_scored(criterion: str) -> None:
    """A layer used twice is scored by both uses; torch's own attention has one weight for all projections."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(11, 8)
            self.norm = nn.LayerNorm(8)
            self.own, self.cross = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
            self.up, self.twice, self.down = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.embed(x))
            x = x + self.own(x, x, x, need_weights=False)[0]
            x = x + self.cross(x[:, :2], x, x, need_weights=False)[0].mean(1, keepdim=True)
            return self.down(self.twice(F.relu(self.twice(F.relu(self.up(x.mean(1)))))))

    torch.manual_seed(0)
    model = Both().eval()
    x, y = torch.randint(11, (4, 5)), torch.tensor([0, 1, 2, 0])
    network = trace(model, x[:1], verify=False)
    assert "cross.in_proj_weight" not in {layer.weight for layer in network.layers}
    heads = [unit for unit in network.units if unit.tied > 1]
    assert len(heads) == 2
    found = score(model, network, criterion, batches=[(x, y)], task=TASK)
    for unit in network.units:
        assert (found.channels[unit.name] > 0).all(), unit.name
    if criterion == "wanda":
        inner = F.relu(model.up(_before_up(model, x)))
        outer = F.relu(model.twice(inner))
        norms = (inner.square().sum(0) + outer.square().sum(0)).sqrt()
        torch.testing.assert_close(found.weights["twice.weight"], model.twice.weight.detach().abs() * norms.detach())


def _before_up(model: Any, x: Tensor) -> Tensor:
    caught: list[Tensor] = []
    handle = model.up.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    model(x)
    handle.remove()
    return caught[0]


@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2, "padding": 1}, {"groups": 4, "stride": 2}])
def test_wanda_follows_transposed_convolutions(options: dict[str, int]) -> None:
    """Outputs are linear in every weight: the derivative of their sum for squared inputs is what is summed."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 4, 3, bias=False, **options)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), layer, nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    x = image().double()
    network = trace(model, x[:1], verify=False)
    found = score(model, network, "wanda", batches=[(x, None)]).weights
    inputs = model[0](x).detach().square()
    again = copy.deepcopy(layer)
    again(inputs).sum().backward()
    torch.testing.assert_close(found["1.weight"], layer.weight.detach().abs() * again.weight.grad.sqrt())


@pytest.mark.parametrize("criterion", WEIGHTS)
@pytest.mark.parametrize("granularity", PATTERNS)
def test_every_criterion_fills_every_pattern(criterion: str, granularity: str) -> None:
    model, network, batches = made("conv")
    sizes = {"block": {"height": 4, "width": 4}} | {name: {"width": 4} for name in PATTERNS if name.startswith("tile")}
    choice: dict[str, Any] = {"granularity": granularity, **sizes.get(granularity, {})}
    choice |= {"n": 1, "m": 4} if granularity == "vector" else {"ratios": [0.25]}
    space = {"weights": [{"match": "1.0", "choices": [choice]}]}
    recipe = PruningSpace.from_config(network, space)[0]
    recipe = Recipe.of({"0.0": 0.5}, dict(recipe.weights))
    scores = score(model, network, criterion, batches=batches, task=TASK)
    surgeon = Surgeon(model, network)
    kept = Ranking(network, scores.channels).kept(recipe)
    (_, mask), entries = make_masks(surgeon, recipe, kept, scores.weights)["1.0"], 8 * 4 * 9
    count = int(mask.keep.count_nonzero())
    largest = {"block": 16, "tile": 4, "tile_vector": 4}.get(granularity, 0)
    assert mask.keep.numel() == entries
    if mask.base is not None and granularity == "tile_vector":
        # the tile mask has the ratio, and of its compacted columns each keeps 2 of 4, of a tail half rounded up
        rows = mask.base.sum(1).flatten()
        assert abs(int(rows.sum()) - entries / 2) <= largest / 2
        assert count == int((rows // 4 * 2 + (rows % 4 + 1) // 2).sum())
    else:
        assert abs(count - entries / 4) <= largest / 2
    # by the scores of what is left, not of what was there
    if granularity == "element":
        left = scores.weights["1.0.weight"][:, kept["0.0"]]
        assert count == kept_steps(0.25, entries)
        assert left.flatten().topk(count).values.sum() == pytest.approx(
            float(left.permute(2, 3, 1, 0).reshape(1, -1, 8)[mask.keep].sum())
        )


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_ranks_channels(criterion: str) -> None:
    model, network, batches = made("grouped")
    scores = score(model, network, criterion, batches=batches, task=TASK)
    assert {name: values.dtype for name, values in scores.channels.items()} == {
        unit.name: torch.float64 for unit in network.units
    }
    kept = Ranking(network, scores.channels).kept(Recipe.of({unit.name: 0.5 for unit in network.units}))
    for name, atoms in kept.items():
        unit = network.unit[name]
        assert len(atoms) == kept_steps(0.5, unit.steps) * unit.groups
        for group in scores.channels[name].view(unit.groups, -1).unbind():
            best = group.topk(len(atoms) // unit.groups).values.sum()
            assert float(best) <= float(scores.channels[name][atoms].sum()) + 1e-12


def test_chance_is_reproducible_and_the_seed_alone() -> None:
    model, network, _ = made("conv")
    first = score(model, network, "random")
    assert same(first, score(model, network, {"name": "random", "seed": 0}))
    other = score(model, network, {"name": "random", "seed": 1})
    assert all((first.channels[name] != other.channels[name]).all() for name in first.channels)
    with torch.no_grad():
        model[0][0].weight.zero_()
    assert same(first, score(model, network, "random"))


def detached() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = m.body(x)
        return m.head(x)

    return Fn(forward, body=nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6)), head=nn.Linear(6, 3))


class _Silent(nn.Sequential):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def _raising(predictions: Tensor, targets: Tensor) -> Tensor:
    raise ValueError("two\nlines")


BATCHES = made("mlp", torch.float32)[2]
HUGE = [(x * 1e30, y) for x, y in BATCHES]
REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, dict[str, Any], str]] = {
    "unknown": (mlp, "tylor", {}, "criterion: 'tylor' is unknown, did you mean 'taylor'"),
    "no name": (mlp, {"norm": "l1"}, {}, "criterion: 'None' is unknown"),
    "no mapping": (mlp, 3, {}, "criterion: '3' is unknown"),
    "a list": (mlp, ["l1"], {}, "criterion: \"['l1']\" is unknown"),
    "option": (mlp, {"name": "l1", "nrom": "l2"}, {}, "criterion: 'nrom' is unknown, did you mean 'norm'"),
    "option of another": (mlp, {"name": "l1", "seed": 1}, {}, "criterion: 'seed' is unknown"),
    "norm": (mlp, {"name": "l1", "norm": "l3"}, {}, "criterion.norm: 'l3' is unknown, did you mean 'l"),
    "reduction": (mlp, {"name": "l1", "reduction": "min"}, {}, "criterion.reduction: 'min' is unknown"),
    "batches": (mlp, {"name": "obd", "batches": 0}, {}, "criterion.batches: 0, allowed is a whole number >= 1"),
    "seed": (mlp, {"name": "obd", "seed": True}, {}, "criterion.seed: True, allowed is a whole number >= 0"),
    "no data": (mlp, "wanda", {"batches": []}, "criterion: wanda needs activations, and there are no training batches"),
    "no task": (mlp, "taylor", {"task": None}, "criterion: taylor needs gradients, and there is no task"),
    "no gradient": (
        lambda: _Silent(*mlp()),
        "obd",
        {},
        "criterion: obd can't score 0.weight and 2 more (the loss",
    ),
    "detached": (detached, "taylor", {}, "criterion: taylor can't score body.0.weight and 1 more (the loss does not"),
    "loss": (mlp, "taylor", {"task": Task(_raising)}, "criterion: taylor: the loss's gradient raised ValueError (two)"),
    "regression of classes": (mlp, "taylor", {"task": regression()}, "criterion: taylor: the loss's gradient raised"),
    "inputs": (mlp, "wanda", {"batches": [(torch.zeros(2, 9), None)]}, "criterion: wanda: forward raised RuntimeError"),
    "infinite": (mlp, "obd", {"batches": HUGE}, "criterion: obd scores 0.weight from "),
    "no norm": (mlp, "bn_scale", {}, "criterion: bn_scale needs norms with scales"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_one_line(name: str) -> None:
    build, criterion, options, message = REFUSED[name]
    torch.manual_seed(0)
    model = build()
    network = trace(model, BATCHES[0][0][:1], verify=False)
    with pytest.raises(PruningError) as caught:
        score(model, network, criterion, **{"batches": BATCHES, "task": TASK, **options})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_weights_of_inference_mode_have_no_gradients() -> None:
    with torch.inference_mode():
        model = mlp()
    network, batches = trace(model, torch.zeros(1, 5)), [(torch.randn(4, 5), torch.arange(4) % 3)]
    with pytest.raises(PruningError, match="criterion: obd needs gradients, which weights made in inference mode"):
        score(model, network, "obd", batches=batches, task=TASK)
    assert score(model, network, "wanda", batches=batches).channels


def test_a_weight_without_influence_is_scored_0(caplog: pytest.LogCaptureFixture) -> None:
    def forward(m: Any, x: Tensor) -> Any:
        x = F.relu(m.a(x))
        return m.head(x), m.other(x)

    model = Fn(forward, a=nn.Linear(5, 8), head=nn.Linear(8, 3), other=nn.Linear(8, 3))
    network = trace(model, BATCHES[0][0][:1], verify=False)
    found = score(model, network, "taylor", batches=BATCHES, task=TASK)
    assert not found.weights["other.weight"].any()
    assert found.weights["head.weight"].any()
    assert "other.weight" in caplog.text


@pytest.mark.parametrize("criterion", ONLY)
def test_channels_only_refuses_patterns(criterion: str) -> None:
    model, network, batches = made("conv")
    scores = score(model, network, criterion)
    assert not scores.weights
    space = {"weights": [{"match": "*", "choices": [{"granularity": "element", "ratios": [0.5]}]}]}
    bound = PruningSpace.from_config(network, space)
    message = f"criterion: '{criterion}' scores channels only.*allowed .* l1, l2, "
    for pruned in (space, bound):
        with pytest.raises(PruningError, match=message):
            Options.of(criterion).check(pruned)
    with pytest.raises(PruningError, match="criterion: it scores channels only"):
        make_masks(Surgeon(model, network), bound[0], {}, scores.weights)
    with pytest.raises(PruningError, match=message):
        explorer.explore(model, batches, batches, space=space, criterion=criterion)


@pytest.mark.parametrize("criterion", ["taylor", "wanda"])
def test_a_cached_score_is_the_fresh_one(criterion: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, network, batches = made("conv", torch.float32)

    def cached(**changed: Any) -> Scores:
        given = {"options": Options.of(criterion), "batches": batches, "task": TASK, **changed}
        return cached_scores(given.pop("model", model), network, given.pop("options"), folder=tmp_path, **given)

    def files() -> list[Path]:
        return sorted(tmp_path.glob("scores-*.safetensors"))

    fresh = score(model, network, criterion, batches=batches, task=TASK)
    assert same(cached(), fresh)
    (path,) = files()
    stamp = path.stat().st_mtime_ns
    assert same(cached(), fresh)
    assert path.stat().st_mtime_ns == stamp
    whole = path.read_bytes()
    for torn in (whole[:-7], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        path.write_bytes(torn)
        caplog.clear()
        assert same(cached(), fresh)
        assert "computed again" in caplog.text
        assert path.read_bytes() == whole
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0][0].weight[0, 0, 0, 0] += 1
    for changed in (
        {"model": other},
        {"batches": batches[:1]},
        {"options": Options.of({"name": criterion, "norm": "l2"})},
        {"options": Options.of({"name": criterion, "seed": 1})},
    ):
        count = len(files())
        cached(**changed)
        assert len(files()) == count + 1
    # what a lambda or a function inside another one does has no name, even where a decorator gives it one
    count = len(files())
    cached(task=Task(functools.wraps(F.cross_entropy)(lambda a, b: F.cross_entropy(a, b))))
    assert len(files()) == count
    count = len(files())
    cached(task=Task(lambda a, b: F.cross_entropy(a, b)))
    assert len(files()) == count


def half(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return 0.5 * F.cross_entropy(logits, labels)


def test_a_loss_that_was_rewritten_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, network, batches = made("conv", torch.float32)

    def cached() -> Scores:
        given = {"batches": batches, "task": Task(half), "folder": tmp_path}
        return cached_scores(model, network, Options.of({"name": "taylor", "normalizer": "none"}), **given)

    first = cached()
    # as if it was edited between two runs
    monkeypatch.setattr(half, "__code__", (lambda logits, labels: 2.0 * F.cross_entropy(logits, labels)).__code__)
    for name, values in cached().weights.items():
        torch.testing.assert_close(values, 4 * first.weights[name])


def test_batches_of_other_seeds_are_others() -> None:
    loader = [(torch.full((2, 3), float(i)), torch.zeros(2, dtype=torch.int64)) for i in range(20)]

    def numbers(**options: Any) -> list[int]:
        return [int(x[0, 0]) for x, _ in scoring_batches(loader, Options.of({"name": "obd", "batches": 4, **options}))]

    assert numbers() == [0, 1, 2, 3]
    assert numbers(seed=1) == numbers(seed=1)
    assert len({tuple(numbers(seed=seed)) for seed in range(4)}) == 4
    assert sorted(numbers(seed=3, batches=99)) == list(range(20))
    assert scoring_batches(loader, Options.of("l1")) == []

    class Endless:
        def __iter__(self) -> Any:
            while True:
                yield from loader

    assert len(scoring_batches(Endless(), Options.of("obd"))) == 10
    with pytest.raises(PruningError, match=r"criterion.seed: 1 draws .* Endless has no length; allowed is 0"):
        scoring_batches(Endless(), Options.of({"name": "obd", "seed": 1}))


@pytest.mark.parametrize("criterion", [*CRITERIA, {"name": "taylor", "batches": 1, "seed": 2}])
def test_a_study_takes_any_criterion(criterion: Any) -> None:
    model, _, batches = made("conv", torch.float32)
    space = {"channels": [{"match": "*", "choices": [{"granularity": "filter", "ratios": [1, 0.5]}]}]}
    study = explorer.explore(model, batches, batches, space=space, criterion=criterion, trials=2, ladder=0)
    assert len(study.trials) == 2


MISTAKES = {
    "pattern": (["criterion=fpgm", "space=tile"], "criterion: 'fpgm' scores channels only, and the space has patterns"),
    "misspelt": (["criterion=tailor"], "criterion: 'tailor' is unknown, did you mean 'taylor'"),
    "norm": (["criterion.norm=l0"], "criterion.norm: 'l0' is unknown"),
    "batches": (["criterion=wanda", "criterion.batches=none"], "criterion.batches: 'none', allowed is a whole number"),
    "seed": (["criterion=l1", "criterion.seed=1"], "key: 'criterion.seed' is one of criterion="),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_on_the_command_line_is_one_line(name: str, explore: Any) -> None:
    arguments, message = MISTAKES[name]
    code, _, err = explore("run", *arguments)
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err


@pytest.mark.slow
def test_the_jobs_of_a_sweep_share_their_scores(explore: Any, folder: Path) -> None:
    quick = [*QUICK, "trials=2", "ladder=0", "criterion.batches=2"]
    code, _, err = explore("run", "-m", "criterion=taylor", "sampler=random,qmc", *quick)
    assert code == 0, err
    cache = folder / "results" / ".cache"
    assert len(list(cache.glob("scores-*.safetensors"))) == 1
    for number, other in enumerate(("criterion.seed=1", "seed=2"), start=2):
        code, _, err = explore("run", "criterion=taylor", other, *quick)
        assert code == 0, err
        assert len(list(cache.glob("scores-*.safetensors"))) == number
