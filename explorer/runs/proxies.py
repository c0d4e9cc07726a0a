"""The cheap scores of a population's recipes, kept in the run's folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from explorer.analysis.run_folder import RunFolder
from explorer.utils.console import progress

if TYPE_CHECKING:
    from explorer.study import Study

__all__ = ["missing_proxies", "write_proxies"]


def missing_proxies(folder: RunFolder, *, asked: bool) -> bool:
    """Tell whether proxies are asked for that the run's table does not have."""
    trials, table = folder.trials(), folder.proxies()
    if not asked or trials is None or table is None:
        return asked
    return set(table["trial"]) != set(trials.loc[trials["state"] == "COMPLETE", "trial"])


def write_proxies(folder: RunFolder, study: Study) -> None:
    """Score the recipes of a study cheaply, and write the table of it."""
    # torch comes with them
    from explorer.evaluation.proxies import proxies_table
    from explorer.evaluation.settings import EvaluatorSettings
    from explorer.utils.conf import named_section

    trials, problem = study.trials, study.problem
    done = trials.loc[trials["state"] == "COMPLETE", "trial"].tolist()
    with progress("scoring cheaply", len(done)) as show:
        rows = [study.records[trial].row for trial in done]
        settings = EvaluatorSettings.of(named_section("evaluator", "reconstruct")).reconstruction("reconstruct")
        table = proxies_table(
            problem.inherited,
            problem.space,
            rows,
            others={"reconstructed": replace(problem.inherited, reconstruction=settings)},
            on_row=lambda count: show(count, ""),
        )
    folder.write_proxies(table.assign(trial=done)[["trial", *table.columns]])
