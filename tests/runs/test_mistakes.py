"""Every mistake of a user is one line that names the key, exit code 2, and nothing written."""

from __future__ import annotations

import subprocess
import sys

import pytest

from spaces import PruningError, first_line
from tests.support.quick_runs import QUICK

MISTAKES = {
    "unknown model": (["run", "model=resnet21"], "model: 'resnet21' is unknown, did you mean 'resnet"),
    "misspelt key": (["run", "trails=5"], "did you mean 'trials'"),
    "misspelt group": (["run", "modle=resnet20"], "did you mean 'model'"),
    "misspelt inner key": (["run", "budget.flop=.5"], "did you mean 'budget.flops'"),
    "added key": (["run", "+foo=1"], "key: 'foo' is unknown"),
    "unknown command": (["rum"], "did you mean 'run'"),
    "unknown flag": (["inspect", "--jsn"], "flag: '--jsn' is unknown, did you mean '--json'"),
    "argument of a class": (
        ["run", "model=custom", "model._target_=torch.nn.Linear", "+model.in_featurse=3"],
        "model: 'in_featurse' is unknown, did you mean 'in_features'",
    ),
    "trials": (["run", "trials=0"], "trials: 0, allowed is a whole number >= 1"),
    "ratio 0": (["run", "space.channels=[{match: a, choices: [{granularity: filter, ratios: [0]}]}]"], "ratio 0"),
    "ratio 1.5": (["run", "space.channels=[{match: a, choices: [{granularity: filter, ratios: [1.5]}]}]"], "ratio 1.5"),
    "granularity": (["run", "space.channels=[{match: a, choices: [{granularity: filtre}]}]"], "did you mean 'filter'"),
    "no match": (
        ["run", "space.channels=[{match: block*, choices: [{granularity: filter, ratios: [1, .5]}]}]"],
        "'block*' matches none of the units",
    ),
    "ladder": (["run", "ladder=-1"], "ladder: -1, allowed is a whole number >= 0"),
    "ladder of percents": (["run", "ladder=[50]"], "ladder: ratio 50 is not a share kept"),
    "n above m": (
        ["run", "space=vector", "space.weights=[{match: a, choices: [{granularity: vector, n: 5, m: 4}]}]"],
        "space.weights[0].choices.n: 5 of every 4 weights, allowed is n <= m",
    ),
    "tile width": (["run", "space=tile", "space.width=0"], "choices.width: 0, allowed is a whole number >= 1"),
    "pattern ratio": (["run", "space=element", "space.ratios=[2]"], "ratio 2 is not a share kept"),
    "tile_vector ratio": (["run", "space=tile_vector", "space.ratios=[.6]"], "0.6, allowed is a ratio up to n/m=2/4"),
    "delta": (["run", "space=tile_element", "space.ratios=[.05]"], "0.05, allowed is a ratio above delta=0.05"),
    "weights no match": (["run", "space=tile", "space.match=lyer*"], "'lyer*' matches none of the layers"),
    "blocks no match": (["run", "space=layer", "space.match=x*"], "'x*' matches none of the blocks"),
    "block kept by half": (
        ["run", "+space.blocks=[{match: a, choices: [{granularity: layer, ratios: [.5]}]}]"],
        "0.5, allowed is 1 (kept) and 0 (dropped)",
    ),
    "misspelt knob": (["run", "space=tile", "+space.widht=3"], "space: 'widht' is unknown"),
    "empty regime": (["run", "budget.flops=0.001"], "budget.flops: [0, 0.001] of dense holds no recipe"),
    "budget": (["run", "budget.flops=-1"], "budget.flops: -1"),
    "no data folder": (
        ["run", "data=images", "data.path=nowhere"],
        "data.path: 'nowhere' is no file or folder that is there",
    ),
    "no weights": (["run", "model.weights=nowhere.safetensors"], "model.weights: 'nowhere.safetensors' is no file"),
    "nothing to prune": (["run", "model=custom", "model._target_=torch.nn.Flatten"], "has nothing to prune"),
    "no target": (["run", "model=custom"], "model._target_: not given"),
    "bad target": (["run", "model=custom", "model._target_=nowhere.Net"], "model._target_: 'nowhere.Net' can't be"),
    "sampler option": (["run", "sampler=tpe", "+sampler.options.foo=1"], "sampler.options: tpe"),
    "sweep without -m": (["run", "seed=0,1"], "-m is needed"),
    "reserved name": (["run", "name=reference"], "name: 'reference'"),
    "objective": (["run", "objectives=[error,flop]"], "did you mean 'flops'"),
    "device": (["run", "device=gpu"], "device: 'gpu'"),
    "word without a value": (
        ["run", "trials"],
        "'trials': a word without a value, allowed is key=value, such as trials=64",
    ),
    "group without a value": (["run", "modl"], "'modl': a word without a value, allowed is key=value, such as model="),
    "open bracket": (["run", "space.ratios=[1,.5"], "space.ratios: its value can't be read, allowed is key=value"),
    "nothing after a comma": (["run", "seed=1,"], "seed: its value can't be read, allowed is key=value"),
    "folder for a key": (["run", "results/mine"], "'results/mine': a word without a value, allowed is key=value"),
    "baseline family": (["run", "baseline_family=tiel"], "baseline_family: 'tiel' is unknown, did you mean 'tile'?"),
    "space file": (["run", "space=file", "space.path=nowhere.yaml"], "space.path: 'nowhere.yaml' can't be read"),
    "words for a number": (
        ["run", "evaluator.batch_size=abc"],
        "evaluator.batch_size: 'abc', allowed is a whole number",
    ),
    "no calibration": (["run", "evaluator.calibration_batches=0"], "evaluator.calibration_batches: 0"),
    "epochs": (["run", "training.epochs=-1"], "training.epochs: -1"),
    "mean": (["run", "model.mean=1"], "model.mean: 1, allowed is a list"),
    "mean of letters": (["run", "model.mean=[a]", "model.std=[1]"], "model.mean: 'a'"),
    "nested objectives": (["run", "objectives=[[error]]"], "objectives: "),
    "budget of words": (["run", "budget.flops=abc"], "budget.flops: 'abc' is no amount"),
    "budget a number": (["run", "budget=3"], "budget"),
    "section removed": (["run", "~budget"], "budget: not given"),
    "key removed": (["run", "~seed"], "seed: not given"),
    "latency of words": (["run", "budget.latency_ms=abc"], "budget.latency_ms: 'abc'"),
    "nothing before =": (["run", "=3"], "config: "),
    "config dir": (["run", "--config-dir", "nowhere"], "--config-dir: 'nowhere' is no folder"),
    "added to a closed group": (["run", "+evaluator.foo=3"], "key: 'evaluator.foo' is unknown"),
    "key of another option": (["run", "data.validation=2"], "key: 'data.validation' is one of data="),
    "folder in a name": (["run", "model.name=a/b"], "the run's name: 'a/b-digits"),
    "hidden name": (["run", "name=.cache"], "name: '.cache'"),
    "sampler option of words": (
        ["run", "sampler=tpe", "+sampler.options.n_startup_trials=abc"],
        "sampler.options: tpe can't work",
    ),
    "outputs": (["run", "+model.num_classes=4"], "model: it returns a torch.float32 tensor of shape [2, 4]"),
    "swept name": (["run", "-m", "name=a,b"], "name: it can't be swept"),
    "export without a folder": (["export"], "export: the following arguments are required: folder"),
    "inspect in vain": (["inspect", "-m", "model=resnet_digits,resnet21"], "model: 'resnet21' is unknown"),
    "export of nothing": (["export", "nowhere"], "folder: 'nowhere' is no folder"),
    "storage": (
        ["run", "storage=rdb", "storage.url=nodb://x:secret@y/z", "trials=1"],
        "storage.url: 'nodb://x:***@y/z'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2_and_writes_nothing(explore, folder, name):
    arguments, message = MISTAKES[name]
    before = sorted(path for path in folder.rglob("*") if ".cache" not in path.parts)
    code, _, err = explore(*arguments)
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert message in err
    assert sorted(path for path in folder.rglob("*") if ".cache" not in path.parts) == before


def test_a_checkpoint_of_another_network_is_one_line(explore, tmp_path):
    from safetensors.torch import save_file

    from explorer.models import build

    save_file({k: v.contiguous() for k, v in build("resnet20").state_dict().items()}, tmp_path / "other.safetensors")
    code, _, err = explore("run", f"model.weights={tmp_path / 'other.safetensors'}")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("explore: model.weights: ")


def test_a_corrupt_parquet_is_one_line(explore, tmp_path):
    (tmp_path / "train-00000.parquet").write_bytes(b"PAR1 not really PAR1")
    code, _, err = explore("run", "model=resnet20", "data=images", f"data.path={tmp_path}")
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith("explore: data.path: ")


@pytest.mark.parametrize("trained", [False, True])
def test_a_results_folder_that_cannot_be_written_is_one_line(explore, tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    weights = []
    if trained:
        from safetensors.torch import save_file

        from explorer.models import build

        save_file({k: v.contiguous() for k, v in build("resnet_digits").state_dict().items()}, "dense.safetensors")
        weights = ["model.weights=dense.safetensors"]
    # a file in the folder's place: root, as in a container, may write to a read-only one
    (tmp_path / "results").write_text("")
    code, _, err = explore("run", *QUICK, *weights)
    assert (code, err.count("\n")) == (2, 1), err
    assert "can't be written" in err


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path):
    command = f"{sys.executable} -m explorer inspect --json | head -c 20"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert (len(done.stdout), done.stderr) == (20, "")


@pytest.mark.parametrize(("said", "line"), [("", ""), ("one", "one"), ("one\ntwo", "one"), ("\n", "")])
def test_an_error_is_told_by_its_first_line(said, line):
    assert first_line(ValueError(said)) == line


@pytest.mark.parametrize(("error", "line"), [(MemoryError(), "MemoryError"), (MemoryError("a\nb"), "a")])
def test_memory_that_runs_out_is_one_line_also_where_python_says_nothing(error, line):
    from explorer.evaluation.training import within_memory

    def work() -> None:
        raise error

    with pytest.raises(PruningError, match=f"^out of memory: {line}$"):
        within_memory(work)


# keys that are no part of what a run is: a finished one is answered whatever they are
CIRCUMSTANCES = [
    "device=gpu", "trials=0", "timeout=-1", "latency.seconds=-1", "executor=local executor.workers=0", "final.seeds=0",
    "baselines=[unifrom]", "baseline_family=tiel", "baseline_targets.flops=[-1]", "storage=rdb storage.url=3",
    "executor=slurm executor.partition=3",
]  # fmt: skip


@pytest.mark.parametrize("keys", CIRCUMSTANCES)
def test_a_wrong_value_is_refused_where_the_run_is_finished_too(explore, keys):
    small = [*QUICK, "trials=2", "ladder=0", "sampler=random", "name=finished"]
    assert explore("run", *small)[0] == 0
    code, out, err = explore("run", *small, *keys.split())
    assert (code, err.count("\n"), "is finished" in out) == (2, 1, False), err
