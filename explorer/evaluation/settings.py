"""How networks are measured and trained, as sections of the configuration say it; checked without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from explorer.analysis.selection import checked_limits
from explorer.pruning.reconstruction.settings import Settings as Reconstruction
from explorer.utils.checks import checked_number
from explorer.utils.runtime_names import check_runtime
from explorer.utils.settings import checked, flag, number, parsed, word
from spaces import PruningError, unknown

if TYPE_CHECKING:
    from explorer.data.task import Task

__all__ = [
    "BATCH_SIZE",
    "EVALUATORS",
    "OPTIMIZERS",
    "PRECISIONS",
    "RATES",
    "STARTS",
    "ContextSettings",
    "EvaluatorSettings",
    "FinalSettings",
    "LatencySettings",
    "Settings",
    "SupernetSettings",
    "checked_rungs",
]

BATCH_SIZE = 125
"""Inputs a forward pass where nothing says how many."""

EVALUATORS = ("inherit", "reconstruct", "finetune", "scratch")
"""How a candidate comes by its weights."""


OPTIMIZERS = ("adamw", "sgd")
"""What makes steps of gradients, see `explorer.evaluation.training.optimization`."""

PRECISIONS = ("auto", "bfloat16", "float32")
"""What products are computed in, see `explorer.evaluation.training.optimization`."""

STARTS = ("inherit", "reconstruct", "scratch")
"""What weights a training begins with."""

RATES: Mapping[str, float] = {"inherit": 0.05, "reconstruct": 0.005, "scratch": 0.05}
"""Learning rates where none is given: what was solved is near a minimum, from which larger steps lead away."""


@dataclass(frozen=True)
class Settings:
    """How a network is trained; the defaults are those of dense networks.

    Parameters
    ----------
    optimizer
        One of `OPTIMIZERS`.
    learning_rate
        At the beginning of every stretch of epochs; falls to 0 along half a cosine.
    weight_decay
        As torch's SGD and AdamW define it.
    momentum
        Of SGD (Nesterov's); AdamW has its own.
    label_smoothing
        Of cross-entropy, in [0, 1); other losses have none.
    distillation
        Weight of the distance to the teacher's outputs in the loss, in [0, 1]; the task's own loss has the rest.
    temperature
        By which logits are divided before they are compared with the teacher's.
    ema
        Decay a step of the averaged weights that are evaluated in place of the last ones, in [0, 1); 0 for none.
    precision
        One of `PRECISIONS`.
    steps
        Of an epoch at most; None for all batches.
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    ema: float = 0.0
    precision: str = "float32"
    steps: int | None = None

    @classmethod
    def of(cls, section: Mapping[str, Any], key: str = "finetuning", *, start: str = "inherit") -> Settings:
        """Return the settings that a section of a configuration gives; what it gives of anything else is left out.

        Parameters
        ----------
        section
            Keys as the class has them; a `learning_rate` of None is that of `RATES`.
        key
            The section's, for errors.
        start
            What weights the training begins with, one of `STARTS`.

        Raises
        ------
        PruningError
            If a value is not one of those allowed.
        """
        if section.get("learning_rate", 0) is None:
            section = {**section, "learning_rate": RATES[start]}
        for name, allowed in (("optimizer", OPTIMIZERS), ("precision", PRECISIONS)):
            if name in section and str(section[name]) not in allowed:
                raise unknown(f"{key}.{name}", str(section[name]), allowed)
        for name, rule in _RULES.items():
            if name in section:
                checked_number(f"{key}.{name}", section[name], **{"least": 0, "whole": False} | rule)
        for name, words in _SHARES.items():
            if name in section and (section[name] > 1 or (section[name] == 1 and words == "[0, 1)")):
                raise PruningError(f"{key}.{name}: {section[name]!r}, allowed is a number in {words}")
        checked_number(f"{key}.steps", section.get("steps"), least=1, optional=True)
        known = [field.name for field in fields(cls)]
        return cls(**{name: value for name, value in section.items() if name in known})

    def check(self, task: Task, key: str = "finetuning") -> None:
        """Check that a task's loss knows what the settings ask for.

        Raises
        ------
        PruningError
            If it has no label smoothing.
        """
        if self.label_smoothing and not task.classifies:
            raise PruningError(f"{key}.label_smoothing: {self.label_smoothing}, allowed is 0 for this task's loss")


_RULES: Mapping[str, dict[str, Any]] = {
    "learning_rate": {"above": True},
    "weight_decay": {},
    "momentum": {"above": True},
    "label_smoothing": {},
    "distillation": {},
    "temperature": {"above": True},
    "ema": {},
}
_SHARES = {"label_smoothing": "[0, 1)", "distillation": "[0, 1]", "ema": "[0, 1)"}


def checked_rungs(rungs: Any, *, start: str, key: str = "evaluator.rungs") -> None:
    """Check that rungs are ascending numbers of epochs; fresh weights need one at least.

    Raises
    ------
    PruningError
        If they are anything else.
    """
    least = 1 if start == "scratch" else 0
    whole = (
        isinstance(rungs, Sequence)
        and not isinstance(rungs, str)
        and all(isinstance(epochs, int) and not isinstance(epochs, bool) and epochs >= least for epochs in rungs)
    )
    if not whole or not rungs or sorted(set(rungs)) != list(rungs):
        given = list(rungs) if isinstance(rungs, tuple) else rungs
        raise PruningError(f"{key}: {given!r}, allowed is an ascending list of whole numbers of epochs >= {least}")


@dataclass(frozen=True)
class EvaluatorSettings:
    """How candidates are measured.

    Parameters
    ----------
    name
        One of `EVALUATORS`.
    batch_size
        Inputs a forward pass; a section's null is `BATCH_SIZE`.
    calibration_batches
        Batches that sub-networks are calibrated on.
    images
        Validation inputs to measure on; None for all.
    racing
        Whether an evaluation may end early, see `explorer.data.racing`.
    rungs
        Epochs trained in all at each rung; 0 is no training.
    eta
        The most promising 1/`eta` of each rung are evaluated at the next.
    positions, ridge
        How layers are solved, see `explorer.pruning.reconstruction.Settings`; None where they are not.
    """

    name: str = word(EVALUATORS)
    batch_size: int = number(1)
    calibration_batches: int = number(1)
    images: int | None = number(1, optional=True)
    racing: bool = flag()
    rungs: tuple[int, ...] = checked(lambda key, value: checked_rungs(value, start="finetune", key=key))
    eta: float = number(1, whole=False, above=True)
    positions: int | None = number(1, optional=True)
    ridge: float | None = number(0, whole=False, optional=True)

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> EvaluatorSettings:
        """Return the settings of a section of conf/evaluator.

        Raises
        ------
        PruningError
            If a key is unknown or missing, or a value is not allowed.
        """
        # without training there is one rung, and nothing to promote
        others = {"rungs": [0], "eta": 3, "positions": None, "ridge": None}
        size = {"batch_size": BATCH_SIZE} if section.get("batch_size", 0) is None else {}
        settings = parsed(cls, "evaluator", {**others, **section, **size})
        checked_rungs(settings.rungs, start=settings.name)
        return settings

    @property
    def trains(self) -> bool:
        """Whether candidates are trained."""
        return self.name in ("finetune", "scratch")

    def start(self, asked: Any = None) -> str:
        """Return what weights trainings begin with: those asked for, by default those that candidates have.

        Raises
        ------
        PruningError
            If candidates cannot have them.
        """
        if asked is None:
            return self.name if self.name in STARTS else "inherit"
        allowed = {"scratch": ("scratch",), "inherit": ("inherit",)}.get(self.name, ("inherit", "reconstruct"))
        if asked not in allowed:
            raise PruningError(
                f"finetuning.start: {asked!r}, allowed with evaluator={self.name} is {' or '.join(allowed)}"
            )
        return asked

    def reconstruction(self, start: str) -> Reconstruction | None:
        """Return how layers are solved, where candidates or trainings that begin so need it."""
        if "reconstruct" not in (self.name, start) or self.positions is None or self.ridge is None:
            return None
        return Reconstruction(self.positions, self.ridge)


@dataclass(frozen=True)
class SupernetSettings:
    """How weights shared by all sub-networks are trained: for so many epochs, 0 for none."""

    epochs: int = number(0)
    samples: int = number(0)
    learning_rate: float = number(0, whole=False, above=True)


@dataclass(frozen=True)
class ContextSettings:
    """Of what a language model holds keys and values: sequences at once, and tokens of each, None for an input's."""

    sequences: int = number(1)
    tokens: int | None = number(1, optional=True)


@dataclass(frozen=True)
class LatencySettings:
    """How latency is measured.

    Parameters
    ----------
    seconds
        Spent on the frontier's points at the end of a run; None for as many as it takes.
    runtime
        What networks are run by, one of `explorer.utils.runtime_names.RUNTIMES`.
    """

    seconds: float | None = number(0, whole=False, optional=True)
    runtime: str = checked(check_runtime)


def _limits(key: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise PruningError(f"{key}: {value!r}, allowed is a mapping such as {{flops: 0.5}}, or null")
    checked_limits(value, key)


@dataclass(frozen=True)
class FinalSettings:
    """Which frontier points are retrained at the end: how many, in how many trainings of so many epochs.

    Parameters
    ----------
    points
        How many, see `explorer.analysis.selection.chosen_trials`.
    at
        Limits of one point more, such as ``{"flops": 0.5}``; None for none.
    seeds, epochs
        Trainings of each, and epochs of each training.
    """

    points: int = number(0)
    at: Mapping[str, Any] | None = checked(_limits)
    seeds: int = number(1)
    epochs: int = number(1)

    @property
    def asked(self) -> bool:
        """Whether any point is."""
        return bool(self.points or self.at)
