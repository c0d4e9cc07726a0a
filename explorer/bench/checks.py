"""What benchmarks can be told, checked before the first begins."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from explorer.bench.cases import LARGE
from explorer.bench.executors import PARTS
from explorer.bench.frontiers import EVALUATORS
from explorer.bench.others import Entry
from explorer.bench.rungs_and_racing import PROBLEMS
from explorer.bench.samplers import SPACES
from explorer.bench.sparse import LAYERS
from explorer.models import MODELS
from explorer.search.samplers import SAMPLERS
from explorer.utils.checks import checked_number
from explorer.utils.conf import options_of
from spaces import PruningError, unknown
from spaces.granularity import checked_ratio

__all__ = ["check"]


def check(config: dict[str, Any]) -> None:
    """Check the values of conf/bench.yaml.

    Raises
    ------
    PruningError
        If one is not allowed.
    """
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
    for share in _list("training.shares", config["training"]["shares"]):
        checked_ratio("training.shares", share)
    for multiple in _list("training.multiples", config["training"]["multiples"]):
        checked_number("training.multiples", multiple, least=0, whole=False, above=True)
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
        (f"{group}.model", config[group]["model"])
        for group in ("costs", "executors", "frontiers", "naive", "others", "training")
    ]
    for group in ("evaluate", "executors"):
        models += [(f"{group}.models", model) for model in _list(f"{group}.models", config[group]["models"])]
    for key, model in models:
        if key in ("naive.model", "training.model"):
            # whose blocks are cut between their convolutions
            allowed = [name for name in MODELS if name.startswith("resnet")]
        else:
            # what is searched has weights of its own, and is built in
            allowed = [*MODELS] if key in ("frontiers.model", "others.model") else [*MODELS, *LARGE]
        if model not in allowed:
            raise unknown(key, model, allowed)


def _list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise PruningError(f"{key}: {value!r}, allowed is a list such as [a,b]")
    return value
