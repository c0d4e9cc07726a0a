"""Rungs: how far the errors of a rung tell those of the next."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

__all__ = ["rung_pairs", "rung_words"]


def rung_pairs(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of the recipes that were evaluated at two rungs: ``rungs``, ``trial``, ``lower``, ``higher``.

    `rungs` is as in the summary, ``0-1`` and so on; nothing where there is one rung.
    """
    frames = []
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


def rung_words(tau: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a sentence for every two rungs of which Kendall's tau is known, as a run's summary has it."""
    return [
        f"Rungs {rungs}: Kendall's tau of the errors of {found['recipes']} recipes is {found['tau']:.2f} "
        "(1: both rank them alike, 0: one tells nothing of the other)."
        for rungs, found in tau.items()
    ]
