"""Figures of populations: what is drawn is what the tables say, and every figure fits a column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from explorer.analysis.plots import (
    correlation_data,
    correlation_figure,
    draw_correlations,
    draw_edf,
    draw_optimum,
    draw_profile,
    edf_data,
    edf_figure,
    optima_by_regime_data,
    optima_by_regime_figure,
    optima_figure,
    optimum_data,
    optimum_figure,
    profile_figure,
    save,
)
from explorer.analysis.plots.style import COLUMN
from explorer.analysis.populations import analyse, fit_optimum, profile_table, winners_of
from tests.support.populations import population

ONE = population(80, 1, "one", optimum=1.05)
OTHER = population(80, 2, "other")
TABLES = analyse([ONE, OTHER]).tables
FOUND = fit_optimum(ONE, np.random.default_rng(0))


def test_a_distribution_begins_at_zero_and_ends_at_one() -> None:
    data = edf_data(TABLES["edf"])
    for one in (ONE, OTHER):
        mine = data[data["population"] == one.name]
        assert mine["share"].iloc[[0, -1]].tolist() == [0, pytest.approx(1)]
        assert mine["share"].is_monotonic_increasing
        assert mine["error"].iloc[[0, -1]].tolist() == pytest.approx([100 * one.errors.min(), 100 * one.errors.max()])
    assert not edf_data(TABLES["edf"], normalised=True)["share"].equals(data["share"])
    ax = draw_edf(data, Figure().add_subplot())
    assert [line.get_label() for line in ax.lines] == ["one", "other"]
    # a line tells what a colour tells
    assert len({line.get_linestyle() for line in ax.lines}) == 2


def test_every_recipe_winner_and_end_of_the_interval_is_drawn() -> None:
    data = optimum_data(ONE, FOUND, band=(1.0, 0.9, 1.1))
    counts = data["kind"].value_counts()
    assert counts[["recipe", "winner", "curve"]].tolist() == [80 - len(winners_of(ONE.errors)), 8, 101]
    at = data.set_index("kind")["x"]
    assert [at["optimum"], at["low"], at["high"]] == [FOUND.value, FOUND.low, FOUND.high]
    curve = data[data["kind"] == "curve"]
    assert curve.loc[curve["y"].idxmin(), "x"] == pytest.approx(FOUND.value, abs=0.01)
    # the curve is the model's for recipes of average FLOPs
    assert curve["y"].mean() == pytest.approx(100 * ONE.errors.mean(), rel=0.2)
    ax = draw_optimum(data, Figure().add_subplot())
    drawn = sum(len(part.get_offsets()) for part in ax.collections)
    assert drawn == 80
    assert len(draw_optimum(optimum_data(ONE, None), Figure().add_subplot()).lines) == 0


def test_an_interval_without_bounds_is_not_drawn() -> None:
    flat = population(40, 5, optimum=None)
    found = fit_optimum(flat, np.random.default_rng(0))
    assert not np.isfinite(found.high)
    assert "low" not in set(optimum_data(flat, found)["kind"])


def test_optima_over_the_regime_are_those_of_the_table() -> None:
    table = pd.DataFrame(
        {
            "network": ["a", "a", "b", "b"],
            "space": "inner",
            "regime": [0.5, 0.25, 0.5, np.nan],
            **{f"{name}{end}": [1.0, 1.1, 1.2, 1.3] for name in ("optimum", "winners") for end in ("", "_low")},
            "optimum_high": [1.1, 1.2, np.inf, 1.4],
            "winners_high": 2.0,
        }
    )
    data = optima_by_regime_data(table)
    assert data[["series", "regime", "optimum"]].to_numpy().tolist() == [
        ["a, inner", 0.25, 1.1],
        ["a, inner", 0.5, 1.0],
    ]
    assert not len(optima_by_regime_data(table.drop(columns="regime")))
    assert optima_by_regime_data(table.drop(columns=["network", "space"]))["series"].tolist() == ["all", "all"]


def test_bars_are_the_strongest_correlations() -> None:
    table = TABLES["correlations"][TABLES["correlations"]["population"] == "one"]
    data = correlation_data(table, most=5)
    assert len(data) == 5
    assert data["value"].abs().is_monotonic_decreasing
    ax = draw_correlations(data, Figure().add_subplot())
    assert [bar.get_width() for bar in ax.patches] == data["value"].tolist()
    assert [bar.get_facecolor() != (1, 1, 1, 1) for bar in ax.patches] == data["sure"].tolist()
    assert not len(correlation_data(table.assign(kendall=np.nan)))


def test_profiles_show_winners_beside_the_population() -> None:
    data = profile_table(ONE, winners_of(ONE.errors))
    ax = draw_profile(data, Figure().add_subplot())
    assert [line.get_label() for line in ax.lines] == ["population", "winners"]
    assert ax.lines[1].get_ydata().tolist() == data.loc[data["group"] == "winners", "median"].tolist()


def test_figures_fit_a_column_and_are_written_as_vectors(tmp_path: Path) -> None:
    figures = {
        "edf": edf_figure(TABLES["edf"]),
        "normalised": edf_figure(TABLES["edf"], normalised=True),
        "optimum": optimum_figure(ONE, FOUND, band=(1, 0.9, 1.1), title="one"),
        "profile": profile_figure(profile_table(ONE, winners_of(ONE.errors))),
        "correlations": correlation_figure(TABLES["correlations"]),
        "regimes": optima_by_regime_figure(TABLES["optima"]),
    }
    for name, figure in figures.items():
        assert figure.get_figwidth() == COLUMN
        paths = save(figure, tmp_path / name)
        assert {path.suffix for path in paths} == {".png", ".svg", ".pdf"}
        # text stays text
        assert "<text" in (tmp_path / f"{name}.svg").read_text()
    wide = optima_figure([ONE, OTHER], [FOUND, None])
    assert wide.get_figwidth() == 2 * COLUMN
    assert len([ax for ax in wide.axes if ax.axison]) == 2
