"""The end of a study: frontier points retrained over several seeds, and measured on what chose nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from explorer.analysis.run_folder import RunFolder
from explorer.analysis.selection import telling
from explorer.utils.console import progress

if TYPE_CHECKING:
    from explorer.data import Batch
    from explorer.evaluation.finetuning import Finetuned
    from explorer.study import Study

# torch and what needs it are imported inside: a finished run is shown without them

__all__ = ["Final", "missing_final", "retrain_frontier"]


@dataclass(frozen=True)
class Final:
    """Which frontier points are retrained at the end of a run, and how often.

    Parameters
    ----------
    points
        How many; 0 for none.
    seeds
        Trainings of each.
    epochs
        Of each training.
    """

    points: int
    seeds: int
    epochs: int

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Final:
        """Return what the section ``final`` of a configuration asks for."""
        return cls(section["points"], section["seeds"], section["epochs"])

    def chosen(self, front: pd.DataFrame) -> list[int]:
        """Return the trials of the points that are retrained, cheapest first."""
        places = telling(front[["error", "flops_ratio"]].to_numpy(), self.points)
        return [int(front["trial"].iloc[place]) for place in places]


def missing_final(folder: RunFolder, asked: Final) -> bool:
    """Tell whether retrained points are asked for that the run's table does not have."""
    table, front = folder.final(), folder.frontier()
    if not asked.points or table is None or front is None:
        return bool(asked.points)
    trainings = sum(column.removeprefix("test_error_").isdigit() for column in table)
    whole = trainings == asked.seeds and (table["epochs"] == asked.epochs).all() and table["reason"].isna().all()
    return not whole or set(table["point"][1:]) != {folder.point(trial) for trial in asked.chosen(front)}


def retrain_frontier(
    folder: RunFolder, asked: Final, study: Study, finetuned: Finetuned, test: Sequence[Batch]
) -> None:
    """Retrain points of a study's frontier; write their table, and their weights into the folder.

    Raises
    ------
    PruningError
        If the folder can't be written.
    """
    from explorer.evaluation.retraining import retrain

    space = study.problem.space
    recipes = {folder.point(trial): space.recipe(study.records[trial].row) for trial in asked.chosen(study.frontier)}
    with progress("final training", (len(recipes) + 1) * asked.seeds) as show:
        table = retrain(
            finetuned,
            recipes,
            test,
            seeds=asked.seeds,
            epochs=asked.epochs,
            folder=folder.retrained,
            on_training=show,
        )
    folder.write_final(table)
