"""Figures of studies for papers show the data that they are given, and notebooks escape what they show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from explorer.analysis.html import candidate_html, study_html
from explorer.analysis.naming import axis_names
from explorer.analysis.plots import (
    FIGURES,
    attainment_figure,
    comparison_data,
    comparison_figure,
    composition_figure,
    hypervolume_figure,
    save,
    study_figure,
)
from explorer.analysis.studies import (
    StudyResult,
    attainment,
    composition,
    hypervolume_bands,
    hypervolume_curve,
    read_study,
)
from explorer.search.metrics import METRICS
from spaces import ChannelUnit, Network, PruningError, Recipe
from tests.support.study_folders import made_up_sensitivity, network_of, write_study


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    return [read_study(write_study(root / str(seed), seed=seed, rungs=2)) for seed in range(2)]


def drawn(name: str, one: StudyResult, trials: pd.DataFrame) -> Figure:
    return study_figure(
        name, trials, one.space, one.scale, dense=one.dense, sensitivity=lambda: made_up_sensitivity(one.space)
    )


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_a_study_is_drawn_and_saved(tmp_path, name):
    one = read_study(write_study(tmp_path / "study", trials=90, rungs=2))
    figure = drawn(name, one, one.trials)
    assert all(path.stat().st_size > 1000 for path in save(figure, tmp_path / name))


def test_a_study_that_has_nothing_to_show_says_so(studies):
    one = studies[0]
    for name, words in (
        ("importance", "two dozen trials"),
        ("ratios", "no trial ended well"),
        ("rungs", "two of them"),
    ):
        with pytest.raises(PruningError, match=words):
            drawn(name, one, one.trials.iloc[:0])


def lines(figure: Figure) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}


def test_hypervolume_and_attainment_draw_medians(studies):
    curves = [hypervolume_curve(one.trials, one.scale) for one in studies]
    bands = hypervolume_bands({"s": curves})
    drawn = lines(hypervolume_figure(bands))
    assert list(drawn) == ["s (median of 2)"]
    assert drawn["s (median of 2)"][:, 1].tolist() == bands["median"].tolist()
    stairs = attainment(studies)
    assert lines(attainment_figure({"s": stairs}))["s"][-1, 1] == 100 * stairs.loc[stairs["level"] == "half", "y"].min()


def test_the_composition_draws_a_bar_a_layer_of_what_is_kept():
    table = composition(network_of(), Recipe.of({"l0": 0.5}, {"l1": {"granularity": "element", "ratio": 0.5}}))
    ax = composition_figure(table).axes[0]
    widths = [patch.get_width() for patch in ax.patches]
    assert widths[len(table) :] == (table["kept"] / table["dense"]).tolist()
    assert [text.get_text() for text in ax.texts][:3] == ["16 of 32", "32 of 32, element 0.5", "32 of 32"]


def test_jobs_are_told_apart_by_the_series_they_say():
    points = pd.DataFrame(
        {
            "job": ["a", "b"],
            "granularity": ["filter", "filter"],
            "space": ["filter", "filter"],
            "series": ["filter", "tile"],
            "error": [0.1, 0.2],
            "flops_ratio": [0.5, 0.4],
        }
    )
    assert comparison_data(points)["series"].tolist() == ["filter", "tile"]
    figure = comparison_figure(points, 0.05)
    colours = {line.get_color() for line in figure.axes[0].get_lines() if line.get_label() in ("filter", "tile")}
    assert len(colours) == 2
    # of one series the granularity tells
    assert comparison_data(points.assign(series=""))["series"].tolist() == ["filter", "filter"]


def test_notebooks_escape_names(studies):
    strange = "<img src=x>"
    assert strange not in study_html(strange, studies[0].front.assign(granularity=strange), METRICS["error"])
    table = composition(network_of(), Recipe()).assign(layer=strange)
    assert strange not in candidate_html(studies[0].front.iloc[0], table)
    assert strange not in Network(strange, units=(ChannelUnit(strange, 8),))._repr_html_()


def test_axes_lose_the_part_that_all_of_them_have() -> None:
    assert axis_names(["channels.a.b", "channels.c"]) == ["a.b", "c"]
    assert axis_names(["channels.a", "weights.b"]) == ["channels.a", "weights.b"]
    # layers of a network may be called so
    assert axis_names(["blocks", "blocks.1"]) == ["blocks", "blocks.1"]
    assert axis_names(["layer1.0", "layer1.1"]) == ["layer1.0", "layer1.1"]
