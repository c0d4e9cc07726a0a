"""The end of a run: frontier points retrained over several seeds, and measured on what chose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from explorer.analysis.run_folder import RunFolder
from explorer.analysis.selection import chosen_trials
from explorer.evaluation.settings import FinalSettings
from explorer.utils.console import progress

if TYPE_CHECKING:
    from explorer.data import Batch
    from explorer.evaluation.finetuning import Finetuned
    from explorer.study import Study

# torch and what needs it are imported inside: a finished run is shown without them

__all__ = ["missing_final", "retrain_frontier"]


def missing_final(folder: RunFolder, asked: FinalSettings, *, bounded: bool) -> bool:
    """Tell whether retrained points are asked for that the run's table does not have.

    Parameters
    ----------
    folder
        The run's folder.
    asked
        Which points, and how often.
    bounded
        Whether the run has a budget.
    """
    table, trials = folder.final(), _chosen(folder, asked, bounded)
    if not asked.asked or table is None:
        return asked.asked
    trainings = sum(column.removeprefix("test_error_").isdigit() for column in table)
    whole = trainings == asked.seeds and (table["epochs"] == asked.epochs).all() and table["reason"].isna().all()
    return not whole or set(table["point"][1:]) != {folder.point(trial) for trial in trials}


def retrain_frontier(
    folder: RunFolder,
    asked: FinalSettings,
    study: Study,
    finetuned: Finetuned,
    test: Sequence[Batch],
    *,
    bounded: bool,
) -> None:
    """Retrain points of a run's frontier; write their table, and their weights into the folder.

    Raises
    ------
    PruningError
        If the folder can't be written, or no point is within the limits that are asked for.
    """
    trials = _chosen(folder, asked, bounded)
    with progress("final training", (len(trials) + 1) * asked.seeds) as show:
        folder.write_final(study.retrained(trials, finetuned, asked, test, folder.retrained, show))


def _chosen(folder: RunFolder, asked: FinalSettings, bounded: bool) -> list[int]:
    """Return the trials of the points to retrain: by the latencies that were measured, as others differ."""
    front, summary = folder.frontier(), folder.summary()
    if not asked.asked or front is None or summary is None:
        return []
    return chosen_trials(front, asked.points, dense=summary["dense"], at=asked.at, bounded=bounded)
