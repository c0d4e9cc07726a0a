"""Candidates from a small trained network: evaluated, exported, and back in a fresh process."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import explorer
from explorer.data import Batches, load_digits
from explorer.data.task import Task
from explorer.evaluation.settings import Settings
from explorer.evaluation.training import reestimate_bn, train
from explorer.models import MODELS, build
from explorer.pruning.criteria import score
from explorer.pruning.ranking import Ranking
from explorer.pruning.surgery import ChannelSlice, Surgeon
from explorer.search.jobs import Job
from explorer.tracing import trace
from spaces import PruningError, PruningSpace, Recipe
from tests.support.identities import fresh
from tests.support.synthetic import config

EIGHTHS = config([i / 8 for i in range(1, 9)])


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    train_batches, validation = (
        list(Batches(split, 100, mean=data.mean, std=data.std)) for split in (data.train, data.validation)
    )
    torch.manual_seed(0)
    model = build("resnet_digits")
    train(model, train_batches, task=Task(), epochs=3, settings=Settings())
    return model, train_batches, validation


@pytest.fixture(scope="module")
def study(digits):
    model, train_batches, validation = digits
    return explorer.explore(
        model, train_batches, validation, budget={"flops": 0.6}, trials=12, ladder=4, evaluator="inherit"
    )


def test_the_python_entrance_gives_trials_frontier_best_and_plot(study):
    assert len(study.trials) == 12
    assert (study.trials["flops_ratio"] <= 0.6).all()
    assert 1 <= len(study.frontier) <= 12
    assert 0 < study.hypervolume < 0.9
    best = study.best(flops=0.5)
    assert best.metrics["error"] == study.frontier.query("flops_ratio <= .5")["error"].min()
    assert study.plot(x="params").axes
    assert len(repr(study)) < 200
    assert repr(best).startswith("<Candidate: error ")
    with pytest.raises(PruningError, match="x: 'flop' is unknown, did you mean 'flops'"):
        study.plot(x="flop")
    assert study.plot("hypervolume").axes[0].get_ylabel() == "hypervolume"
    assert study.plot("ratios").axes
    assert best.plot().axes[0].get_yticklabels()[0].get_text() == "conv1"
    with pytest.raises(PruningError, match="figure: rungs needs recipes"):
        study.plot("rungs")
    with pytest.raises(PruningError, match="figure: 'pareto' is unknown"):
        study.plot("pareto")


def test_notebooks_show_studies_sub_networks_and_networks_as_tables(study):
    best = study.best()
    assert study._repr_html_().count("<tr") == 1 + len(study.frontier)
    assert f"{100 * best.metrics['error']:.2f}" in study._repr_html_()
    network = study.problem.space.network
    assert best._repr_html_().count("<tr") == network._repr_html_().count("<tr") == 1 + len(network.layers)


def test_what_is_reported_is_what_the_built_module_does(study, digits):
    _, train_batches, validation = digits
    best = study.best()
    module = best.build()
    assert type(module) is type(digits[0])
    assert Task().evaluate(module, validation).error == best.metrics["error"]
    assert sum(p.numel() for p in module.parameters()) == best.metrics["params"]
    again = study.problem.evaluator(Job(-1, best.recipe))
    assert again["error"] == best.metrics["error"]
    reestimate_bn(module, train_batches[:10])
    assert Task().evaluate(module, validation).error == best.metrics["error"]


def test_the_model_is_not_changed(digits):
    model, train_batches, validation = digits
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explorer.explore(model, train_batches, validation, trials=3, ladder=0)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2", "vgg16_bn"])
def test_export_and_load_in_a_fresh_process(tmp_path, name):
    model = fresh(build(name), torch.float32)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = trace(model, x[:1], verify=False)
    space = PruningSpace.from_config(network, EIGHTHS)
    recipe = space.recipe(space.sample(1, np.random.default_rng(0))[0])
    small = Surgeon(model, network).build(Ranking(network, score(model, network).channels).kept(recipe))
    folder = tmp_path / "export"
    explorer.save(small, recipe, network, folder, factory=f"explorer.models.{name}", arguments={"num_classes": 10})
    torch.save({"x": x, "y": small.eval()(x).detach()}, tmp_path / "io.pt")
    code = f"""
import torch, explorer
module = explorer.load({str(folder)!r})
io = torch.load({str(tmp_path / "io.pt")!r}, weights_only=True)
torch.set_num_threads(1)
torch.testing.assert_close(module(io["x"]), io["y"], rtol=1e-5, atol=1e-5)
assert type(module).__module__.startswith("explorer.models")
assert sum(p.numel() for p in module.parameters()) == {sum(p.numel() for p in small.parameters())}
module.train()(io["x"]).sum().backward()
assert all(p.grad is not None for p in module.parameters())
print("same")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr
    assert Recipe.load(folder / "recipe.yaml") == recipe
    assert not [path for path in folder.iterdir() if path.suffix in (".pt", ".pkl", ".pth")]


class Tied(nn.Module):
    """A model that only exists here: tied layers, a buffer that is not saved, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 8)
        self.c = self.b
        self.head = nn.Linear(8, 3)
        self.register_buffer("scale", torch.rand(8, generator=torch.Generator().manual_seed(1)), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.a(x)) * self.scale
        return self.head(torch.relu(self.c(x) + self.b(x)))


def test_without_an_import_path_a_program_is_exported_or_a_skeleton_is_filled(tmp_path):
    torch.manual_seed(0)
    model = Tied().eval()
    x = torch.randn(5, 6)
    network = trace(model, x[:1])
    recipe = Recipe.of({unit.name: 0.5 for unit in network.units})
    small = Surgeon(model, network).build(Ranking(network, score(model, network).channels).kept(recipe))
    explorer.save(small, recipe, network, tmp_path, example=x[:1])
    expected = small(x)
    torch.testing.assert_close(explorer.load(tmp_path, trust=True)(x), expected)
    program = explorer.load(tmp_path, trust=True).eval()
    assert not program.training
    with pytest.raises(PruningError, match="cannot be trained"):
        program.train()
    filled = explorer.load(tmp_path, model=Tied())
    torch.testing.assert_close(filled(x), expected)
    assert filled.b is filled.c
    with pytest.raises(PruningError, match="needs an example"):
        explorer.save(small, recipe, network, tmp_path)


def test_a_candidate_of_an_importable_factory_comes_back_as_a_module(digits, tmp_path):
    _, train_batches, validation = digits
    study = explorer.explore("explorer.models.resnet_digits", train_batches, validation, trials=2, ladder=0)
    best = study.best()
    best.save(tmp_path / "named")
    expected = best.build()(validation[0][0])
    loaded = explorer.load(tmp_path / "named")
    assert type(loaded) is type(digits[0])
    torch.testing.assert_close(loaded(validation[0][0]), expected, rtol=1e-4, atol=1e-5)


def test_a_stored_exploration_is_continued_and_another_one_kept_apart(digits):
    model, train_batches, validation = digits
    storage = optuna.storages.InMemoryStorage()

    def explore(trials: int, **options: object) -> explorer.Study:
        return explorer.explore(model, train_batches, validation, ladder=0, trials=trials, storage=storage, **options)

    first, other = explore(2), explore(2, seed=1)
    grown = explore(4)
    assert [r.row.tolist() for r in grown.records[:2]] == [r.row.tolist() for r in first.records]
    assert len(other.records) == 2
    assert len(optuna.get_all_study_names(storage)) == 2


def _loss_of_each(weight):
    return lambda logits, labels: weight * F.cross_entropy(logits, labels, reduction="none")


class _Squashed(nn.Sequential):
    def forward(self, x):
        return super().forward(x).tanh()


def test_another_task_and_another_class_of_the_same_state_are_kept_apart():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    batches, storage = [(torch.randn(16, 4), torch.arange(16) % 2)], optuna.storages.InMemoryStorage()

    def explore(model, **task):
        known = Task(trivial=1.0, trivial_loss=1.0, higher_is_better=False, **task)
        return explorer.explore(
            model, batches, batches, ladder=2, trials=2, sampler="random", storage=storage, task=known
        ).trials

    plain, once = explore(model), explore(model, metric=_loss_of_each(1.0))
    # the same loss from another call is the same task, another weight is not
    pd.testing.assert_frame_equal(explore(model, metric=_loss_of_each(1.0)), once)
    twice, squashed = explore(model, metric=_loss_of_each(2.0)), explore(_Squashed(*model))
    np.testing.assert_allclose(once["error"], plain["loss"], rtol=1e-6)
    np.testing.assert_allclose(twice["error"], 2 * once["error"], rtol=1e-6)
    assert (squashed["loss"] != plain["loss"]).all()
    assert len(optuna.get_all_study_names(storage)) == 4


def test_a_folder_that_holds_no_export_is_one_line(tmp_path):
    with pytest.raises(PruningError, match="holds no export") as caught:
        explorer.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_iterator_and_unknown_names_are_refused(digits):
    model, train_batches, validation = digits
    with pytest.raises(PruningError, match="validation"):
        explorer.explore(model, train_batches, iter(validation))
    with pytest.raises(PruningError, match="space: 'filters' is unknown, did you mean 'filter'"):
        explorer.explore(model, train_batches, validation, space="filters")
    with pytest.raises(PruningError, match="criterion: 'L1'"):
        explorer.explore(model, train_batches, validation, criterion="L1")
    for wrong in (
        {"ladder": -1},
        {"ladder": [0]},
        {"trials": "3"},
        {"objectives": ()},
        {"objectives": ("error", "error")},
        {"budget": 0.5},
        {"budget": {"latency_ms": "3"}},
        {"budget": {"latency": -1}},
    ):
        with pytest.raises(PruningError, match=next(iter(wrong))):
            explorer.explore(model, train_batches, validation, **wrong)
    wider = [(x, y + 5) for x, y in validation]
    with pytest.raises(PruningError, match="model: it returns"):
        explorer.explore(model, train_batches, wider)


def test_a_bfloat16_model_is_explored(digits):
    model, train_batches, validation = digits
    half = copy.deepcopy(model).bfloat16()
    batches16 = [[(x.bfloat16(), y) for x, y in part] for part in (train_batches, validation)]
    assert len(explorer.explore(half, *batches16, trials=2, ladder=0).trials) == 2


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_the_definition(name):
    """Each member weight's summed magnitudes, divided by their mean, summed over members."""
    torch.manual_seed(0)
    model = build(name)
    shape = (1, 1, 8, 8) if name.endswith("_digits") else (1, 3, 32, 32)
    network = trace(model, torch.zeros(shape), verify=False)
    scores = score(model, network).channels
    weights = {layer.weight for layer in network.layers}
    unit = network.units[1]
    expected = torch.zeros(unit.atoms, dtype=torch.float64)
    for tensor in network.tensors:
        if tensor.name not in weights:
            continue
        value = model.get_parameter(tensor.name).detach().abs().double()
        for axis, dim in enumerate(tensor.dims):
            if dim.units == {unit.name} and len(dim.spans) == 1:
                each = value.movedim(axis, 0).flatten(1).sum(1).reshape(unit.atoms, -1).sum(1)
                expected += each / value.movedim(axis, 0).flatten(1).sum(1).mean()
    torch.testing.assert_close(scores[unit.name], expected)
    kept = Ranking(network, scores).kept(Recipe.of({unit.name: 0.5}))[unit.name]
    assert set(kept.tolist()) == set(expected.argsort(descending=True, stable=True)[: len(kept)].tolist())


def test_equal_scores_are_taken_by_index():
    model = build("resnet_digits")
    network = trace(model, torch.zeros(1, 1, 8, 8), verify=False)
    flat = {unit.name: torch.ones(unit.atoms) for unit in network.units}
    unit = network.units[0]
    kept = Ranking(network, flat).kept(Recipe.of({unit.name: 0.5}))[unit.name]
    assert kept.tolist() == list(range(unit.atoms // 2))


def test_the_state_of_a_sliced_network_has_the_dense_keys():
    model = build("resnet20")
    network = trace(model, torch.zeros(1, 3, 32, 32), verify=False)
    recipe = Recipe.of({"conv1": 0.5})
    small = Surgeon(model, network).build(Ranking(network, score(model, network).channels).kept(recipe))
    slices = [module for module in small.modules() if isinstance(module, ChannelSlice)]
    assert slices
    assert small.state_dict().keys() == model.state_dict().keys()


class _ClassToken(nn.Module):
    """A user's model whose code makes a number of the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.a, self.b = nn.Parameter(torch.randn(1, 1, 8)), nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.cat([self.token.expand(len(x), -1, -1), torch.relu(self.a(x))], 1).mean(1))


def test_a_program_takes_batches_or_says_that_it_does_not(tmp_path, caplog):
    batches = [(torch.randn(4, 5, 6), torch.tensor([0, 1, 0, 1]))]
    for model, sizes in (
        (_ClassToken(), (1,)),
        (nn.Sequential(nn.Flatten(), nn.Linear(30, 8), nn.Linear(8, 2)), (1, 5)),
    ):
        caplog.clear()
        study = explorer.explore(model, batches, batches, trials=2, ladder=1)
        best = study.best()
        best.save(tmp_path)
        assert ("takes one input at a time" in caplog.text) == (len(sizes) == 1)
        for size in sizes:
            x = torch.randn(size, 5, 6)
            torch.testing.assert_close(explorer.load(tmp_path, trust=True)(x), best.build()(x))
        x = torch.randn(7, 5, 6)
        torch.testing.assert_close(explorer.load(tmp_path, model=model)(x), best.build()(x))
