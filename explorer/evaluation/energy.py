"""Energy as the machine tells it: a GPU's counter through NVML, a processor's through Linux' powercap files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["joules"]

SECONDS = 0.5
POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class _Counter:
    """Counters that only grow, in millionths of a joule; each starts again at 0 after its span."""

    read: Callable[[], list[int]]
    spans: list[int]


def joules(
    run: Callable[[], object], device: torch.device, *, seconds: float = SECONDS, root: Path = POWERCAP
) -> float | None:
    """Return the mean energy of one run in joules; None where the machine does not tell.

    On a CPU it is that of all processor packages, on a GPU that of the board: what other processes use meanwhile is
    in it. Nothing is estimated: a counter that is missing, may not be read (usual for users who are not root) or does
    not move gives None.

    Parameters
    ----------
    run
        Usually a forward pass; called once to warm up.
    device
        Where it runs.
    seconds
        How long it is repeated at least: the counters move a few times a second only.
    root
        The folder of the powercap files.
    """
    cuda = device.type == "cuda"
    try:
        counter = _nvml(device) if cuda else _rapl(root)

        def once() -> None:
            run()
            if cuda:
                torch.cuda.synchronize(device)

        once()
        before, begin, runs = counter.read(), time.perf_counter(), 0
        while not runs or time.perf_counter() - begin < seconds:
            once()
            runs += 1
        after = counter.read()
    except _UntoldError:
        return None
    used = sum(b - a if b >= a else b - a + span for a, b, span in zip(before, after, counter.spans, strict=True))
    return used / 1e6 / runs if used > 0 else None


class _UntoldError(Exception):
    """The machine does not tell."""


def _rapl(root: Path) -> _Counter:
    # of the domains, psys and a package's parts would count twice
    zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _text(zone / "name").startswith("package")]
    if not zones:
        raise _UntoldError
    return _Counter(
        lambda: [_number(zone / "energy_uj") for zone in zones],
        [_number(zone / "max_energy_range_uj") for zone in zones],
    )


def _nvml(device: torch.device) -> _Counter:
    try:
        import pynvml
    except ImportError:
        raise _UntoldError from None

    def told() -> list[int]:
        try:
            pynvml.nvmlInit()
            # CUDA may number devices otherwise, and hide some
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
            return [1000 * pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)]
        except pynvml.NVMLError:
            raise _UntoldError from None

    # it starts again with the driver only
    return _Counter(told, [0])


def _number(path: Path) -> int:
    try:
        return int(_text(path))
    except ValueError:
        raise _UntoldError from None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        raise _UntoldError from None
