"""`explore report`: where its page goes, what it says of bad folders, and the command that makes a run again."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from explorer.analysis.report import command_of, overrides_of
from explorer.runs.composing import compose
from tests.support.quick_runs import QUICK
from tests.support.study_folders import write_study


def test_a_page_is_written_into_the_folder_of_one_and_beside_several(explore, folder):
    one = write_study(folder / "sweep" / "a")
    write_study(folder / "sweep" / "b", seed=1)
    for arguments, expected in (
        (["sweep/a"], "sweep/a/report.html"),
        (["sweep"], "sweep/report.html"),
        (["sweep/a", "sweep/b"], "report.html"),
        (["sweep", "--out", "new/page.html"], "new/page.html"),
    ):
        code, out, _ = explore("report", *arguments)
        assert (code, out.splitlines()[-1]) == (0, f"report: {expected}")
        text = (folder / expected).read_text()
        assert text.startswith("<!DOCTYPE html>")
        assert "src=" not in text.partition('id="data"')[0]
        assert f"{one.path.name}" in text
    assert not list(folder.rglob(".report*"))


def test_what_is_left_out_of_a_multirun_is_said(explore, folder):
    write_study(folder / "half" / "a")
    (write_study(folder / "half" / "b").path / "summary.json").unlink()
    code, out, _ = explore("report", "half")
    assert code == 0
    assert "left out: the run in 'half/b' has not ended once" in out
    assert "has not ended once" in (folder / "half" / "report.html").read_text()


def test_runs_and_multiruns_leave_a_page_and_say_where(explore, folder):
    quick = ["sampler=random", *QUICK, "trials=4", "ladder=2"]
    code, out, err = explore("run", *quick, "name=paged")
    assert (code, out.splitlines()[-1]) == (0, "report: results/paged/report.html"), err
    page = folder / "results" / "paged" / "report.html"
    before = page.stat().st_mtime_ns
    code, out, _ = explore("run", *quick, "name=paged")
    assert (code, out.splitlines()[-1]) == (0, "report: results/paged/report.html")
    assert page.stat().st_mtime_ns == before, "a page that shows all is only named"
    code, out, err = explore("run", "-m", *quick, "name=several", "seed=0,1")
    assert (code, out.splitlines()[-1]) == (0, "report: results/several/report.html"), err
    # the page of all jobs is enough
    assert [path.parent.name for path in (folder / "results" / "several").rglob("report.html")] == ["several"]
    assert "2 runs, 8 trials" in (folder / "results" / "several" / "report.html").read_text()


BAD = {
    "none": (["none"], "'none' is no folder that is there"),
    "empty": (["empty"], "holds neither a run nor the runs of a multirun"),
    "cut": (["cut"], "network.yaml not there or cut"),
    "no folder": ([], "the following arguments are required"),
    "one to compare": (["whole", "--compare"], "compare: 1 folders are given, allowed are two"),
    "a folder as page": (["whole", "--out", "empty"], "'empty' is a folder"),
    "unwritable": (["whole", "--out", "/proc/none/report.html"], "can't be written"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(explore, folder, case):
    (folder / "empty").mkdir(exist_ok=True)
    write_study(folder / "whole")
    write_study(folder / "cut").path.joinpath("network.yaml").write_text("name: ch")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    arguments, words = BAD[case]
    code, out, err = explore("report", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_two_sets_are_compared_in_words_on_the_screen_and_on_the_page(explore, folder):
    for seed in (0, 1):
        write_study(folder / "good" / f"s{seed}", seed=seed)
        write_study(folder / "bad" / f"s{seed}", seed=seed, worse=0.1)
    code, out, _ = explore("report", "good", "bad", "--compare", "--out", "compared.html")
    assert code == 0
    first, *_ = lines = out.splitlines()
    assert first.startswith("hypervolume: good ")
    assert "good is better by" in first
    assert lines[-1] == "report: compared.html"
    assert first in (folder / "compared.html").read_text()


def test_the_figures_are_written_for_papers(explore, folder):
    for seed in (0, 1):
        write_study(folder / "drawn" / f"f{seed}", seed=seed, rungs=2)
        write_study(folder / "drawn" / f"t{seed}", "space=tile", "space.width=8", seed=seed)
    code, out, _ = explore("report", "drawn", "--plots")
    assert code == 0
    plots = folder / "drawn" / "plots"
    names = {"frontiers", "hypervolume", "attainment", "importance-filter", "ratios-filter", "rungs-filter"}
    names |= {"importance-tile", "ratios-tile", "sensitivity-filter", "sensitivity-tile"}
    assert {path.name for path in plots.iterdir()} == {f"{n}.{kind}" for n in names for kind in ("png", "svg", "pdf")}
    assert all(f"plot: drawn/plots/{name}.png" in out for name in names)


RUNS = {
    "defaults": [],
    "choices": ["model=vit_digits", "space=tile", "space.width=8", "sampler=tpe", "seed=3", "trials=12"],
    "values": ["budget.flops=[0.2,0.5]", "objectives=[error,params]", "latency.seconds=null", "ladder=[0.75,0.5]"],
    "texts": [
        "data=cifar10",
        "data.path='my data/$HOME \"x\"'",
        "name='my run'",
        "evaluator=finetune",
        "evaluator.rungs=[0,1]",
    ],
    "additions": ["model=timm", "model.architecture=resnet18", "+model.drop_rate=0.1", "+model.note='a: {b}'"],
    "lists": ["baselines=[uniform,lamp]", "budget.params=100k", "device=cpu", "sampler.warm_start=[results/a]"],
    "words": ["+model.a='true'", "+model.b='1e3'", "+model.c='null'", "+model.d='a,b'", "+model.e=''"],
}


@pytest.mark.parametrize("case", RUNS)
def test_the_command_of_a_run_composes_its_configuration(case):
    overrides = RUNS[case]
    config = compose(overrides)[0]
    line = shlex.split(command_of(config | {"identity": {}, "facts": {}}))
    assert line[:2] == ["explore", "run"]
    assert compose(line[2:])[0] == config
    # what need not be said is not
    assert len(line) - 2 <= len(overrides)


def test_the_command_of_a_population_is_one_of_populations():
    config = compose(["space=tile", "n=40", "regime.flops=0.25", "sampler=random"], config="population")[0]
    line = shlex.split(command_of(config))
    assert line[:2] == ["explore", "population"]
    assert set(line[2:]) == {"space=tile", "regime.flops=0.25", "n=40"}
    assert compose(line[2:], config="population")[0] == config
    assert overrides_of(compose([], config="population")[0]) == []


def test_a_name_that_a_run_made_itself_is_no_override():
    config = compose([])[0]
    assert overrides_of(config | {"name": "resnet_digits-digits-filter-l1-inherit-frontier-s0-f625bd29"}) == []
    assert overrides_of(config | {"name": "mine"}) == ["name=mine"]


def test_the_page_does_not_import_torch(folder):
    write_study(folder / "free")
    code = (
        "import sys; from pathlib import Path; from explorer.analysis.report import report_page;"
        "from explorer.analysis.studies import read_results; report_page(*read_results([Path('free')]));"
        "assert not {'torch', 'hydra', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, env={"PYTHONPATH": str(Path.cwd())})
