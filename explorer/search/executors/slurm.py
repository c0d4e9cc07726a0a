"""Workers as jobs of a SLURM cluster, through submitit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explorer.search.executors.pool import Handle
from explorer.search.executors.wire import LOOPBACK, own_hosts
from explorer.search.executors.worker import Contact, serve, threads_environment
from spaces import PruningError, first_line

__all__ = ["Slurm"]

# seconds between looks at a job that should end
_LOOK = 0.05


class Slurm:
    """Submits a job a worker; what jobs print is in the folder's ``jobs``.

    Parameters
    ----------
    places
        How many workers.
    folder
        Shared by all nodes.
    cluster
        None for SLURM; ``local`` for processes of this machine.
    partition, minutes, cpus, gpus, memory_gb
        Of each job.
    parameters
        Further ones of submitit's AutoExecutor.

    Raises
    ------
    PruningError
        If submitit is not installed, there is no SLURM, or a parameter is unknown to submitit.
    """

    def __init__(
        self,
        places: int,
        *,
        folder: Path,
        cluster: str | None,
        partition: str | None,
        minutes: int,
        cpus: int,
        gpus: int,
        memory_gb: float | None,
        parameters: Mapping[str, Any],
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise PruningError(
                "executor=slurm: submitit is not installed; pip install 'pruning-spaces[slurm]'"
            ) from None
        logs = folder / "jobs"
        logs.mkdir(parents=True, exist_ok=True)
        # what is submitted holds the driver's key
        logs.chmod(0o700)
        given: dict[str, Any] = {
            "name": "explore",
            "timeout_min": minutes,
            "cpus_per_task": cpus,
            "gpus_per_node": gpus or None,
            "mem_gb": memory_gb,
            "slurm_partition": partition,
        }
        try:
            self._executor = submitit.AutoExecutor(logs, cluster=cluster or "slurm")
        except RuntimeError as error:
            raise PruningError(f"executor.cluster: slurm can't be used here ({error})") from None
        try:
            self._executor.update_parameters(
                **{key: value for key, value in given.items() if value is not None}, **parameters
            )
        except (NameError, TypeError, ValueError) as error:
            line = first_line(error)
            raise PruningError(f"executor.parameters: submitit can't work with them ({line})") from None
        self.places = places
        self.hosts: Sequence[str] = [LOOPBACK] if cluster == "local" else own_hosts()
        self._environment = threads_environment(cpus)

    def launch(self, started: Sequence[tuple[int, Contact]]) -> list[Handle]:
        """Submit a job for each contact, several as one array."""
        if len(started) == 1:
            return [_Job(self._executor.submit(serve, started[0][1], self._environment))]
        with self._executor.batch():
            jobs = [self._executor.submit(serve, contact, self._environment) for _, contact in started]
        return [_Job(job) for job in jobs]

    def close(self) -> None:
        """Do nothing: all jobs were ended."""


class _Job:
    def __init__(self, job: Any) -> None:
        self._job = job

    def ended(self, patience: float = 0) -> str | None:
        deadline = time.monotonic() + patience
        while not self._job.done():
            if time.monotonic() >= deadline:
                return None
            time.sleep(_LOOK)
        # submitit's own account of what went wrong waits for a result that may never come
        lines = [line.strip() for line in (self._job.stderr() or "").splitlines() if line.strip()]
        return f"job {self._job.job_id} {self._job.state}" + (f": {lines[-1]}" if lines else "")

    def stop(self) -> None:
        if not self._job.done():
            self._job.cancel(check=False)
