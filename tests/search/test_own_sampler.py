"""A sampler of one's own: an Optuna sampler, or what makes one, from Python and by its import path."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from explorer.search.samplers import Past, make_sampler
from spaces import Budget, PruningError
from tests.support.synthetic import chain, space_of

PAST = Past.empty(space_of(chain([4, 4]), (1, 0.5)), Budget(), ["error", "flops"])


def genetic(seed: int, population_size: int = 10) -> optuna.samplers.BaseSampler:
    return optuna.samplers.NSGAIIISampler(seed=seed, population_size=population_size)


def none(seed: int) -> Any:
    return seed


def test_a_sampler_is_taken_as_it_is() -> None:
    sampler = optuna.samplers.BruteForceSampler()
    assert make_sampler(sampler, PAST, {}) is sampler


@pytest.mark.parametrize("given", [genetic, f"{__name__}.genetic"])
def test_a_function_makes_one_of_a_seed_and_options(given: Any) -> None:
    assert isinstance(make_sampler(given, PAST, {"population_size": 4}), optuna.samplers.NSGAIIISampler)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (none, {}, "sampler: it gives a int, needed is an Optuna sampler"),
        (genetic, {"population": 4}, "sampler: 'population' is unknown, did you mean 'population_size'"),
        (f"{__name__}.nothing", {}, "sampler._target_: .* can't be imported"),
        ("frontie", {}, "did you mean 'frontier'"),
    ],
)
def test_what_makes_none_is_one_line(given: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PruningError, match=message) as caught:
        make_sampler(given, PAST, options)
    assert "\n" not in str(caught.value)


def test_the_command_and_python_take_one(explore, folder) -> None:
    (folder / "my_sampler.py").write_text(
        "import optuna\n\ndef make(seed, group=False):\n"
        "    return optuna.samplers.TPESampler(seed=seed, group=group, multivariate=True)\n"
    )
    quick = ["training.epochs=2", "evaluator.calibration_batches=2", "evaluator.images=100", "trials=5", "ladder=2"]
    own = ["sampler=custom", "sampler._target_=my_sampler.make", "+sampler.options.group=true", "name=own"]
    code, _, err = explore("run", *quick, *own)
    assert code == 0, err
    code, _, err = explore("run", *quick, "sampler=custom", "sampler._target_=my_sampler.missing", "name=missing")
    assert (code, err.count("\n")) == (2, 1), err
    assert not (folder / "results" / "missing").exists()
