"""History: the finished proposals of a study, made into one record an evaluated recipe."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from explorer.search.metrics import OBJECTIVES
from explorer.search.proposal import Proposal
from explorer.search.samplers import Observations
from spaces import COSTS

__all__ = ["History", "Known", "Record"]


@dataclass(frozen=True)
class Known:
    """The outcome of a row: who has it, the values told (None: it failed), and of a latency over its limit what it is.

    Attributes
    ----------
    owner, values
        Of the trial.
    excess
        By which share the latency is over the limit, None where it is not.
    milliseconds
        The latency, where that was said.
    """

    owner: int | str
    values: Sequence[float] | None = None
    excess: float | None = None
    milliseconds: float | None = None


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
        measured = [objective for objective in objectives if objective not in COSTS]
        self._error_se = f"{measured[0]}_se" if measured else ""
        self._entries: list[tuple[npt.NDArray[np.int16], Sequence[float], float, int]] = []
        self._observed = Observations.none(axes, len(objectives))

    def remember(self, number: int, proposal: Proposal) -> bool:
        """Take the finished proposal of a trial into account; tell whether it is an evaluation."""
        key, rung, evaluated = proposal.row.tobytes(), proposal.rung, proposal.evaluated
        if evaluated and (key in self._records) == (not rung):
            # of a driver that another held for dead while it wrote: evaluated again, or promoted from what is abandoned
            return False
        if rung and evaluated:
            self._promoted(key, proposal)
        elif not rung:
            self.last, self.stale = proposal.row, 0 if evaluated else self.stale + 1
            if evaluated or proposal.outcome == "OVER_LATENCY":
                excess, taken = proposal.excess.get("latency"), proposal.metrics.get("latency_ms")
                self.known[key] = Known(number, proposal.values, excess, None if excess is None else taken)
            if evaluated:
                self._records[key] = Record(
                    proposal.row,
                    proposal.outcome,
                    proposal.source,
                    proposal.metrics,
                    proposal.values,
                    proposal.reason,
                    number=number,
                )
                bisect.insort(self._order, (number, key))
        if proposal.outcome == "COMPLETE":
            assert proposal.values is not None
            error_se = proposal.metrics.get(self._error_se, np.nan)
            self._entries.append((proposal.row, proposal.values, error_se, rung))
        return evaluated

    def _promoted(self, key: bytes, proposal: Proposal) -> None:
        record = self._records[key]
        if proposal.outcome == "COMPLETE":
            lower = (*record.lower, record.metrics)
            self._records[key] = replace(
                record, metrics=proposal.metrics, values=proposal.values, rung=proposal.rung, lower=lower
            )
        else:
            self._records[key] = replace(record, reason=f"rung {proposal.rung}: {proposal.reason}")

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

    def hopeless(self, least: int, least_slow: int) -> str | None:
        """Return a sentence where all evaluations failed, or all latencies were over their limit, None otherwise.

        Parameters
        ----------
        least, least_slow
            How many evaluations, and latencies, are too few to say so.
        """
        if self._records:
            all_failed = len(self) >= least and not self._entries
            return f"all of {len(self)} evaluations failed: {self.records[-1].reason}" if all_failed else None
        slow = [(known.excess, known.milliseconds) for known in self.known.values() if known.excess is not None]
        if len(slow) < least_slow:
            return None
        excess, taken = min(slow, key=lambda pair: pair[0])
        fastest = "" if taken is None else f": the fastest takes {taken:.3g} ms"
        return (
            f"budget: the latency of all {len(slow)} recipes that were measured is over it, "
            f"by {excess:.0%} at the least{fastest}"
        )

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
        """Return the least error at a rung among the recipes that cost no more; None where it can't be told.

        It can where the objectives are the error and costs that are counted.
        """
        if "error" not in self._objectives or any(o not in ("error", *COSTS) for o in self._objectives):
            return None
        seen = self.observed
        cheaper = seen.rungs == rung
        for place, objective in enumerate(self._objectives):
            if objective != "error":
                cheaper = cheaper & (seen.values[:, place] <= ratios[objective])
        errors = seen.values[cheaper, self._objectives.index("error")]
        return float(errors.min()) if len(errors) else None
