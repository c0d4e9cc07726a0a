"""Executors: every job comes back once, whatever happens to the workers."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explorer.bench.cases import Case
from explorer.data.task import classification
from explorer.evaluation.evaluator import Inherited
from explorer.search.executors import make_executor
from explorer.search.executors.local import Local
from explorer.search.executors.payload import read, write
from explorer.search.executors.wire import connect
from explorer.search.jobs import Executor, Job, OverBudgetError, attempt
from spaces import PruningError, Recipe

Section = dict[str, Any]


def _needs(name: str) -> Any:
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


INLINE = {"name": "inline"}
LOCAL = {"name": "local", "workers": 2, "threads": 1}
RAY = {"name": "ray", "address": None, "workers": 2, "cpus": 0.5, "gpus": 0}
SLURM = {
    "name": "slurm",
    "workers": 2,
    "cluster": "local",
    "partition": None,
    "minutes": 5,
    "cpus": 1,
    "gpus": 0,
    "memory_gb": None,
    "parameters": {},
}
ALL = [
    pytest.param(INLINE, id="inline"),
    pytest.param(LOCAL, id="local"),
    pytest.param(RAY, id="ray", marks=[_needs("ray"), pytest.mark.slow]),
    pytest.param(SLURM, id="slurm", marks=_needs("submitit")),
]
POOLS = ALL[1:]


@contextlib.contextmanager
def executor(section: Section, evaluate: Callable[..., Any], folder: Path) -> Iterator[Executor]:
    made = make_executor(section, evaluate, folder=folder, device="cpu")
    try:
        yield made
    finally:
        made.close()


def run(made: Executor, jobs: list[Job], limit: float = 90) -> dict[int, Any]:
    """Return the results by number, every job being asked for exactly once."""
    left, results = list(jobs), {}
    end = time.monotonic() + limit
    while len(results) < len(jobs):
        assert time.monotonic() < end, f"{len(results)} of {len(jobs)} after {limit} s"
        while left and len(jobs) - len(left) - len(results) < made.slots:
            made.submit(left.pop(0))
        for job, result in made.wait(1):
            assert job.number not in results
            results[job.number] = result
    assert made.wait(0) == []
    return results


def jobs(count: int) -> list[Job]:
    return [Job(number, Recipe.of({"a": (number + 1) / (count + 1)})) for number in range(count)]


def gone(process: int) -> bool:
    """Tell whether a process ended, or is a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("section", ALL)
def test_all_jobs_come_back_once_with_metrics_or_a_reason(section, tmp_path):
    def evaluate(job: Job) -> dict[str, float]:
        if job.number == 1:
            raise ValueError("first line\nsecond")
        if job.number == 2:
            raise OverBudgetError(0.25)
        if job.number == 3:
            raise PruningError("layer: no good")
        return {"error": job.recipe.ratios["a"], "process": float(os.getpid())}

    with executor(section, evaluate, tmp_path) as made:
        assert made.slots == section.get("workers", 1)
        results = run(made, jobs(8))
    assert [results[i].reason for i in (1, 2, 3)] == ["ValueError: first line", None, "layer: no good"]
    assert results[2].excess == 0.25
    for job in (jobs(8)[i] for i in (0, 4, 5, 6, 7)):
        assert results[job.number].metrics["error"] == job.recipe.ratios["a"]
    if section is not INLINE:
        assert os.getpid() not in {result.metrics.get("process") for result in results.values()}
    assert not list(tmp_path.glob("payload-*"))


@pytest.mark.parametrize("section", POOLS)
def test_a_job_whose_worker_is_killed_is_run_again_once(section, tmp_path):
    def evaluate(job: Job) -> dict[str, float]:
        trace = tmp_path / f"job-{job.number}"
        with trace.open("a") as file:
            file.write("x")
        if job.number == 1 or (job.number == 2 and len(trace.read_text()) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return {"error": 0.5}

    with executor(section, evaluate, tmp_path / "workers") as made:
        results = run(made, jobs(5))
    assert results[1].reason is not None
    assert "the worker died twice" in results[1].reason
    assert "\n" not in results[1].reason
    assert [results[i].metrics for i in (0, 2, 3, 4)] == [{"error": 0.5}] * 4
    assert [len((tmp_path / f"job-{i}").read_text()) for i in range(5)] == [1, 2, 2, 1, 1]


def test_a_death_is_told_with_its_signal_or_last_words(tmp_path):
    def evaluate(job: Job) -> dict[str, float]:
        if job.number:
            sys.exit("no licence")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    with executor(LOCAL, evaluate, tmp_path) as made:
        results = run(made, jobs(2))
    assert results[0].reason == "the worker died twice (signal 9, out of memory?)"
    assert results[1].reason == "the worker died twice (exit code 1: no licence)"


class Unloadable:
    """Raises where it is unpickled."""

    def __call__(self, job: Job) -> dict[str, float]:
        return {}

    def __reduce__(self) -> Any:
        return exec, ("raise RuntimeError('no such device\\nat all')",)


@pytest.mark.parametrize("section", [LOCAL, pytest.param(SLURM, marks=[_needs("submitit"), pytest.mark.slow])])
def test_workers_that_cannot_start_are_given_up_with_their_reason(section, tmp_path):
    reason = r"no worker can be started: .*RuntimeError: no such device"
    with pytest.raises(PruningError, match=reason) as caught, executor(section, Unloadable(), tmp_path) as made:
        run(made, jobs(2))
    assert "\n" not in str(caught.value)


def test_nobody_waits_for_the_slowest(tmp_path):
    gate = tmp_path / "gate"

    def evaluate(job: Job) -> dict[str, float]:
        while job.number == 0 and not gate.exists():
            time.sleep(0.01)
        return {"error": 0.5}

    with executor(LOCAL, evaluate, tmp_path) as made:
        asked = jobs(20)
        made.submit(asked.pop(0))
        for job in asked:
            made.submit(job)
            assert [ended for ended, _ in made.wait(30)] == [job]
        gate.touch()
        assert [ended.number for ended, _ in made.wait(30)] == [0]


def test_strangers_keep_nobody_out(tmp_path):
    with executor(LOCAL, lambda job: {"error": 0.5}, tmp_path) as made:
        address = ("127.0.0.1", made._lobby.port)
        with socket.create_connection(address), socket.create_connection(address) as rude:
            rude.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(OSError, match="can't be reached"):
                connect(["127.0.0.1"], made._lobby.port, b"another key", 0)
            assert len(run(made, jobs(4))) == 4


class Real:
    """What a run evaluates by: a network, batches, and which recipe is meant."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        case = Case.built_in("resnet_digits")
        batches = [
            (torch.randn(50, 1, 8, 8, generator=generator), torch.randint(10, (50,), generator=generator))
            for _ in range(4)
        ]
        self.space = case.space
        self.evaluator = Inherited.of(
            case.model, case.network, case.pruner.scores, batches[:2], batches[2:], task=classification(10)
        )

    def __call__(self, job: Job) -> dict[str, float]:
        return dict(self.evaluator(job))

    def jobs(self) -> list[Job]:
        rows = self.space.sample(4, np.random.default_rng(0))
        return [Job(number, self.space.recipe(row)) for number, row in enumerate(rows)]

    def same(self, results: dict[int, Any]) -> bool:
        """Tell whether results are those of this process."""
        return all(results[job.number].metrics == attempt(self, job).metrics != {} for job in self.jobs())


@pytest.mark.parametrize("section", [LOCAL, pytest.param(SLURM, marks=[_needs("submitit"), pytest.mark.slow])])
def test_a_real_evaluation_gives_the_same_elsewhere(section, tmp_path):
    real = Real()
    with executor(section, real, tmp_path) as made:
        assert real.same(run(made, real.jobs()))


def test_tensors_are_read_as_views_of_one_file(tmp_path):
    big = torch.arange(1 << 16)
    evaluate = partial(lambda tensors, job: {"error": float(tensors[0][job.number])}, [big, big[8:]])
    path = write(evaluate, tmp_path)
    # both tensors, once
    assert path.stat().st_size < 1.1 * big.nbytes
    got = read(path)
    assert got(Job(7, Recipe())) == {"error": 7}
    first, second = got.args[0]
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert path.name in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    ("visible", "device", "workers", "gpus"),
    [
        (None, "cuda", None, ["0", "1", "2"]),
        ("4,GPU-ab,6", "cuda", None, ["4", "GPU-ab", "6"]),
        ("4,GPU-ab,6", "cuda:1", 2, ["GPU-ab"]),
        ("4,GPU-ab,6", "cpu", 2, []),
    ],
)
def test_workers_are_one_a_gpu(visible, device, workers, gpus, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    launcher = Local.of(workers, None, folder=tmp_path, device=device)
    assert list(launcher.gpus) == gpus
    assert launcher.places == (workers or len(gpus))
    assert launcher.threads >= 1


@_needs("submitit")
def test_parameters_that_submitit_does_not_know(tmp_path):
    with pytest.raises(PruningError, match="submitit can't work with them"):
        make_executor(SLURM | {"parameters": {"slurm_colour": 1}}, print, folder=tmp_path, device="cpu")


@_needs("submitit")
@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="SLURM is here")
def test_no_slurm_is_told(tmp_path):
    with pytest.raises(PruningError, match=r"executor.cluster: slurm .*srun") as caught:
        make_executor(SLURM | {"cluster": None}, print, folder=tmp_path, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@_needs("ray")
def test_ray_has_room_or_says_so(tmp_path):
    with pytest.raises(PruningError, match=r"executor.workers: 1 with 0.5 cpus and 1 gpus each, the cluster has"):
        make_executor(RAY | {"workers": None, "gpus": 1}, print, folder=tmp_path, device="cpu")


def join(address: str, folder: Path) -> None:
    real = Real()
    with executor(RAY | {"address": address}, real, folder) as made:
        # as on a node that does not see the driver's folders
        made._payload.unlink()
        assert real.same(run(made, real.jobs()))


@pytest.mark.slow
@_needs("ray")
def test_a_running_ray_cluster_is_joined_by_address_without_a_shared_folder(tmp_path):
    # a secret that cluster and driver share; Ray reads it once a process
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        "--port=26379",
        "--num-cpus=2",
    ]
    driver = (
        "from pathlib import Path; from tests.search.test_executors import join; "
        f"join('127.0.0.1:26379', Path({str(tmp_path)!r}))"
    )
    # sockets need a short path
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as short:
        command += ["--include-dashboard=false", f"--temp-dir={short}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as head:
            try:
                assert any(b"Ray runtime started" in line for line in head.stdout or ())
                subprocess.run(
                    [sys.executable, "-c", driver], cwd=Path(__file__).parents[2], env=environment, check=True
                )
            finally:
                head.terminate()


def test_what_cannot_be_pickled_is_refused_in_one_line(tmp_path):
    lock = threading.Lock()
    with pytest.raises(PruningError, match=r"executor: .*lock") as caught:
        make_executor(LOCAL, lambda job: {"error": float(lock.locked())}, folder=tmp_path, device="cpu")
    assert "\n" not in str(caught.value)


SCRIPT = """
import os, signal, sys, time
from pathlib import Path

from explorer.search.executors import make_executor
from explorer.search.jobs import Job
from mine import Offset
from spaces import Recipe

# what is started in the background of a script ignores it
signal.signal(signal.SIGINT, signal.default_int_handler)

class Here:
    def __call__(self, job):
        Path(f"pid-{os.getpid()}").touch()
        time.sleep(60 * job.recipe.ratios["a"])
        threads = os.environ["OMP_NUM_THREADS"]
        return {"error": Offset()(job.number), "torch": "torch" in sys.modules, "threads": threads}

made = make_executor({"name": "local", "workers": 2, "threads": 3}, Here(), folder=Path("workers"), device="cpu")
try:
    for number in range(2):
        made.submit(Job(number, Recipe.of({"a": float(sys.argv[1])})))
    found = []
    while len(found) < 2:
        found += made.wait()
finally:
    made.close()
print(sorted(tuple(result.metrics.values()) for _, result in found))
"""


@pytest.fixture
def script(tmp_path):
    """Start a script whose workers use a class of its own and a module of the current folder."""
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "mine.py").write_text("class Offset:\n    def __call__(self, x):\n        return x + 10\n")

    def start(seconds: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "script.py", seconds],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    return start


def test_code_of_the_script_and_its_folder_reaches_workers_that_import_no_torch(script, tmp_path):
    out, err = script("0.001").communicate(timeout=60)
    assert out.strip() == "[(10, False, '3'), (11, False, '3')]", err
    assert not list((tmp_path / "workers").iterdir())


@pytest.mark.parametrize(("name", "left"), [("SIGKILL", True), ("SIGINT", False)])
def test_workers_end_with_their_driver(script, tmp_path, name, left):
    process = script("0.999")
    # asleep in evaluations of a minute
    while len(started := list(tmp_path.glob("pid-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    # as Ctrl-C does, to all that belong to the terminal's foreground
    os.killpg(process.pid, getattr(signal, name))
    process.communicate(timeout=30)
    end = time.monotonic() + 10
    workers = [int(path.name.removeprefix("pid-")) for path in started]
    while not all(map(gone, workers)):
        assert time.monotonic() < end
        time.sleep(0.05)
    # a killed driver leaves its file to the next one
    folder = tmp_path / "workers"
    assert bool(list(folder.glob("payload-*"))) == left
    if left:
        assert len(list(folder.glob("payload-*"))) == 1
        new = write(print, folder)
        assert list(folder.glob("payload-*")) == [new]
