"""Energy by counters made of files and of a stand-in for NVML: what is summed, wrapped and refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from explorer.evaluation.energy import joules

CPU = torch.device("cpu")


def _zone(root: Path, folder: str, name: str, energy: object, span: int = 1_000_000) -> Path:
    zone = root / folder
    zone.mkdir()
    (zone / "name").write_text(f"{name}\n")
    (zone / "energy_uj").write_text(f"{energy}\n")
    (zone / "max_energy_range_uj").write_text(f"{span}\n")
    return zone


def _spend(zone: Path, amount: int, span: int = 1_000_000) -> None:
    file = zone / "energy_uj"
    file.write_text(str((int(file.read_text()) + amount) % span))


@pytest.mark.parametrize("start", [0, 999_000])
def test_the_mean_of_all_packages_is_measured_also_where_a_counter_starts_again(tmp_path: Path, start: int) -> None:
    zones = [_zone(tmp_path, "intel-rapl:0", "package-0", start), _zone(tmp_path, "intel-rapl:1", "package-1", 5)]
    # parts of a package, and the platform it is a part of
    _zone(tmp_path, "intel-rapl:0:0", "core", 0)
    _zone(tmp_path, "intel-rapl:2", "psys", 0)
    runs = []

    def run() -> None:
        runs.append(1)
        _spend(zones[0], 2_000)
        _spend(zones[1], 500)
        for other in ("intel-rapl:0:0", "intel-rapl:2"):
            _spend(tmp_path / other, 77)

    assert joules(run, CPU, seconds=0.01, root=tmp_path) == pytest.approx(2_500e-6)
    # the first is a warm-up
    assert len(runs) >= 2


@pytest.mark.parametrize("energy", ["", "none", "7"])
def test_a_counter_that_is_no_number_or_stands_still_tells_nothing(tmp_path: Path, energy: str) -> None:
    _zone(tmp_path, "intel-rapl:0", "package-0", energy)
    assert joules(lambda: None, CPU, seconds=0, root=tmp_path) is None


def test_without_a_counter_or_the_right_to_read_it_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert joules(lambda: None, CPU, seconds=0, root=tmp_path / "missing") is None
    zone = _zone(tmp_path, "intel-rapl:0", "package-0", 0)
    read = Path.read_text

    def refuse(path: Path, *args: object, **kwargs: object) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert joules(lambda: None, CPU, seconds=0, root=zone.parent) is None


class _NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GPU whose runs take 3 mJ each."""
    state = SimpleNamespace(used=10, asked=[])
    fake = SimpleNamespace(
        NVMLError=_NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: state.asked.append(uuid) or "handle",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: state.used,
        state=state,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="ab-12"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return fake


def test_a_gpu_is_asked_by_its_identity(nvml: SimpleNamespace) -> None:
    def run() -> None:
        nvml.state.used += 3

    assert joules(run, torch.device("cuda", 0), seconds=0) == pytest.approx(3e-3)
    assert set(nvml.state.asked) == {"GPU-ab-12"}


def test_a_gpu_that_does_not_count_tells_nothing(nvml: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(handle: str) -> int:
        raise _NVMLError

    nvml.nvmlDeviceGetTotalEnergyConsumption = unsupported
    assert joules(lambda: None, torch.device("cuda", 0), seconds=0) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert joules(lambda: None, torch.device("cuda", 0), seconds=0) is None
