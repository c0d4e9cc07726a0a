"""Findings: what populations tell, as a page that a person reads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from explorer.analysis.populations.analysis import PROXY, Analysis
from explorer.analysis.populations.population import LEAST
from explorer.search.metrics import METRICS, Metric
from spaces import Refinement

__all__ = ["TITLES", "findings"]

TITLES = {
    "optimum": "Is there an optimal FLOPs-to-parameter ratio?",
    "winners": "Do the winners lie near it?",
    "regime": "Does it move with the regime?",
    "network": "Does it depend on the network?",
}
"""The questions of `explorer.analysis.populations.conjectures`, as they are asked."""


def findings(
    analysis: Analysis, refined: Mapping[str, Refinement] | None = None, error: Metric = METRICS["error"]
) -> str:
    """Return the findings of populations as Markdown.

    Parameters
    ----------
    analysis
        Of the populations.
    refined
        Their refined spaces by name.
    error
        How an error is shown.
    """
    tables = analysis.tables
    lines = ["# Populations", "", *_summary(tables["summary"], error), ""]
    if "comparisons" in tables:
        lines += ["## Which space is better", "", *(f"- {words}" for words in tables["comparisons"]["words"]), ""]
    if "evaluations" in tables:
        lines += ["## How long a random search takes", "", *_evaluations(tables["evaluations"], error), ""]
    if "conjectures" in tables:
        for name, rows in tables["conjectures"].groupby("conjecture", sort=False):
            lines += [f"## {TITLES[str(name)]}", "", *(f"- {words}" for words in rows["words"]), ""]
    lines += ["## What goes with a small error", ""]
    lines += [_correlated(name, rows) for name, rows in tables["correlations"].groupby("population", sort=False)]
    lines += [""]
    if "proxies" in tables:
        lines += ["## Which cheap scores rank as the evaluator does", ""]
        for name, rows in tables["proxies"].groupby("population", sort=False):
            itself = _the_error_itself(analysis, name)
            lines += [_correlated(name, rows[~rows["statistic"].isin(itself)])]
            lines += [f"- {name}: {proxy} is left out, it is the evaluator's own error here" for proxy in itself]
        lines += [""]
    if refined:
        lines += [
            "## Refined spaces",
            "",
            *(_refined(name, one, _shown(tables, name)) for name, one in refined.items()),
        ]
        lines += [""]
    lines += [f"- not told: {what}: {why}" for what, why in analysis.skipped]
    lines += [
        "P-values are corrected for all questions of their kind (Holm); intervals are of 95 %. Each population has one",
        f"seed of evaluation and one criterion, for which alone this holds. A claim needs {LEAST} recipes at least.",
    ]
    return "\n".join(lines) + "\n"


def _summary(table: pd.DataFrame, error: Metric) -> list[str]:
    """Return the table of populations: how many recipes, and quantiles of their errors."""
    lines = [f"| population | n | failed | best, median {error.label} | ratio |", "|---|---|---|---|---|"]
    ratio = "rho" if "rho" in table else "mcb"
    for row in table.to_dict("records"):
        errors = f"{error.text(row['error_best'])}, {error.text(row['error_median'])}"
        lines.append(f"| {row['population']} | {row['n']} | {row['failed']} | {errors} | {ratio} {row[ratio]:.3g} |")
    return lines


def _evaluations(table: pd.DataFrame, error: Metric) -> list[str]:
    """Return how many evaluations reach an error, one line for each error."""
    lines = []
    for _, rows in table.groupby("error", sort=False):
        each = [
            f"{row.population} {row.evaluations:.1f} ({row.evaluations_low:.1f} to {row.evaluations_high:.1f})"
            for row in rows.itertuples()
        ]
        lines.append(f"- to {error.label} {error.text(rows['error'].iloc[0])}: {', '.join(each)} evaluations")
    return lines


def _correlated(name: str, rows: pd.DataFrame) -> str:
    """Return which statistics are surely correlated with error, strongest first."""
    sure = rows[rows["p_corrected"] < 0.05]
    sure = sure.reindex(sure["spearman"].abs().sort_values(ascending=False).index)[:6]
    told = [
        f"{row.statistic} {row.spearman:+.2f} ({row.spearman_low:+.2f} to {row.spearman_high:+.2f})"
        for row in sure.itertuples()
    ]
    return f"- {name}: {'; '.join(told) if told else 'nothing surely'} (Spearman, with error)"


def _the_error_itself(analysis: Analysis, name: str) -> list[str]:
    """Return the proxies of a population that are what its evaluator measured, and so tell nothing."""
    one = next(one for one in analysis.populations if one.name == name)
    columns = [str(column) for column in one.table if str(column).startswith(PROXY)]
    return [column.removeprefix(PROXY) for column in columns if np.array_equal(one.table[column], one.errors)]


def _shown(tables: Mapping[str, pd.DataFrame], name: str) -> bool:
    """Tell whether an optimal ratio was shown in a population."""
    if "conjectures" not in tables:
        return False
    asked = tables["conjectures"]
    return bool(
        ((asked["conjecture"] == "optimum") & (asked["about"] == name) & (asked["answer"] == "supported")).any()
    )


def _refined(name: str, found: Refinement, shown: bool) -> str:
    exact, by = (
        "exactly" if found.before.exact and found.after.exact else "about",
        ", ".join(found.narrowed) or "nothing",
    )
    return (
        f"- {name}: {exact} {found.share:.3g} of the recipes of the regime, narrowed in {by}; "
        + ("" if shown else "no optimal ratio was shown, so the bands may be chance; ")
        + "a fresh sample of it (draw=1) tells whether it is better"
    )
