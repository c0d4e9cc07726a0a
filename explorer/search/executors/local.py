"""Workers as processes of this machine: one a GPU, or several that share the cores."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from explorer.search.executors.pool import Handle
from explorer.search.executors.wire import LOOPBACK
from explorer.search.executors.worker import START, Contact, greeting, threads_environment

__all__ = ["Local"]


@dataclass(frozen=True)
class Local:
    """Starts fresh interpreters, each with its share of the threads and its GPU.

    Parameters
    ----------
    places
        How many workers.
    threads
        Of each.
    folder
        Where what they print is written, ``worker-0.log`` and so on.
    gpus
        As CUDA_VISIBLE_DEVICES names them; workers take them in turns. Empty where all evaluate on the CPU.
    """

    places: int
    threads: int
    folder: Path
    gpus: Sequence[str] = ()
    hosts: Sequence[str] = (LOOPBACK,)

    @classmethod
    def of(cls, workers: int | None, threads: int | None, *, folder: Path, device: str) -> Local:
        """Return the launcher for a device, by default with a worker a GPU, or a core.

        Each has `threads`; where none are given as many as OMP_NUM_THREADS says, else its share of the cores.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        gpus = _gpus(device) if device.startswith("cuda") else []
        places = workers or len(gpus) or cores
        return cls(places, threads or _openmp_threads() or max(1, cores // places), folder, gpus)

    def launch(self, started: Sequence[tuple[int, Contact]]) -> list[Handle]:
        """Start workers, given the place, from 0, and the contact of each."""
        return [self._launch(place, contact) for place, contact in started]

    def close(self) -> None:
        """Remove the logs of workers that printed nothing."""
        for path in self.folder.glob("worker-*.log"):
            if not path.stat().st_size:
                path.unlink()

    def _launch(self, place: int, contact: Contact) -> Handle:
        environment = os.environ | threads_environment(self.threads)
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)]
        log = self.folder / f"worker-{place}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", START],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env=environment,
                # Ctrl-C in the terminal is for the driver alone
                start_new_session=True,
            )
        assert process.stdin is not None
        # one that is dead already is found out later
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(greeting(contact))
        return _Process(process, log)


@dataclass(frozen=True)
class _Process:
    process: subprocess.Popen[bytes]
    log: Path

    def ended(self, patience: float = 0) -> str | None:
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return None
        if code < 0:
            return f"signal {-code}, out of memory?" if code == -9 else f"signal {-code}"
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        said = [line for line in lines if line.strip()]
        return f"exit code {code}: {said[-1]}" if said else f"exit code {code}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def _openmp_threads() -> int | None:
    """Return the number of threads that OMP_NUM_THREADS asks for, of a list the first; None where it says none."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else None


def _gpus(device: str) -> list[str]:
    """Return the GPUs that a device means, all for ``cuda``, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = [str(i) for i in range(count)] if visible is None else visible.split(",")[:count]
    _, _, index = device.partition(":")
    return [names[int(index)]] if index else names
