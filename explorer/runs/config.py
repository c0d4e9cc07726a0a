"""RunConfig: everything that a run is told, each section parsed once into the settings of the room it is for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from explorer.analysis.naming import model_name
from explorer.analysis.run_folder import RunFolder
from explorer.evaluation.budgets import LatencyLimit, split_budget
from explorer.evaluation.settings import (
    ContextSettings,
    EvaluatorSettings,
    FinalSettings,
    LatencySettings,
    Settings,
    SupernetSettings,
)
from explorer.pruning.allocation import Baseline, asked_baselines
from explorer.pruning.criteria.options import Options, seeded
from explorer.runs.composing import Composed, compose, several_values
from explorer.runs.identity import HUB, default_name, identity, own_weights
from explorer.runs.recipes import self_contained
from explorer.runs.tracking import check_tracker
from explorer.runs.validation import check_keys, filled
from explorer.search.drawing import Drawing
from explorer.search.executors import check_executor
from explorer.search.plan import Plan
from explorer.utils.checks import checked_number
from explorer.utils.settings import checked, number, parsed
from explorer.utils.space_section import space_of
from spaces import Budget, PruningError, PruningSpace

__all__ = ["RESULTS", "ModelSettings", "RunConfig", "Target", "TrainingSettings"]

RESULTS = Path("results")
"""Where runs land, below the current folder."""


@dataclass(frozen=True)
class Target:
    """A function or class that a section names: what it is called, its import path and its arguments."""

    name: str
    path: str
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, section: Mapping[str, Any], *, without: Sequence[str] = ()) -> Target:
        """Return the target of a section; all keys are arguments but ``name``, ``_target_`` and some others."""
        known = ("name", "_target_", *without)
        return cls(
            section["name"],
            str(section["_target_"]),
            {key: value for key, value in section.items() if key not in known},
        )


@dataclass(frozen=True)
class ModelSettings:
    """The dense network: what makes it, its weights, and how its inputs are normalised.

    Parameters
    ----------
    factory
        The class or function, and its arguments.
    weights
        A file, or `HUB` for those of the model's library or folder; None where it is trained here.
    mean, std
        A number a channel of images; None for those of the data.
    drop_unused
        Whether modules that run in training only are taken out.
    examples
        Training inputs that the model is traced on, one after the other.
    """

    factory: Target
    weights: str | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    drop_unused: bool
    examples: int = 1

    @property
    def source(self) -> str | None:
        """Where the weights come from, as a person knows it; None where they are trained here."""
        named = self.factory.arguments.get("architecture")
        return str(named) if self.weights == HUB and named is not None else self.weights

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> ModelSettings:
        """Return the settings of the section ``model``.

        Raises
        ------
        PruningError
            If a value is not allowed, or the weights are not there.
        """
        own = ("weights", "mean", "std", "drop_unused", "examples")
        weights, drop = section["weights"], section.get("drop_unused", False)
        examples = section.get("examples", 1)
        checked_number("model.examples", examples, least=1)
        if not isinstance(drop, bool):
            raise PruningError(f"model.drop_unused: {drop!r}, allowed is true or false")
        if weights is not None and weights != HUB and not Path(str(weights)).is_file():
            raise PruningError(f"model.weights: {str(weights)!r} is no file that is there")
        if weights is None and own_weights(section):
            weights = HUB
        mean, std = (_statistics(key, section.get(key)) for key in ("mean", "std"))
        weights = None if weights is None else str(weights)
        return cls(Target.of(section, without=own), weights, mean, std, drop, examples)


def _statistics(key: str, values: Any) -> tuple[float, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list):
        raise PruningError(f"model.{key}: {values!r}, allowed is a list of numbers, one a channel")
    for value in values:
        checked_number(f"model.{key}", value, least=0, whole=False, above=key == "std")
    return tuple(values) or None


@dataclass(frozen=True)
class TrainingSettings:
    """How the dense network is trained where it has no weights."""

    epochs: int = number(1)
    batch_size: int = number(2)
    learning_rate: float = number(0, whole=False, above=True)
    weight_decay: float = number(0, whole=False)
    label_smoothing: float = number(0, whole=False)
    seed: int = number(0)

    @property
    def settings(self) -> Settings:
        """How an epoch is trained."""
        return Settings(
            learning_rate=self.learning_rate, weight_decay=self.weight_decay, label_smoothing=self.label_smoothing
        )


def _url(key: str, value: Any) -> None:
    if not isinstance(value, str | None):
        raise PruningError(f"{key}: {value!r}, allowed is a URL or null")


@dataclass(frozen=True)
class StorageSettings:
    """Where the study is kept; without a URL in the run's folder."""

    name: str
    url: str | None = checked(_url)


@dataclass(frozen=True)
class RunConfig:
    """A run's configuration, checked as far as that can be before data and model are loaded.

    Parameters
    ----------
    given
        As it was composed: what is hashed, compared and written.
    name
        Of the run's folder.
    """

    given: Composed
    name: str
    model: ModelSettings
    data: Target
    task: Target
    space: Mapping[str, Any]
    criterion: Options
    evaluator: EvaluatorSettings
    training: TrainingSettings
    finetuning: Settings
    finetuning_batch: int
    start: str
    supernet: SupernetSettings
    final: FinalSettings
    plan: Plan
    warm_start: Sequence[Path]
    limits: Budget
    latency: LatencyLimit
    timing: LatencySettings
    context: ContextSettings
    baselines: Sequence[Baseline]
    executor: Mapping[str, Any]
    storage: StorageSettings
    device: str
    proxies: bool
    tracker: str | None

    @classmethod
    def of(cls, given: Composed) -> RunConfig:
        """Return the configuration that plain data describes.

        Raises
        ------
        PruningError
            One line that names the key, what was given and what is allowed.
        """
        check_keys(given)
        given = self_contained(filled(given))
        limits, latency = split_budget(given["budget"])
        for key in ("ratios", "channel_ratios"):
            if not isinstance(given["space"].get(key, []), list):
                raise PruningError(
                    f"space.{key}: {given['space'][key]!r}, allowed is a list of shares kept such as [1,0.75,0.5]"
                )
        space = space_of(given["space"])
        PruningSpace.check(space)
        criterion = Options.of(seeded(given["criterion"], given["seed"]))
        criterion.check(space)
        evaluator = EvaluatorSettings.of(given["evaluator"])
        finetuning = _finetuning(given["finetuning"])
        start = evaluator.start(finetuning["start"])
        check_executor(given["executor"])
        timing = parsed(LatencySettings, "latency", given["latency"])
        path = given["data"].get("path")
        if path is not None and not Path(str(path)).expanduser().exists():
            raise PruningError(f"data.path: {str(path)!r} is no file or folder that is there")
        # before the name, which is made of the weights' content
        model = ModelSettings.of(given["model"])
        return cls(
            given,
            _checked_name(given),
            model,
            Target.of(given["data"]),
            Target.of(given["task"]),
            space,
            criterion,
            evaluator,
            parsed(TrainingSettings, "training", given["training"]),
            Settings.of(finetuning, start=start),
            finetuning["batch_size"],
            start,
            parsed(SupernetSettings, "supernet", given["supernet"]),
            parsed(FinalSettings, "final", given["final"]),
            Plan(
                tuple(given["objectives"]) if isinstance(given["objectives"], list) else given["objectives"],
                given["sampler"].get("_target_", given["sampler"]["name"]),
                given["sampler"]["options"],
                given["seed"],
                given["ladder"],
                evaluator.eta,
                given["trials"],
                given["timeout"],
                drawing=_drawing(given, evaluator),
            ),
            _warm_start(given["sampler"].get("warm_start", [])),
            limits,
            latency,
            timing,
            parsed(ContextSettings, "context", given["context"]),
            asked_baselines(given["baselines"], given["baseline_targets"], given["baseline_family"]),
            given["executor"],
            parsed(StorageSettings, "storage", given["storage"]),
            _checked_device(given["device"]),
            _proxies(given),
            check_tracker(given["tracking"]),
        )

    @classmethod
    def composed(cls, overrides: Sequence[str], *, config: str = "run", folder: Path | None = None) -> RunConfig:
        """Return the configuration that Hydra overrides describe.

        Parameters
        ----------
        overrides
            ``key=value``, each of one value.
        config
            The primary config: ``run`` or ``population``.
        folder
            Of further configuration files.

        Raises
        ------
        PruningError
            On any mistake, and if a key has several values.
        """
        configs = compose(overrides, config=config, folder=folder)
        if len(configs) > 1:
            raise several_values(overrides)
        return cls.of(configs[0])

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that can change a result, see `explorer.runs.identity`."""
        return identity(self.given)

    @property
    def bounded(self) -> bool:
        """Whether there is a budget."""
        return bool(self.limits) or self.latency != LatencyLimit()

    @property
    def title(self) -> str:
        """What is explored, for titles: the model on the data."""
        return f"{model_name(self.given)} on {self.data.name}"


def _drawing(given: Composed, evaluator: EvaluatorSettings) -> Drawing | None:
    """Return how a population is drawn, None where a space is searched."""
    if "regime" not in given:
        return None
    Drawing.check_protocol(len(evaluator.rungs), racing=evaluator.racing)
    return Drawing.of(given)


def _checked_device(name: Any) -> str:
    """Return the device's name; whether it is here only torch can tell."""
    if not re.fullmatch(r"auto|cpu|(cuda|mps|xpu)(:\d+)?", str(name)):
        raise PruningError(f"device: {name!r}, allowed are auto, cpu, cuda, cuda:1 ...")
    return str(name)


def _proxies(given: Composed) -> bool:
    """Return whether a population's cheap scores are asked for."""
    proxies = given.get("proxies", False)
    if not isinstance(proxies, bool):
        raise PruningError(f"proxies: {proxies!r}, allowed is true or false")
    return proxies


def _finetuning(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section with the steps of an epoch, which may be given as images."""
    size, images = section["batch_size"], section["images"]
    checked_number("finetuning.batch_size", size, least=2)
    checked_number("finetuning.images", images, least=1, optional=True)
    if images is None:
        return dict(section)
    if section["steps"] is not None:
        raise PruningError("finetuning.images: given, and so is finetuning.steps, allowed is one of them")
    return {**section, "steps": max(1, images // size)}


def _warm_start(folders: Any) -> tuple[Path, ...]:
    if not isinstance(folders, list):
        raise PruningError(f"sampler.warm_start: {folders!r}, allowed is a list of runs' folders")
    for folder in folders:
        if not RunFolder(Path(str(folder))).trials_file.is_file():
            raise PruningError(f"sampler.warm_start: {str(folder)!r} is no run's folder that is there")
    return tuple(Path(str(folder)) for folder in folders)


def _checked_name(given: Composed) -> str:
    """Return the name of the run's folder."""
    # once: it hashes the weights and the user's code
    name, key = default_name(given), "the run's name" if given["name"] is None else "name"
    if name in ("bench", "reference") or not re.fullmatch(r"\w[\w.=+-]{0,199}", name):
        raise PruningError(
            f"{key}: {name!r} can't be a folder, allowed are 200 letters, digits and . _ - = + "
            "(but not 'bench' and 'reference')"
        )
    return name
