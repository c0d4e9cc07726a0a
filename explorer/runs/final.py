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


def missing_final(folder: RunFolder, asked: FinalSettings) -> bool:
    """Tell whether retrained points are asked for that the run's table does not have."""
    table, front = folder.final(), folder.frontier()
    if not asked.points or table is None or front is None:
        return bool(asked.points)
    trainings = sum(column.removeprefix("test_error_").isdigit() for column in table)
    whole = trainings == asked.seeds and (table["epochs"] == asked.epochs).all() and table["reason"].isna().all()
    chosen = {folder.point(trial) for trial in chosen_trials(front, asked.points)}
    return not whole or set(table["point"][1:]) != chosen


def retrain_frontier(
    folder: RunFolder, asked: FinalSettings, study: Study, finetuned: Finetuned, test: Sequence[Batch]
) -> None:
    """Retrain points of a study's frontier; write their table, and their weights into the folder.

    Raises
    ------
    PruningError
        If the folder can't be written.
    """
    points = len(chosen_trials(study.frontier, asked.points))
    with progress("final training", (points + 1) * asked.seeds) as show:
        folder.write_final(study.retrained(finetuned, asked, test, folder.retrained, show))
