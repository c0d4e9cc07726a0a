"""Workers as tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from explorer.search.executors.pool import Handle
from explorer.search.executors.wire import own_hosts
from explorer.search.executors.worker import Contact, serve, threads_environment
from spaces import PruningError, first_line

__all__ = ["OnRay"]

_INSTALL = "executor=ray: Ray is not installed; pip install 'pruning-spaces[ray]'"


class OnRay:
    """Starts tasks that take their share of cores and GPUs; Ray finds the nodes, and shows each its GPUs.

    Parameters
    ----------
    address
        Of a cluster; None starts one on this machine, which ends with the pool.
    workers
        How many; None for as many as there is room for.
    cpus, gpus
        Of each worker; shares are allowed.

    Raises
    ------
    PruningError
        If Ray is not installed, the cluster does not answer, or has no room for a worker.
    """

    def __init__(self, address: str | None, workers: int | None, *, cpus: float, gpus: float) -> None:
        try:
            import ray
        except ImportError:
            raise PruningError(_INSTALL) from None
        self._shared = address is None
        self._started = not ray.is_initialized()
        if self._started:
            # a cluster of one's own has GPUs only where it is asked for some; Ray would look for them for seconds
            options = {"include_dashboard": False} if self._shared else {}
            try:
                ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **options)
            except (ConnectionError, ValueError, RuntimeError) as error:
                line = first_line(error)
                raise PruningError(f"executor.address: {address!r} can't be reached ({line})") from None
        asked = {"CPU": cpus, "GPU": gpus}
        free = ray.cluster_resources()
        room = min(int(free.get(kind, 0) / share + 1e-9) for kind, share in asked.items() if share)
        if room < (workers or 1):
            self.close()
            has = ", ".join(f"{free.get(kind, 0):g} {kind}s" for kind in asked)
            raise PruningError(
                f"executor.workers: {workers or 1} with {cpus:g} cpus and {gpus:g} gpus each, the cluster has {has}"
            )
        self.places = workers or room
        self.hosts: Sequence[str] = [ray.util.get_node_ip_address(), *own_hosts()]
        self._task = ray.remote(max_retries=0, num_cpus=cpus, num_gpus=gpus)(_serve)
        self._environment = threads_environment(max(1, int(cpus)))
        self._stored: list[Any] = []

    def launch(self, started: Sequence[tuple[int, Contact]]) -> list[Handle]:
        """Start workers, given the place, from 0, and the contact of each."""
        import ray

        if not self._shared and not self._stored:
            # nodes without this machine's folders get it from Ray
            self._stored.append(ray.put(started[0][1].payload.read_bytes()))
        return [_Task(self._task.remote(contact, self._environment, self._stored)) for _, contact in started]

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        import ray

        if self._started:
            ray.shutdown()


class _Task:
    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def ended(self, patience: float = 0) -> str | None:
        import ray

        if not ray.wait([self._reference], timeout=patience)[0]:
            return None
        try:
            ray.get(self._reference)
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            # the last line of a task's error is what was raised in it, the first what happened to its process
            said = lines[-1] if isinstance(error, ray.exceptions.RayTaskError) else lines[0]
            return f"{type(error).__name__}: {said}"
        return "its task ended"

    def stop(self) -> None:
        import ray

        # one that ended cannot be cancelled
        with contextlib.suppress(Exception):
            ray.cancel(self._reference, force=True)


def _serve(contact: Contact, environment: dict[str, str], stored: Sequence[Any]) -> None:
    """Serve as a task, with the evaluation from the file, or from Ray's store where that is out of reach."""
    if contact.payload.exists():
        serve(contact, environment)
        return
    import ray

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / contact.payload.name
        path.write_bytes(ray.get(stored[0]))
        serve(replace(contact, payload=path), environment)
