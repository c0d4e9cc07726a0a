"""Rungs: how far the errors of a rung tell those of the next."""

from __future__ import annotations

import pandas as pd

from explorer.analysis.studies.result import StudyResult

__all__ = ["rung_pairs", "rung_words"]


def rung_pairs(result: StudyResult) -> pd.DataFrame:
    """Return the errors of the recipes that were evaluated at two rungs: ``rungs``, ``trial``, ``lower``, ``higher``.

    `rungs` is as in the summary, ``0-1`` and so on; nothing where there is one rung.
    """
    trials, frames = result.trials, []
    for rung in range(int(trials["rung"].max()) if len(trials) else 0):
        names = [f"error_rung{rung}", f"error_rung{rung + 1}"]
        if not set(names) <= set(trials):
            continue
        both = trials[["trial", *names]].dropna()
        pairs = both.set_axis(["trial", "lower", "higher"], axis=1).assign(rungs=f"{rung}-{rung + 1}")
        frames.append(pairs[["rungs", "trial", "lower", "higher"]])
    if not frames:
        return pd.DataFrame(columns=["rungs", "trial", "lower", "higher"])
    return pd.concat(frames, ignore_index=True)


def rung_words(result: StudyResult) -> list[str]:
    """Return a sentence for every two rungs of which Kendall's tau is known."""
    return [
        f"Rungs {rungs}: Kendall's tau of the errors of {found['recipes']} recipes is {found['tau']:.2f} "
        "(1: both rank them alike, 0: one tells nothing of the other)."
        for rungs, found in result.summary["tau"].items()
    ]
