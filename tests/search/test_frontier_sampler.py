"""The frontier sampler: its parts against slow ones, its rules, and that it finds frontiers sooner than chance."""

from __future__ import annotations

import itertools

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from explorer.search.frontier import hypervolume
from explorer.search.samplers import FrontierSampler, Observations, Parameters, Past, make_sampler
from explorer.search.samplers.domains import Recipes
from explorer.search.samplers.gp import Inputs, Kernel, Observed, Process, fit
from explorer.search.samplers.improvement import expected_improvement, lognormal_below, normal_below
from spaces import Budget, PruningError
from tests.support.synthetic import chain, space_of

RNG = np.random.default_rng
BELOW = {"lognormal": (lognormal_below, np.exp), "normal": (normal_below, lambda value: value)}


def inputs_of(rng, n, strong=2, weak=3, groups=1):
    return Inputs(rng.normal(size=(n, strong)), rng.normal(size=(n, weak)), rng.integers(0, groups, n))


# the parts


@pytest.mark.parametrize("scale", BELOW)
@given(st.floats(-2, 1), st.floats(0.01, 1.5), st.floats(0.05, 3))
def test_partial_expectations_are_the_integrals_they_stand_for(scale, mean, deviation, level):
    below, value = BELOW[scale]
    grid = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    expected = np.maximum(level - value(mean + deviation * grid), 0).mean()
    found = below(np.array([mean]), np.array([deviation]))(level)[0]
    assert found == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("scale", BELOW)
@pytest.mark.parametrize("deviation", [1e-3, 1.0, 40.0, 1e3])
@pytest.mark.parametrize("mean", [-700.0, 0.0, 700.0, 1e4])
def test_partial_expectations_are_numbers_however_wide_the_distribution(scale, mean, deviation):
    with np.errstate(over="raise", invalid="raise"):
        found = BELOW[scale][0](np.array([mean]), np.array([deviation]))(0.5)[0]
    assert found >= 0


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_improvement_is_the_mean_of_what_the_hypervolume_gains(objectives, data):
    shares = st.floats(0, 1.2)
    front = data.draw(arrays(float, (data.draw(st.integers(0, 5)), objectives), elements=shares))
    known = data.draw(arrays(float, (3, objectives - 1), elements=shares))
    mean, deviation = np.array([-1.5, -0.5, 0.0]), np.array([0.2, 1.0, 0.5])
    reference = np.ones(objectives)
    draws = np.exp(mean + deviation * norm.ppf((np.arange(200) + 0.5) / 200)[:, None])
    before = hypervolume(front, reference)
    gains = [
        np.mean([hypervolume(np.vstack([front, [draw, *others]]), reference) - before for draw in values])
        for values, others in zip(draws.T, known, strict=True)
    ]
    found = expected_improvement(lognormal_below(mean, deviation), known, front, reference)
    np.testing.assert_allclose(found, gains, atol=4e-3)


@pytest.mark.parametrize("groups", [1, 3])
def test_the_kernel_s_gradients_are_its_differences(groups):
    inputs, theta = inputs_of(RNG(0), 6, groups=groups), RNG(1).normal(size=8) * 0.3
    kernel, step = Kernel(inputs, inputs), 1e-6
    for i, gradient in enumerate(kernel.gradients(theta)):
        if gradient is not None:
            up, down = theta.copy(), theta.copy()
            up[i], down[i] = theta[i] + step, theta[i] - step
            np.testing.assert_allclose(gradient, (kernel(up) - kernel(down)) / (2 * step), atol=1e-6)


def test_a_process_goes_through_exact_values_and_less_through_uncertain_ones():
    rng = RNG(0)
    inputs = inputs_of(rng, 30)
    values = inputs.strong[:, 0] + 0.1 * np.sin(3 * inputs.weak[:, 0])
    theta = np.log([0.7, 0.5, 0.4, 1e-3, 1.0, 0.5, 1.5, 1.5])
    exact, _ = Process(Observed(inputs, values, np.zeros(30)), theta)(inputs)
    vague, spread = Process(Observed(inputs, values, np.full(30, 4.0)), theta)(inputs)
    np.testing.assert_allclose(exact, values, atol=0.01)
    assert np.abs(vague - values).mean() > 10 * np.abs(exact - values).mean()
    assert (spread > 0).all()


def test_what_a_point_has_of_its_own_is_in_its_deviation():
    rng = RNG(0)
    inputs, away = inputs_of(rng, 30), inputs_of(rng, 10)
    values = inputs.strong[:, 0] + rng.normal(size=30)
    theta = np.log([0.7, 0.5, 0.4, 0.6, 1.0, 0.5, 1.5, 1.5])
    _, deviation = Process(Observed(inputs, values, np.zeros(30)), theta)(away)
    assert (deviation > 0.6 * values.std()).all()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("strong", [0, 1, 2])
def test_few_equal_and_constant_observations_are_fitted(n, strong):
    inputs = Inputs(np.ones((n, strong)), np.zeros((n, 4)), np.zeros(n, dtype=int))
    data = Observed(inputs, np.full(n, 0.3), np.zeros(n))
    mean, deviation = Process(data, fit(data))(inputs)
    np.testing.assert_allclose(mean, 0.3, atol=1e-6)
    assert np.isfinite(deviation).all()


def test_another_group_helps_where_its_own_is_silent():
    """Values of an earlier rung or study, shifted, tell the slope that a single value of one's own can't."""
    rng = RNG(0)
    inputs, away = inputs_of(rng, 25, strong=1), inputs_of(rng, 25, strong=1)
    slope = 2 * inputs.strong[:, 0]
    group = np.ones(25, dtype=int)
    group[0] = 0
    values = np.where(group == 1, slope + 3, slope)
    data = Observed(Inputs(inputs.strong, inputs.weak, group), values, np.full(25, 1e-4))
    mean, _ = Process(data, fit(data))(Inputs(away.strong, away.weak, np.zeros(25, dtype=int)))
    assert np.corrcoef(mean, away.strong[:, 0])[0, 1] > 0.95


# the search of a space


def errors(space, rows):
    """Return errors that fall unevenly with what is kept."""
    kept = 1 - rows / np.array(space.shape)
    return 0.9 * np.exp(-3 * kept @ (np.arange(len(space.axes)) + 1.0) / 6) + 0.01


def past_of(space, rows, values=None, *, budget=None, seed=0, **changes):
    rows = np.asarray(rows, dtype=np.int16).reshape(len(rows), len(space.axes))
    if values is None:
        flops = space.costs(rows)["flops"] / space.dense["flops"]
        values = np.column_stack([errors(space, rows), flops])
    observed = Observations(rows, values, np.full(len(rows), np.nan), np.zeros(len(rows), dtype=np.intp))
    fixed = {
        "space": space,
        "limits": Budget.parse(budget or {}),
        "seen": {row.tobytes() for row in rows},
        "seed": seed,
        "proposed": len(rows),
        "objectives": ["error", "flops"],
        "reference": [0.9, 1.0],
        "observed": observed,
        "warm_start": Observations.none(len(space.axes), values.shape[1]),
        "pending": rows[:0],
    }
    return Past(**(fixed | changes))


def proposed(past):
    parameters = Parameters(past.space)
    study = optuna.create_study(directions=["minimize"] * len(past.objectives))
    study.sampler = make_sampler("frontier", past, {})
    return parameters.row(study.ask(parameters.distributions).params)


@pytest.fixture(scope="module")
def space():
    return space_of(chain([16, 16, 16, 10]), (1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125))


CASES = {
    "nothing known": {},
    "one": {"values": np.array([[0.2, 0.5]])},
    "equal errors": {"values": np.array([[0.2, 0.5]] * 6)},
    "error 0": {"values": np.array([[0.0, 0.5]] * 6)},
    "some error 0": {"values": np.array([[0.0, 0.5], [0.1, 0.4], [0.2, 0.3]])},
    "negative": {"values": np.array([[-0.5, 0.5], [0.1, 0.4], [0.2, 0.3]])},
    "all beyond the reference": {"values": np.array([[2.0, 0.5], [3.0, 0.4]])},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("budget", [None, {"flops": 0.4}])
def test_proposals_are_new_and_inside_the_limits(space, case, budget):
    values = CASES[case].get("values", np.empty((0, 2)))
    past = past_of(space, space.sample(len(values), RNG(3)), values, budget=budget)
    row = proposed(past)
    assert row.tobytes() not in past.seen
    assert space.inside(row[None], past.limits)[0]


def test_features_are_joined_by_the_logarithm_of_flops(space):
    rows = space.sample(20, RNG(0))
    flops = np.log(space.costs(rows)["flops"] / space.dense["flops"])
    with_features = Recipes(past_of(space, rows, features=lambda rows: rows[:, :2].astype(float))).strong(rows)
    np.testing.assert_allclose(with_features, np.column_stack([rows[:, :2], flops]), atol=1e-4)
    without = Recipes(past_of(space, rows)).strong(rows)
    np.testing.assert_allclose(without[:, 0], flops, atol=1e-4)


def test_what_is_removed_grows_without_end_where_little_is_kept(space):
    rows = np.arange(8)[:, None].repeat(len(space.axes), 1)
    weak = Recipes(past_of(space, rows)).weak(rows.astype(np.int16))
    np.testing.assert_allclose(weak[:, 0], [-np.log(space.axes[0].ratios[choice]) for choice in range(8)])


def test_a_proposal_depends_on_what_is_stored_and_nothing_else(space):
    past = past_of(space, space.sample(12, RNG(0)))
    memo: dict = {}
    for count in range(6, 13):
        proposed(past_of(space, past.observed.rows[:count], memo=memo))
    assert proposed(past).tolist() == proposed(past_of(space, past.observed.rows, memo=memo)).tolist()


def test_every_recipe_of_a_small_space_is_proposed_once():
    space = space_of(chain([8, 8, 10]), (1, 0.5, 0.25))
    rows: list = []
    while len(rows) < space.size:
        row = proposed(past_of(space, np.array(rows).reshape(-1, len(space.axes))))
        assert not any((row == other).all() for other in rows)
        rows.append(row)


def test_pending_recipes_are_not_proposed_again_nor_their_like(space):
    past = past_of(space, space.sample(12, RNG(0)))
    pending: list = []
    for _ in range(4):
        rows = np.array(pending, dtype=np.int16).reshape(-1, len(space.axes))
        seen = past.seen | {row.tobytes() for row in rows}
        pending.append(proposed(past_of(space, past.observed.rows, pending=rows, seen=seen)))
    assert len({row.tobytes() for row in pending}) == 4
    flops = space.costs(np.array(pending))["flops"] / space.dense["flops"]
    # a second one beside the first would add nothing to the frontier
    assert np.ptp(flops) > 0.05


@pytest.mark.parametrize("names", list(itertools.chain(
    itertools.permutations(["error", "flops", "params"]), [["error"], ["loss", "error", "flops"], ["latency", "error"]]
)))  # fmt: skip
def test_any_objectives(space, names):
    rows = space.sample(8, RNG(0))
    costs = space.costs(rows)
    known = {name: costs[name] / space.dense[name] for name in ("flops", "params")}
    known |= {"error": errors(space, rows), "loss": 2 * errors(space, rows), "latency": known["flops"] + 0.1}
    values = np.column_stack([known[name] for name in names])
    past = past_of(space, rows, values, objectives=list(names), reference=[1.0] * len(names))
    assert proposed(past).tobytes() not in past.seen


def test_costs_alone_leave_nothing_to_model(space):
    with pytest.raises(PruningError, match="needs an objective that is measured"):
        make_sampler("frontier", past_of(space, space.sample(2, RNG(0)), objectives=["flops", "params"]), {})


def reached(space, n, *, features=None, earlier=None, seed=0):
    """Return the hypervolume of n trials, the first four uniform."""
    rows = [space.uniform(ratio) for ratio in (0.8, 0.6, 0.4, 0.2)]
    while len(rows) < n:
        changes = {"features": features} | ({} if earlier is None else {"warm_start": earlier})
        rows.append(proposed(past_of(space, np.array(rows), seed=seed, **changes)))
    return volume(space, np.array(rows))


def volume(space, rows):
    flops = space.costs(rows)["flops"] / space.dense["flops"]
    return hypervolume(np.column_stack([errors(space, rows), flops]), [0.9, 1.0])


def test_it_is_better_than_chance_and_better_still_with_features_or_an_earlier_study(space):
    chance = np.median([volume(space, space.sample(14, RNG(seed))) for seed in range(9)])
    alone = reached(space, 14)
    told = reached(space, 14, features=lambda rows: np.log(errors(space, rows))[:, None] + 1)
    rows = space.sample(40, RNG(5))
    flops = space.costs(rows)["flops"] / space.dense["flops"]
    values = np.column_stack([1.5 * errors(space, rows), flops])
    earlier = Observations(rows, values, np.full(40, np.nan), np.zeros(40, dtype=np.intp))
    warm = reached(space, 14, earlier=earlier)
    assert chance < alone < told
    assert alone < warm


def test_two_seeds_share_few_proposals_and_are_equally_good():
    space = space_of(chain([16] * 5 + [10]), (1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125))

    def features(rows):
        # what each unit matters is known about as well as its Taylor score tells
        return np.log(errors(space, rows) * np.exp(0.3 * np.cos(rows).sum(1)))[:, None]

    begin, found = [space.uniform(ratio) for ratio in (0.8, 0.6, 0.4, 0.2)], []
    for seed in range(3):
        rows = list(begin)
        while len(rows) < 16:
            rows.append(proposed(past_of(space, np.array(rows), features=features, seed=seed)))
        found.append(rows)
    own = [[row.tobytes() for row in rows[4:]] for rows in found]
    assert len({rows[0] for rows in own}) > 1
    for one, other in itertools.combinations(own, 2):
        assert len(set(one) & set(other)) <= 3
    volumes = [volume(space, np.array(rows)) for rows in found]
    assert len(set(volumes)) == 3
    assert max(volumes) < 1.03 * min(volumes)


def test_lower_rungs_say_where_the_last_one_is_worth_it(space):
    rows = space.sample(24, RNG(2))
    flops = space.costs(rows)["flops"] / space.dense["flops"]
    rungs = np.repeat([0, 1], [20, 4])
    values = np.column_stack([np.where(rungs == 0, 1.8, 1.0) * errors(space, rows), flops])
    observed = Observations(rows, values, np.full(24, np.nan), rungs)
    row = proposed(past_of(space, rows, values, observed=observed, rungs=2))
    before = volume(space, rows[rungs == 1])
    assert volume(space, np.concatenate([rows[rungs == 1], row[None]])) > before


def test_an_earlier_study_alone_is_enough_to_begin(space):
    rows = space.sample(40, RNG(5))
    flops = space.costs(rows)["flops"] / space.dense["flops"]
    values = np.column_stack([errors(space, rows), flops])
    earlier = Observations(rows, values, np.full(40, np.nan), np.zeros(40, dtype=np.intp))
    first = proposed(past_of(space, rows[:0], warm_start=earlier))
    chance = [volume(space, row[None]) for row in space.sample(99, RNG(1))]
    assert volume(space, first[None]) > np.quantile(chance, 0.9)


def test_many_observations_are_as_few_as_can_be_handled(space):
    rows = space.sample(1250, RNG(0))
    assert proposed(past_of(space, rows)).tobytes() not in {row.tobytes() for row in rows}


# anybody's study


def test_any_study_mixed_parameters_and_parallel_trials():
    def cost(params):
        return params["n"] * (1 + params["x"]) + {"a": 4, "b": 0}[params["c"]]

    def objective(trial):
        x, n = trial.suggest_float("x", 0, 1), trial.suggest_int("n", 1, 32, log=True)
        c, y = trial.suggest_categorical("c", ["a", "b"]), trial.suggest_float("y", 1e-3, 1, log=True)
        return 1 / n + (x - 0.3) ** 2 + (c == "b") * 0.1 + abs(np.log(y) + 3) / 10, cost(trial.params)

    volumes = {}
    for name, sampler in {"random": optuna.samplers.RandomSampler(0), "ours": FrontierSampler(cost, seed=0)}.items():
        study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
        study.optimize(objective, n_trials=24)
        volumes[name] = hypervolume([trial.values for trial in study.trials], [2, 40])
        last = study.trials[-1].distributions
    assert volumes["ours"] > volumes["random"]
    asked = [study.ask(last) for _ in range(4)]
    assert len({tuple(trial.params.values()) for trial in [*study.trials, *asked]}) == 28
    study.optimize(objective, n_trials=4, n_jobs=2)


def test_constraints_and_directions_of_any_study():
    sampler = FrontierSampler(lambda p: -p["n"], constraints=lambda p: [p["n"] - 60], startup=4, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(lambda trial: (10.0 - trial.suggest_int("n", 0, 99) / 10, -trial.params["n"]), n_trials=12)
    assert all(trial.params["n"] <= 60 for trial in study.trials[4:])


def test_a_cost_of_every_objective_is_a_mistake():
    study = optuna.create_study(directions=["minimize"], sampler=FrontierSampler(lambda p: p["n"], startup=1))
    with pytest.raises(ValueError, match="at most all but one"):
        study.optimize(lambda trial: trial.suggest_int("n", 0, 9), n_trials=2)
