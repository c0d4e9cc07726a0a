"""Convergence: the hypervolume over the trials, and what several seeds attain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import moocore
import numpy as np
import pandas as pd

from explorer.analysis.studies.result import StudyResult
from explorer.analysis.tables import Scale, at_rung
from explorer.search.frontier import hypervolume

__all__ = ["attainment", "hypervolume_bands", "hypervolume_curve"]


def hypervolume_curve(trials: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """Return the hypervolume after every trial: ``trial`` (how many were evaluated, from 1) and ``hypervolume``.

    With rungs it is that of the errors at the highest one, to which a trial adds when it is promoted; it stands at the
    trial that proposed the recipe. The last value is the study's.

    Parameters
    ----------
    trials
        As `explorer.analysis.tables.trials_table` makes it.
    scale
        The objectives.
    """
    finished = at_rung(trials)
    values = dict(zip(finished["trial"], finished[scale.columns].to_numpy(dtype=float), strict=True))
    best: list[np.ndarray] = []
    volume, curve = 0.0, []
    for trial in trials["trial"]:
        value = values.get(trial)
        # what another point dominates adds nothing
        if value is not None and not any((other <= value).all() for other in best):
            best = [other for other in best if not (value <= other).all()] + [value]
            volume = hypervolume(best, scale.reference)
        curve.append(volume)
    return pd.DataFrame({"trial": np.arange(1, len(trials) + 1), "hypervolume": curve})


def hypervolume_bands(curves: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """Return for every series the median, least and greatest hypervolume over its seeds after each trial.

    Columns: ``series``, ``trial``, ``median``, ``low``, ``high`` and ``seeds``. A series ends with its shortest curve,
    since beyond it a band would be that of fewer seeds.

    Parameters
    ----------
    curves
        By series, as `hypervolume_curve` makes them.
    """
    frames = []
    for name, members in curves.items():
        length = min((len(curve) for curve in members), default=0)
        if not length:
            continue
        values = np.array([curve["hypervolume"].to_numpy()[:length] for curve in members])
        columns = {"median": np.median(values, 0), "low": values.min(0), "high": values.max(0)}
        frames.append(
            pd.DataFrame({"series": name, "trial": np.arange(1, length + 1), **columns, "seeds": len(members)})
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["series", "trial", "seeds"])


def attainment(results: Sequence[StudyResult], cost: str = "flops_ratio") -> pd.DataFrame:
    """Return what seeds attain: for a share of them, the errors and costs that at least so many reach.

    Columns: ``level`` (``some``: at least one seed, ``half``, ``all``), ``x`` and ``y``; corners of stairs, by x. The
    empirical attainment function (Fonseca et al. 2011), computed by moocore. Nothing for fewer than two seeds.

    Parameters
    ----------
    results
        Of one series, one a seed.
    cost
        The column of x; y is the error.
    """
    points = [one.finished[[cost, "error"]].dropna().to_numpy(dtype=float) for one in results]
    sets = [points for points in points if len(points)]
    empty = pd.DataFrame({"level": [], "x": [], "y": []})
    if len(sets) < 2 or len(sets) < len(results):
        return empty
    shares = {"some": 100 / len(sets), "half": 50.0, "all": 100.0}
    found = moocore.eaf(
        np.concatenate(sets),
        sets=np.repeat(np.arange(1, len(sets) + 1), [len(part) for part in sets]),
        percentiles=list(dict.fromkeys(shares.values())),
    )
    frames = []
    for level, share in shares.items():
        corners = found[np.isclose(found[:, 2], share)][:, :2]
        frames.append(pd.DataFrame(corners, columns=["x", "y"]).assign(level=level).sort_values("x"))
    return pd.concat(frames, ignore_index=True)[["level", "x", "y"]]
