"""The page: one HTML file in which everything is, that asks nothing of the network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from bokeh.embed import json_item
from bokeh.resources import Resources
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from explorer.analysis.report.details import series_details
from explorer.analysis.report.frontier import frontier_figure
from explorer.analysis.report.made import how_made
from explorer.analysis.report.payload import group_payload
from explorer.analysis.report.populations import population_section
from explorer.analysis.report.shared import RETRAINED_COLUMNS, RUN_COLUMNS, retrained_rows, run_rows, shared_figures
from explorer.analysis.studies import LeftOut, StudyResult, groups_of, series_of

__all__ = ["report_page"]

# in the order in which they need each other
_SCRIPTS = ("text", "figures", "frontier", "panel", "trials", "group", "main")


def report_page(
    results: Sequence[StudyResult],
    left: Sequence[LeftOut] = (),
    *,
    folders: Sequence[Path] = (),
    comparison: Mapping[str, Any] | None = None,
) -> str:
    """Return the page of runs as HTML.

    Parameters
    ----------
    results
        The runs.
    left
        What could not be read.
    folders
        Those that were asked for, in which analyses of populations may be.
    comparison
        What two sets of runs tell, compared: ``title``, ``words``, ``columns`` and ``rows`` of text.
    """
    groups, figures, made = [], [], []
    for place, (title, members) in enumerate(groups_of(results).items()):
        series = series_of(members)
        payload = group_payload(title, members, series)
        shared, details = shared_figures(members, series), series_details(members, series)
        frontier = frontier_figure(payload["series"], x=payload["costs"][0]["label"], y=payload["error"]["label"])
        payload["figures"] = {"frontier": json_item(frontier)} | {one["key"]: one["item"] for one in shared}
        payload["details"] = [{one["key"]: one["item"] for one in detail["figures"]} for detail in details]
        figures.append(payload)
        groups.append(
            {
                "id": f"g{place}",
                "title": title,
                "costs": payload["costs"],
                "run_columns": RUN_COLUMNS,
                "run_rows": run_rows(members, series),
                "retrained_columns": RETRAINED_COLUMNS,
                "retrained": retrained_rows(members, series),
                "shared": shared,
                "details": [detail | {"id": f"d{number}"} for number, detail in enumerate(details)],
                "failed": sum(int(one.summary["failed"]) for one in members),
            }
        )
        made += [how_made(result, name) for result, name in zip(members, series, strict=True)]
    sections = [population_section(folder, results[0].error) for folder in folders]
    populations = [one | {"id": f"p{place}"} for place, one in enumerate(one for one in sections if one is not None)]
    titles = list(groups_of(results))
    data = {
        "groups": figures,
        "populations": [{one["key"]: one["item"] for one in population["figures"]} for population in populations],
    }
    count = f"{len(results)} runs" if len(results) > 1 else results[0].name
    trials = sum(len(result.trials) for result in results)
    return _template().render(
        title=f"{', '.join(titles[:3])}{' and others' if len(titles) > 3 else ''}: sub-networks by pruning",
        subtitle=f"{count}, {trials} trials",
        doubts=list(dict.fromkeys(str(doubt) for result in results for doubt in result.folder.doubts())),
        left=left,
        groups=groups,
        populations=populations,
        comparison=comparison,
        made=made,
        css=_file("page.css"),
        js=Markup("\n".join(_file(f"{name}.js") for name in _SCRIPTS)),
        bokeh=_bokeh(),
        data=_json(data),
    )


@cache
def _template() -> Any:
    # text of strangers is escaped wherever it stands
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(_file("page.html"))


@cache
def _file(name: str) -> str:
    return resources.files("explorer.analysis.report").joinpath("web", name).read_text(encoding="utf-8")


@cache
def _bokeh() -> Markup:
    """Return the library itself, without widgets and tables, which the page makes of HTML."""
    return Markup(Resources(mode="inline", components=["bokeh"]).render_js())


def _json(value: Any) -> Markup:
    """Return JSON that no text in it can end."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
