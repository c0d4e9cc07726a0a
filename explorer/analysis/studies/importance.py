"""Importance: which axes of a space decide the error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from explorer.analysis.tables import known_rows
from spaces import PruningSpace

__all__ = ["Importance", "axis_importance", "importance_words"]

# trials below which a forest tells chance
_FEWEST = 24
# more add seconds and change no order
_MOST = 512
_TREES = 60
_REPEATS = 5


@dataclass(frozen=True)
class Importance:
    """How much of the error each axis decides.

    Attributes
    ----------
    table
        ``axis``, ``share`` (of all axes', adds up to 1), most important first.
    explained
        R squared of the log error on trials that the trees had not seen: below 0.1 the table tells little.
    trials
        From how many trials.
    """

    table: pd.DataFrame
    explained: float
    trials: int


def axis_importance(space: PruningSpace, tables: Sequence[pd.DataFrame]) -> Importance | None:
    """Return which axes decide the error; None for fewer than 24 trials, equal errors or fewer than two axes.

    A random forest predicts log error from the ratio kept on every axis; the importance of an axis is what the forest
    loses on trials that a tree had not seen when the axis is shuffled among them (Breiman 2001). It is that of the
    explored trials, which a sampler drew where it hoped for much: an axis that never moved cannot matter.

    Parameters
    ----------
    space
        The space that was explored.
    tables
        Its trials whose errors compare (`explorer.analysis.tables.at_rung`), such as those of several seeds.
    """
    parts, errors = [np.zeros((0, len(space.axes)), dtype=np.int16)], [np.zeros(0)]
    for table in tables if len(space.axes) > 1 else ():
        rows, known = known_rows(table.reset_index(drop=True), space)
        parts.append(rows[known])
        errors.append(table["error"].to_numpy(dtype=float)[known])
    rows, error = np.concatenate(parts), np.concatenate(errors)
    order = np.flatnonzero(np.isfinite(error))[-_MOST:]
    rows, error = rows[order], error[order]
    if len(error) < _FEWEST or np.ptp(error) == 0:
        return None
    ratios = np.stack([np.asarray(axis.ratios)[rows[:, i]] for i, axis in enumerate(space.axes)], axis=1)
    target = np.log(np.maximum(error, 0) + 1e-3) if (error >= 0).all() else error
    share, explained = _permuted(ratios, target)
    found = pd.DataFrame({"axis": [axis.label for axis in space.axes], "share": share})
    table = found.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)
    return Importance(table, explained, len(error))


def _permuted(ratios: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Return each column's share of what is lost by shuffling it, and R squared, both on trials out of the bag."""
    # takes a second to import
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(0)
    n, axes = ratios.shape
    lost, told, times = np.zeros(axes), np.zeros(n), np.zeros(n)
    for _ in range(_TREES):
        drawn = rng.integers(0, n, n)
        unseen = np.setdiff1d(np.arange(n), drawn)
        tree = DecisionTreeRegressor(min_samples_leaf=2, max_features=0.6, random_state=int(rng.integers(2**31)))
        tree.fit(ratios[drawn], target[drawn])
        # the unseen trials once as they are, then each axis shuffled a few times, in one prediction
        block = np.tile(ratios[unseen], (1 + axes * _REPEATS, 1, 1))
        for place in range(1, len(block)):
            column = (place - 1) // _REPEATS
            block[place, :, column] = rng.permutation(block[place, :, column])
        predicted = tree.predict(block.reshape(-1, axes)).reshape(len(block), -1)
        wrong = ((predicted - target[unseen]) ** 2).sum(1)
        lost += wrong[1:].reshape(axes, _REPEATS).mean(1) - wrong[0]
        told[unseen] += predicted[0]
        times[unseen] += 1
    seen = times > 0
    error = ((told[seen] / times[seen] - target[seen]) ** 2).mean()
    explained = float(1 - error / target[seen].var())
    lost = np.maximum(lost, 0)
    total = lost.sum()
    return (lost / total if total > 0 else np.full(axes, 1 / axes)), explained


def importance_words(found: Importance) -> str:
    """Return what a table of importances says as one sentence."""
    if found.explained < 0.1:
        return (
            f"The {found.trials} trials do not tell which axes matter: a forest explains "
            f"{max(0.0, found.explained):.0%} of the differences in log error."
        )
    top, total = [], 0.0
    for axis, share in zip(found.table["axis"], found.table["share"], strict=True):
        top.append(f"{axis} ({share:.0%})")
        total += share
        if total >= 0.5 or len(top) == 5:
            break
    return (
        f"{', '.join(top)} make {total:.0%} of what {len(found.table)} axes decide, told by a forest that explains "
        f"{found.explained:.0%} of the differences in log error between {found.trials} trials."
    )
