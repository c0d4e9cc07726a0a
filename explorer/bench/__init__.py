"""The project's own benchmarks: what is claimed to be fast, measured as ratios in one run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from explorer.bench.build import build
from explorer.bench.cases import LARGE
from explorer.bench.costs import costs
from explorer.bench.criteria import criteria
from explorer.bench.evaluate import evaluate
from explorer.bench.executors import PARTS, executors
from explorer.bench.frontiers import EVALUATORS, frontiers
from explorer.bench.language import language
from explorer.bench.leaderboard import leaderboard
from explorer.bench.measured import Measured, show, write
from explorer.bench.naive import naive
from explorer.bench.others import Entry, others
from explorer.bench.rungs_and_racing import PROBLEMS, racing, rungs
from explorer.bench.samplers import SPACES, samplers
from explorer.bench.sparse import LAYERS, sparse
from explorer.bench.threads import limited_threads
from explorer.bench.zoo import zoo
from explorer.models import MODELS
from explorer.runs.composing import compose
from explorer.runs.config import RESULTS
from explorer.search.samplers import SAMPLERS
from explorer.utils.checks import checked_number
from explorer.utils.conf import conf, options_of
from explorer.utils.console import console
from spaces import PruningError, unknown
from spaces.granularity import checked_ratio

__all__ = ["BENCHES", "run_bench"]

BENCHES: Mapping[str, Callable[[dict[str, Any]], list[Measured]]] = {
    "build": build,
    "costs": costs,
    "criteria": criteria,
    "evaluate": evaluate,
    "executors": executors,
    "frontiers": frontiers,
    "language": language,
    "leaderboard": leaderboard,
    "naive": naive,
    "others": others,
    "racing": racing,
    "rungs": rungs,
    "samplers": samplers,
    "sparse": sparse,
    "zoo": zoo,
}
"""From a configuration (conf/bench.yaml) to figures, by name."""

# not among all: they need libraries or files that nothing else needs, or many minutes
_BY_NAME = (
    *("criteria", "executors", "frontiers", "language", "leaderboard", "naive", "others"),
    *("racing", "rungs", "samplers", "zoo"),
)


def run_bench(arguments: list[str]) -> int:
    """Run one benchmark, or all of them; print a table and write ``results/bench/NAME.csv`` for each.

    Parameters
    ----------
    arguments
        Optionally a key of `BENCHES`, then overrides of conf/bench.yaml.

    Raises
    ------
    PruningError
        If the name or a key is unknown, or a value is out of range.
    """
    if {"-h", "--help"} & set(arguments):
        console.print(f"explore bench [{'|'.join(BENCHES)}] [key=value ...]", markup=False)
        console.print((conf() / "bench.yaml").read_text(), markup=False, highlight=False)
        return 0
    names = [name for name in BENCHES if name not in _BY_NAME]
    if arguments and "=" not in arguments[0]:
        name, *arguments = arguments
        if name not in BENCHES:
            raise unknown("bench", name, BENCHES)
        names = [name]
    configs = compose(arguments, config="bench")
    if len(configs) > 1:
        raise PruningError("overrides: a benchmark takes one value for a key")
    config = configs[0]
    _check(config)
    for name in names:
        with limited_threads(config["threads"]):
            figures = BENCHES[name](config)
        show(name, figures)
        console.print(f"written to {write(name, figures, config, RESULTS / 'bench')}", soft_wrap=True)
    return 0


def _check(config: dict[str, Any]) -> None:
    for key, least in [("seed", 0), ("threads", 1), ("repeats", 1)]:
        checked_number(key, config[key], least=least)
    checked_number("seconds", config["seconds"], least=0, whole=False)
    for key in ("costs.recipes", "costs.counted", "build.image"):
        group, _, name = key.partition(".")
        checked_number(key, config[group][name], least=1)
    for name in ("recipes", "batch_size", "calibration_batches", "images"):
        checked_number(f"evaluate.{name}", config["evaluate"][name], least=1)
    for name in ("tokens", "images"):
        checked_number(f"sparse.{name}", config["sparse"][name], least=1)
    for name in ("seeds", "calibration_batches", "images", "test_images"):
        optional = name.endswith("images")
        checked_number(f"criteria.{name}", config["criteria"][name], least=1, optional=optional)
    for name in ("seeds", "trials", "epochs", "images"):
        least, optional = int(name != "epochs"), name == "images"
        checked_number(f"frontiers.{name}", config["frontiers"][name], least=least, optional=optional)
    for name, least in [("length", 2), ("calibration", 1), ("test", 1), ("trials", 0)]:
        checked_number(f"language.{name}", config["language"][name], least=least)
    checked_number("naive.images", config["naive"]["images"], least=1, optional=True)
    checked_number("naive.minutes", config["naive"]["minutes"], least=0, whole=False, above=True)
    if config["naive"]["evaluator"] not in EVALUATORS:
        raise unknown("naive.evaluator", config["naive"]["evaluator"], EVALUATORS)
    for name in ("seeds", "trials", "epochs", "images", "test_images"):
        least, optional = int(name != "epochs"), name.endswith("images")
        checked_number(f"others.{name}", config["others"][name], least=least, optional=optional)
    for method in _list("others.methods", config["others"]["methods"]):
        Entry.of(method)
    for space in _list("others.spaces", config["others"]["spaces"]):
        if space not in options_of("space"):
            raise unknown("others.spaces", space, options_of("space"))
    for group in ("build", "criteria", "frontiers", "others", "sparse"):
        for ratio in _list(f"{group}.ratios", config[group]["ratios"]):
            checked_ratio(f"{group}.ratios", ratio)
    for name in ("seeds", "trials", "images", "calibration_batches"):
        checked_number(f"samplers.{name}", config["samplers"][name], least=1)
    for name in ("candidates", "turns", "workers"):
        checked_number(f"executors.{name}", config["executors"][name], least=1)
    checked_number("executors.seconds", config["executors"]["seconds"], least=0, whole=False, above=True)
    trials = _list("executors.trials", config["executors"]["trials"])
    for value in trials:
        checked_number("executors.trials", value, least=1)
    if len(trials) != 2 or trials[0] >= trials[1]:
        raise PruningError(f"executors.trials: {trials!r}, allowed are two numbers, the second greater")
    checked_number("racing.trials", config["racing"]["trials"], least=1)
    for group in ("racing", "rungs"):
        checked_number(f"{group}.seeds", config[group]["seeds"], least=1)
        if config[group]["sampler"] not in SAMPLERS:
            raise unknown(f"{group}.sampler", config[group]["sampler"], SAMPLERS)
    for name, minutes in config["rungs"]["minutes"].items():
        checked_number(f"rungs.minutes.{name}", minutes, least=0, whole=False, above=True)
    names: list[tuple[str, str, Collection[str]]] = [
        ("frontiers", "evaluators", EVALUATORS),
        ("samplers", "spaces", SPACES),
        ("samplers", "samplers", SAMPLERS),
        ("executors", "parts", PARTS),
        ("rungs", "problems", PROBLEMS),
        ("executors", "samplers", SAMPLERS),
    ]
    for group, name, allowed in names:
        for value in _list(f"{group}.{name}", config[group][name]):
            if value not in allowed:
                raise unknown(f"{group}.{name}", value, allowed)
    checked_number("zoo.limit", config["zoo"]["limit"], least=1)
    _list("zoo.libraries", config["zoo"]["libraries"])
    if config["zoo"]["models"] is not None:
        _list("zoo.models", config["zoo"]["models"])
    for layer in _list("sparse.layers", config["sparse"]["layers"]):
        if layer not in LAYERS:
            raise unknown("sparse.layers", layer, LAYERS)
    models = [
        (f"{group}.model", config[group]["model"]) for group in ("costs", "executors", "frontiers", "naive", "others")
    ]
    for group in ("evaluate", "executors"):
        models += [(f"{group}.models", model) for model in _list(f"{group}.models", config[group]["models"])]
    for key, model in models:
        # studies need weights
        allowed = [*MODELS] if key == "frontiers.model" else [*MODELS, *LARGE]
        if model not in allowed:
            raise unknown(key, model, allowed)


def _list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise PruningError(f"{key}: {value!r}, allowed is a list such as [a,b]")
    return value
