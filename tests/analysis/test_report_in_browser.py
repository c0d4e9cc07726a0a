"""The report's page in a headless Chromium: what it shows, asks for and says, at any width, light and dark."""

from __future__ import annotations

import time

import pandas as pd
import pytest

from explorer.analysis.report import report_page
from explorer.analysis.studies import read_results
from tests.support.browser import opened_browser
from tests.support.study_folders import write_study

STRANGE = "<img src=x onerror=alert(1)> $$\\sqrt{2}$$ </script><script>alert(2)</script> &amp; 100 %"


# every figure that is not hidden
DRAWN = (
    "return [...document.querySelectorAll('.figure')].every((one) => one.offsetParent === null || one.children.length)"
)


@pytest.fixture(scope="module")
def browser():
    found = opened_browser()
    yield found
    found.driver.quit()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A page of two spaces and two seeds, of which some trials failed."""
    root = tmp_path_factory.mktemp("sweep")
    for seed in range(2):
        write_study(root / f"filter-{seed}", "space=filter", seed=seed, failed=3)
        write_study(root / f"tile-{seed}", "space=tile", "space.width=8", seed=seed, worse=0.05, rungs=2)
    page = root / "report.html"
    page.write_text(report_page(*read_results([root])))
    return page


@pytest.fixture
def opened(browser, sweep):
    browser.open(sweep)
    return browser


def scrolled(browser) -> None:
    """Look at the whole page, so that every figure is drawn."""
    # figures that are drawn make the page longer
    for _ in range(50):
        height = browser.run("return document.documentElement.scrollHeight")
        for top in range(0, height, 500):
            browser.run("scrollTo(0, arguments[0])", top)
        if browser.run(DRAWN):
            return
        time.sleep(0.1)
    browser.wait(DRAWN)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_asked_of_the_network_nothing_is_complained_of_and_nothing_is_wider_than_the_page(
    browser, sweep, width, dark
):
    browser.open(sweep, width=width, dark=dark)
    scrolled(browser)
    browser.click(".log-x")
    browser.click(".log-y")
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints() == []
    assert browser.asked() == []
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in ground.strip("rgb()").split(","))
    assert (brightness < 200) == dark


def test_the_colours_of_figures_follow_the_theme(browser, sweep):
    colours = []
    for dark in (False, True):
        browser.open(sweep, dark=dark)
        script = "return Bokeh.documents[0].get_model_by_name('x-linear').major_label_text_color"
        colours.append(browser.run(script))
    assert colours[0] != colours[1]


def test_the_pointer_shows_error_with_its_interval_costs_and_latency(opened):
    opened.point_at("front-0", 2)
    said = opened.hovered()
    assert opened.column("front-0", "name")[2] in said
    assert opened.column("front-0", "error")[2] in said
    assert "±" in said
    assert "of dense" in said
    assert "ms" in said


def test_a_tap_shows_layers_recipe_and_the_command_that_exports(opened, sweep):
    opened.point_at("front-0", 3, click=True)
    name = opened.column("front-0", "name")[3]
    opened.wait(f"return document.querySelector('.panel .title').innerText.toLowerCase() === {name!r}")
    trial, seed = name.split(",")[0].split()[1], name.split()[-1]
    folder = sweep.parent / f"filter-{seed}"
    recipe = folder / "recipes" / f"trial-{int(trial):04d}.yaml"
    said = [line for line in recipe.read_text().splitlines() if not line.startswith(("#", "..."))]
    assert opened.text(".panel .recipe").splitlines() == said
    assert opened.text(".panel .export") == f"explore export {folder} --trial {trial}"
    layers = opened.texts(".panel .layer")
    assert len(layers) == 6
    ratio = float(next(line for line in said if "l0:" in line).split()[1]) if any("l0:" in x for x in said) else 1.0
    assert layers[0].split() == ["l0", str(round(32 * ratio)), "of", "32"]
    assert "95 % interval" in opened.text(".panel")


def test_patterns_are_named_beside_their_layers(opened):
    opened.point_at("front-1", 0, click=True)
    opened.wait("return document.querySelector('.panel .title').innerText.includes('tile')")
    assert "tile(width=8)" in opened.text(".panel .layers")


def test_the_slider_names_the_best_within_a_budget(opened):
    for value, most in ((1000, 1.0), (500, 0.6)):
        opened.give(".slider", value)
        best = opened.text(".best")
        errors = [
            (error, trial)
            for place in range(2)
            for error, x, trial in zip(
                opened.column(f"front-{place}", "y"),
                opened.column(f"front-{place}", "x"),
                opened.column(f"front-{place}", "name"),
                strict=True,
            )
            if x <= opened.run("return Bokeh.documents[0].get_model_by_name('budget').location") * (1 + 1e-9)
        ]
        least, name = min(errors)
        assert best.startswith(f"Best within it: {name.split(',')[0]} of")
        assert f"error {least:.2f} ±" in best
        share = float(opened.text(".budget-value").split("(")[1].split()[0])
        assert share <= most + 1e-9
        assert opened.text(".panel .title").lower().startswith(name.split(",")[0])
    opened.give(".slider", 0)
    assert "none within it" in opened.text(".best-table")


def test_the_cost_can_be_chosen_and_axes_be_logarithmic(opened):
    opened.give(".cost", "params", "change")
    assert opened.run("return Bokeh.documents[0].get_model_by_name('x-linear').axis_label") == "parameters (k)"
    before = opened.column("front-0", "x")
    opened.click(".log-x")
    assert opened.run("return Bokeh.documents[0].get_model_by_name('x-log').visible")
    assert opened.run("return Bokeh.documents[0].get_model_by_name('frontier').x_scale.type") == "LogScale"
    assert opened.column("front-0", "x") == before
    opened.give(".cost", "latency_ms", "change")
    assert all(1 <= value <= 2 for value in opened.column("front-0", "x"))


def test_series_can_be_hidden(opened):
    assert opened.column("front-1", "x")
    opened.click(".toggles button", 1)
    assert opened.column("front-1", "x") == []
    assert "tile" not in opened.text(".best-table")
    opened.click(".toggles button", 1)
    assert opened.column("front-1", "x")


def test_headings_sort_both_ways_with_what_is_not_known_last(opened):
    opened.click(".more")
    heads = opened.texts(".trials th")
    place = next(i for i, head in enumerate(heads) if head.startswith("validation error"))

    def errors() -> list[str]:
        opened.click(".trials th button", place)
        return opened.texts(f".trials td:nth-child({place + 1})")

    up, down = errors(), errors()
    numbers = [float(value) for value in up if value]
    assert numbers == sorted(numbers)
    assert [float(value) for value in down if value] == sorted(numbers, reverse=True)
    assert len(up) == 160
    assert up[-10:] == down[-10:] == [""] * 10
    opened.click(".runs th button", 4)
    volumes = [float(value) for value in opened.texts(".runs td:nth-child(5)")]
    assert volumes == sorted(volumes)


def test_failed_trials_stand_with_their_reasons(opened):
    opened.click(".only-failed")
    assert opened.texts(".trials td.reason") == ["out of memory"] * 10
    opened.click(".trials tbody tr", 0)
    assert "out of memory" in opened.text(".panel")


def test_the_series_whose_axes_are_shown_is_chosen(opened):
    shown = "return [...document.querySelectorAll('.detail')].map((one) => one.hidden)"
    assert opened.run(shown) == [False, True]
    opened.give(".which", "1", "change")
    assert opened.run(shown) == [True, False]
    scrolled(opened)
    opened.wait(
        "return [...document.querySelectorAll('.detail:not([hidden]) .figure')].every((one) => one.children.length)"
    )
    assert "Sensitivity: " in opened.text(".detail:not([hidden])")
    assert "Kendall's tau" in opened.text(".detail:not([hidden])")
    assert opened.complaints() == []


def test_text_of_strangers_stays_text(browser, tmp_path):
    write_study(tmp_path / "a", reason=STRANGE, warnings=[STRANGE])
    write_study(tmp_path / "b", f'+model.note="{STRANGE}"', seed=1)
    page = tmp_path / "report.html"
    page.write_text(report_page(*read_results([tmp_path])))
    browser.open(page)
    scrolled(browser)
    browser.click(".only-failed")
    assert browser.text(".trials td.reason") == STRANGE
    assert STRANGE in browser.text(".notes")
    assert browser.run("return document.querySelectorAll('img').length") == 0
    browser.point_at("front-0", 0)
    assert browser.hovered()
    assert browser.complaints() == []
    assert browser.asked() == []


def test_a_page_of_a_study_in_which_all_failed_is_drawn(browser, tmp_path):
    write_study(tmp_path / "a", trials=4, failed=4)
    page = tmp_path / "report.html"
    page.write_text(report_page(*read_results([tmp_path / "a"])))
    browser.open(page)
    scrolled(browser)
    assert browser.text(".best") == "No sub-network has this cost measured."
    assert browser.complaints() == []


def test_populations_baselines_and_retrained_points_are_shown_where_there_are_some(browser, tmp_path):
    folder = write_study(tmp_path / "a")
    costs = {f"{cost}{kind}": 0.5 for cost in ("flops", "params", "bytes") for kind in ("", "_ratio")}
    baseline = {"baseline": "uniform", "allocation": "uniform", "family": "channels", "target": "flops", "asked": "0.5"}
    folder.write_baselines(pd.DataFrame([{**baseline, "state": "COMPLETE", "error": 0.2, "error_se": 0.01, **costs}]))
    point = {"point": "trial-0001", "n": 2, "epochs": 1, "weights": "w", "reason": None, **costs}
    errors = {"test_error": 0.125, "test_error_sd": 0.01, "error": 0.1, "error_sd": 0.01}
    folder.write_final(
        pd.DataFrame([{**point, **errors}, {**point, "point": "trial-0002", "n": 0, "reason": "NaN loss"}])
    )
    (folder.path / "population").mkdir()
    steps = pd.DataFrame({"population": ["p", "p", "q"], "error": [0.1, 0.2, 0.3], "share": [0.5, 1, 1]})
    table = pd.concat([steps.assign(normalised=kind, low=0.1, high=1.0) for kind in (False, True)])
    table.to_csv(folder.path / "population" / "edf.csv", index=False)
    pd.DataFrame({"words": ["p is better"]}).to_csv(folder.path / "population" / "comparisons.csv", index=False)
    page = tmp_path / "report.html"
    page.write_text(report_page(*read_results([folder.path]), folders=[folder.path]))
    browser.open(page)
    scrolled(browser)
    assert browser.column("baselines", "error") == ["20.00 ± 1.00"]
    assert browser.column("baselines", "name") == ["uniform allocation (channels), flops 0.5"]
    assert "trial-0001" in browser.text(".group")
    assert "12.50" in browser.text(".group")
    assert "failed: NaN loss" in browser.text(".group")
    assert browser.text(".population h2") == "Populations: p, q"
    assert "p is better" in browser.text(".population")
    assert len(browser.texts(".population .figure")) == 2
    assert browser.complaints() == []
