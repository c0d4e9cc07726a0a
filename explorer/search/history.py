"""History: what a study's finished proposals say, one record an evaluated recipe."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from explorer.search.metrics import OBJECTIVES
from explorer.search.samplers import Observations

__all__ = ["History", "Known", "Record"]

_COSTS = ("flops", "params", "bytes")


@dataclass(frozen=True)
class Known:
    """The outcome of a row: who has it, the values told (None: it failed), the excess of a measured latency."""

    owner: int | str
    values: Sequence[float] | None = None
    excess: float | None = None


@dataclass(frozen=True)
class Record:
    """One evaluated recipe, or one whose evaluation failed.

    Attributes
    ----------
    row
        The recipe.
    state
        ``COMPLETE`` or ``FAIL``.
    source
        Who proposed it: the ``ladder`` of uniform ratios, the sampler (``search``), or ``nearest`` after a sampler
        repeated itself.
    metrics
        Those of the highest rung that it ended well.
    values
        The objectives' values there, None where the evaluation failed.
    reason
        Why the last evaluation failed, if it did.
    rung
        The rung that `metrics` are of.
    lower
        The metrics of the rungs below, from the first.
    number
        Of the trial that evaluated it first.
    """

    row: npt.NDArray[np.int16]
    state: str
    source: str
    metrics: Mapping[str, float]
    values: Sequence[float] | None = None
    reason: str | None = None
    rung: int = 0
    lower: tuple[Mapping[str, float], ...] = ()
    number: int = 0


class History:
    """The proposals of a study that are finished.

    Parameters
    ----------
    axes
        How many axes a row has.
    objectives
        Keys of `OBJECTIVES`.
    """

    def __init__(self, axes: int, objectives: Sequence[str]) -> None:
        self.known: dict[bytes, Known] = {}
        self.stale = 0
        self.last: npt.NDArray[np.int16] | None = None
        self._objectives = list(objectives)
        self._records: dict[bytes, Record] = {}
        # numbers of the trials that evaluated them first, ascending
        self._order: list[tuple[int, bytes]] = []
        measured = [objective for objective in objectives if objective not in _COSTS]
        self._error_se = f"{measured[0]}_se" if measured else ""
        self._entries: list[tuple[npt.NDArray[np.int16], Sequence[float], float, int]] = []
        self._observed = Observations.none(axes, len(objectives))

    def remember(self, number: int, proposal: Mapping[str, Any]) -> bool:
        """Take a finished proposal into account; tell whether it is an evaluation.

        Parameters
        ----------
        number
            Of its trial.
        proposal
            What the trial keeps of it: ``row``, ``rung``, ``source``, ``outcome``, ``values`` and more by outcome.
        """
        row = np.array(proposal["row"], dtype=np.int16)
        key, rung, outcome = row.tobytes(), proposal.get("rung", 0), proposal["outcome"]
        evaluated = outcome in ("COMPLETE", "FAIL")
        if evaluated and (key in self._records) == (not rung):
            # of a driver that another held for dead while it wrote: evaluated again, or promoted from what is abandoned
            return False
        if rung and evaluated:
            self._promoted(key, rung, proposal)
        elif not rung:
            self.last, self.stale = row, 0 if evaluated else self.stale + 1
            if evaluated or outcome == "OVER_LATENCY":
                self.known[key] = Known(number, proposal["values"], proposal.get("excess"))
            if evaluated:
                metrics, reason = proposal.get("metrics", {}), proposal.get("reason")
                source, values = proposal["source"], proposal["values"]
                self._records[key] = Record(row, outcome, source, metrics, values, reason, number=number)
                bisect.insort(self._order, (number, key))
        if outcome == "COMPLETE":
            error_se = proposal["metrics"].get(self._error_se, np.nan)
            self._entries.append((row, proposal["values"], error_se, rung))
        return evaluated

    def _promoted(self, key: bytes, rung: int, proposal: Mapping[str, Any]) -> None:
        record = self._records[key]
        if proposal["outcome"] == "COMPLETE":
            lower = (*record.lower, record.metrics)
            done = {"metrics": proposal["metrics"], "values": proposal["values"], "rung": rung, "lower": lower}
            self._records[key] = replace(record, **done)
        else:
            self._records[key] = replace(record, reason=f"rung {rung}: {proposal['reason']}")

    @property
    def records(self) -> list[Record]:
        """The evaluated recipes in the order of their trials."""
        return [self._records[key] for _, key in self._order]

    def __len__(self) -> int:
        return len(self._records)

    def below(self, rung: int) -> set[bytes]:
        """Return the recipes that ended well at a lower rung, and at none from `rung` on."""
        if not rung:
            return set()
        return {key for key, record in self._records.items() if record.state == "COMPLETE" and record.rung < rung}

    def hopeless(self, least: int) -> str | None:
        """Return the last reason where `least` recipes or more were evaluated and all failed."""
        if len(self._records) < least or self._entries:
            return None
        return self.records[-1].reason

    @property
    def too_slow(self) -> list[float]:
        """By which shares the recipes that were over a limit on the latency were so."""
        return [known.excess for known in self.known.values() if known.excess is not None]

    @property
    def observed(self) -> Observations:
        """What was measured, an entry a recipe and rung, in the order it was remembered."""
        if new := self._entries[len(self._observed.rungs) :]:
            rows, values, error_se, rungs = zip(*new, strict=True)
            old = self._observed
            self._observed = Observations(
                np.concatenate([old.rows, np.array(rows, dtype=np.int16)]),
                np.concatenate([old.values, np.array(values, dtype=float)]),
                np.concatenate([old.error_se, np.array(error_se, dtype=float)]),
                np.concatenate([old.rungs, np.array(rungs, dtype=np.intp)]),
            )
        return self._observed

    def values(self, metrics: Mapping[str, float], ratios: Mapping[str, float]) -> list[float]:
        """Return the objectives' values of measured metrics and counted costs relative to dense."""
        known = {**metrics, **{f"{name}_ratio": value for name, value in ratios.items()}}
        return [float(known[OBJECTIVES[objective]]) for objective in self._objectives]

    def bar(self, ratios: Mapping[str, float], rung: int) -> float | None:
        """Return the least error at a rung of what costs no more; None where that is nothing, or can't be told.

        It can where the objectives are the error and costs that are counted.
        """
        if "error" not in self._objectives or any(o not in ("error", *_COSTS) for o in self._objectives):
            return None
        seen = self.observed
        cheaper = seen.rungs == rung
        for place, objective in enumerate(self._objectives):
            if objective != "error":
                cheaper = cheaper & (seen.values[:, place] <= ratios[objective])
        errors = seen.values[cheaper, self._objectives.index("error")]
        return float(errors.min()) if len(errors) else None
