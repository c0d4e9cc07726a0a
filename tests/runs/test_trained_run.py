"""Runs whose candidates are trained: rungs, workers, what is retrained at the end, what is exported."""

from __future__ import annotations

import json
import re
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import explorer
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.training import Trainer
from explorer.search.jobs import Job
from spaces import PruningError
from tests.support.quick_runs import QUICK, table

TRAINED = [*QUICK, "trials=8", "evaluator=finetune", "evaluator.rungs=[0,1]", "evaluator.racing=true", "sampler=random"]
# of training
CLOCKS = r"images_per_second"


def stable(run) -> pd.DataFrame:
    found = table(run)
    return found.drop(columns=found.filter(regex=CLOCKS).columns)


def test_a_run_with_rungs_keeps_every_value_and_exports_what_it_trained(explore, folder):
    final = ["final.points=1", "final.seeds=2", "final.epochs=1"]
    code, out, _ = explore("run", *TRAINED, *final, "name=trained")
    assert code == 0, out
    run = folder / "results" / "trained"
    trials, summary = pd.read_csv(run / "trials.csv"), json.loads((run / "summary.json").read_text())
    promoted = trials["rung"] == 1
    assert 2 <= promoted.sum() < 8
    assert np.allclose(trials["error"], np.where(promoted, trials["error_rung1"], trials["error_rung0"]))
    assert set(trials["epochs"]) == {0, 1}
    # QUICK measures on 200 images
    assert trials["validation_inputs"].max() <= 200
    assert set(summary["tau"]) <= {"0-1"}
    retrained = pd.read_csv(run / "final.csv")
    assert retrained["point"][0] == "dense"
    assert len(retrained) == 2
    assert (retrained["n"] == 2).all()
    assert np.allclose(retrained["test_error"], retrained[["test_error_1", "test_error_2"]].mean(axis=1))
    assert "retrained" in out

    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    code, out, _ = explore("run", *TRAINED, *final, "name=trained")
    assert "is finished" in out
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}

    front = pd.read_csv(run / "frontier.csv")
    point = retrained["point"][1]
    for trial in front["trial"]:
        code, out, _ = explore("export", str(run), "--recipe", str(run / "recipes" / f"trial-{trial:04d}.yaml"))
        assert code == 0
        exported = run / "export" / f"trial-{trial:04d}"
        metrics = json.loads((exported / "model.json").read_text())["metrics"]
        assert isinstance(explorer.load(exported), torch.nn.Module)
        if exported.name == point:
            assert metrics["final_trainings"] == 2
            assert metrics["final_test_error"] == pytest.approx(retrained["test_error"][1])
            # of the training with the least validation error
            assert min(abs(metrics["test_error"] - retrained[f"test_error_{k}"][1]) for k in (1, 2)) < 1e-9


def test_a_timeout_ends_a_training_between_epochs_and_the_same_command_goes_on(explore, folder, monkeypatch):
    keys = [*QUICK, "trials=3", "ladder=1", "evaluator=finetune", "evaluator.rungs=[2]", "sampler=random"]
    assert explore("run", *keys, "name=straight")[0] == 0
    late: list[int] = []
    with monkeypatch.context() as patch:
        # the time is over in the first epoch of the second training
        patch.setattr(Job, "late", property(lambda job: job.number > 0 and not late.append(job.number)))
        clock = SimpleNamespace(
            time=time.time,
            perf_counter=time.perf_counter,
            sleep=time.sleep,
            monotonic=lambda: 1e9 if late else 0.0,
        )
        patch.setattr("explorer.search.search.time", clock)
        code, out, err = explore("run", *keys, "name=hurried", "timeout=1")
    assert code == 0, err
    assert "ended: timeout, the same command continues" in out
    run = folder / "results" / "hurried"
    assert (len(pd.read_csv(run / "trials.csv")), len(list(run.glob("checkpoints/*.state")))) == (1, 1)
    seen = []
    epoch = Trainer.epoch
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "epoch", lambda *a, **o: (seen.append(o["number"]), epoch(*a, **o))[1])
        code, out, err = explore("run", *keys, "name=hurried", "timeout=1000")
    assert code == 0, err
    # that of the check, and those that were left
    assert seen == [1, 2, 1, 2]
    pd.testing.assert_frame_equal(stable(run), stable(folder / "results" / "straight"))


def test_workers_give_the_same_candidates_the_same_values(explore, folder):
    code, out, _ = explore("run", *TRAINED, "name=inline")
    assert code == 0, out
    code, out, _ = explore("run", *TRAINED, "name=local", "executor=local", "executor.workers=2")
    assert code == 0, out
    ours, theirs = (stable(folder / "results" / name) for name in ("inline", "local"))
    choices = ours.filter(like="channels.").columns.tolist()
    both = ours.merge(theirs, on=choices, suffixes=("", "_theirs"))
    assert len(both) >= 6
    rung0 = both["validation_inputs"] == both["validation_inputs_theirs"]
    assert np.allclose(both.loc[rung0, "error_rung0"], both.loc[rung0, "error_rung0_theirs"])
    trained = both[both["error_rung1"].notna() & both["error_rung1_theirs"].notna()]
    assert np.allclose(trained["train_loss"], trained["train_loss_theirs"])
    assert not (folder / "results" / "local" / "workers").exists()


def test_from_python_the_best_is_built_as_it_was_measured(tmp_path):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(240, 6, generator=generator)
    labels = (inputs @ torch.randn(6, 3, generator=generator)).argmax(1)
    batches = list(zip(inputs.split(40), labels.split(40), strict=True))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 24), torch.nn.ReLU(), torch.nn.Linear(24, 3))
    study = explorer.explore(
        model,
        batches[:4],
        batches[4:],
        trials=6,
        evaluator={"name": "finetune", "rungs": [0, 2]},
        finetuning={"optimizer": "adamw", "learning_rate": 0.01},
        folder=tmp_path,
    )
    assert isinstance(study.problem.evaluator, Finetuned)
    assert isinstance(study.problem.meter.task.trivial, float)
    best = study.best(flops=1.0)
    assert best.metrics["rung"] == 1
    for built in (best.build(), best.executed().module):
        error = study.problem.meter.task.evaluate(built, study.problem.meter.validation).error
        assert error == pytest.approx(best.metrics["error"])
    untrained = explorer.explore(model, batches[:4], batches[4:], trials=2)
    assert isinstance(untrained.problem.evaluator, Inherited)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluator": "finetun"}, "evaluator: 'finetun' is unknown, did you mean 'finetune'?"),
        (
            {"evaluator": {"name": "finetune", "rung": [1]}},
            "evaluator: 'rung' is unknown, did you mean 'rungs'? Allowed: name, positions, ridge, racing, rungs, eta",
        ),
        ({"evaluator": {"name": "inherit", "racing": 1}}, "evaluator.racing: 1, allowed is true or false"),
        ({"evaluator": {"name": "scratch", "rungs": [0, 2]}}, "evaluator.rungs"),
        ({"executor": {"name": "local", "workers": 0}}, "executor.workers: 0"),
        ({"executor": "slurm"}, "executor.workers: not given, and needed by slurm"),
        ({"finetuning": {"optimiser": "sgd"}}, "finetuning: 'optimiser' is unknown, did you mean 'optimizer'?"),
        ({"finetuning": {"optimizer": "adam"}}, "finetuning.optimizer: 'adam' is unknown, did you mean 'adamw'?"),
    ],
)
def test_mistakes_are_one_line(options, message):
    batches = [(torch.zeros(4, 6), torch.tensor([0, 1, 2, 0]))]
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    with pytest.raises(PruningError, match=re.escape(message)) as caught:
        explorer.explore(model, batches, batches, **options)
    assert "\n" not in str(caught.value)


def test_a_latency_that_nothing_reaches_is_one_line(explore):
    code, _, err = explore("run", *QUICK, "sampler=random", "name=slow", "budget.latency_ms=0.0001")
    assert code == 2
    assert err.startswith("explore: budget: the latency of all 50 recipes that were measured is over it")
