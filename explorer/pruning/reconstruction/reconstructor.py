"""Reconstructor: sub-networks whose remaining weights give what the dense network's gave, without training."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from explorer.data import Batch
from explorer.pruning.patterns import Masks
from explorer.pruning.patterns.application import weight_of
from explorer.pruning.reconstruction.calibration import Calibration
from explorer.pruning.reconstruction.mending import Mending
from explorer.pruning.reconstruction.settings import Settings
from explorer.pruning.reconstruction.targets import Targets, Watch
from explorer.pruning.surgery import Atoms, Kept
from explorer.pruning.surgery.stand_ins import SmallerAttention
from explorer.utils.modules import device_of, modes_restored, run, without_fused_layers
from spaces import Gemm, Network, PruningError, first_line

__all__ = ["Reconstructor", "Report"]

log = logging.getLogger("explorer")


@dataclass(frozen=True)
class Report:
    """Which layers were solved, were left since nothing was missing, and could not be solved; by their weights."""

    solved: tuple[str, ...]
    unchanged: tuple[str, ...]
    left: tuple[str, ...]


class Reconstructor:
    """Solves the layers of sub-networks for the dense network's outputs on calibration inputs.

    Parameters
    ----------
    model
        The dense network.
    network
        What `trace` said of it.
    calibration
        Training batches on the model's device; labels are not read.
    settings
        How they are used.
    """

    def __init__(self, model: nn.Module, network: Network, calibration: Sequence[Batch], settings: Settings) -> None:
        self._model, self._network, self.settings = model, network, settings
        self._given = Calibration.of(calibration, settings.positions)
        self._atoms = Atoms(network)
        self._told: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        # another process makes its own targets
        return {name: value for name, value in vars(self).items() if name not in ("calibration", "targets")}

    @cached_property
    def calibration(self) -> Calibration:
        """The inputs that layers are solved on."""
        return self._given.fitting(self._watched)

    @cached_property
    def targets(self) -> Targets:
        """What the dense network's layers give for the calibration inputs; made at the first use."""
        return self._watched(self.calibration)

    def _watched(self, calibration: Calibration) -> Targets:
        """Return what the dense network's layers give for some inputs."""
        places = calibration.places(self.settings.seed)
        watch = Watch(self._model, (layer.weight for layer in self._network.layers), places)
        with watch:
            output = self._run(self._model, calibration.inputs)
        return watch.targets(output)

    def _run(self, module: nn.Module, inputs: Any) -> Any:
        """Return a module's output.

        Raises
        ------
        PruningError
            If it raises.
        """
        with _borrowed(module):
            try:
                return run(module, inputs)
            except PruningError:
                raise
            except Exception as error:
                line = first_line(error)[:300]
                raise PruningError(f"reconstruction: forward raised {type(error).__name__} ({line})") from error

    def __call__(self, module: nn.Module, masks: Masks, kept: Kept) -> Report:
        """Solve a sub-network's layers in place, and return which.

        Parameters
        ----------
        module
            Built of the dense network, with its masks put on.
        masks
            Of its weights.
        kept
            The channels that slicing kept.

        Raises
        ------
        PruningError
            If what a layer reads or gives is not finite.
        """
        targets, alive = self.targets, self._atoms.alive(kept)
        known: dict[str, tuple[Tensor, Tensor]] = {}

        def entries(weight: str) -> tuple[Tensor, Tensor]:
            if weight not in known:
                known[weight] = self._entries(weight, alive)
            return known[weight]

        parameters = dict(module.named_parameters())
        keep = {}
        for name, (_, mask) in masks.items():
            layer = self._network.layer[name]
            weight = parameters[layer.weight]
            own = weight_of(self._network, layer, mask.keep, weight)
            keep[layer.weight] = torch.empty_like(weight, dtype=torch.bool).copy_(own)
        mending = Mending(module, targets, entries, keep, self.settings.ridge)
        with mending:
            self._run(module, self.calibration.inputs)
        with torch.inference_mode(False), torch.no_grad():
            mending.finish()
        solved, unchanged = mending.solved, mending.unchanged - mending.solved
        left = {layer.weight for layer in self._network.layers if layer.weight in parameters} - solved - unchanged
        report = Report(*(tuple(sorted(names)) for names in (solved, unchanged, left)))
        self._tell(report, mending.underdetermined)
        return report

    def _entries(self, weight: str, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Return the kept entries of what a weight writes and of what it reads."""
        dims = self._network.tensor[weight].dims
        layer = next(layer for layer in self._network.layers if layer.weight == weight)
        gemm = Gemm.of(self._network, layer)
        reads = 1 if gemm.reads is None else gemm.reads
        found = [
            alive.index_select(0, self._atoms.labels(dims[dim])).nonzero().squeeze(1) for dim in (1 - reads, reads)
        ]
        return found[0], found[1]

    def _tell(self, report: Report, few: set[str]) -> None:
        """Log what is worth knowing, once each."""
        left = [name for name in report.left if name not in self._told]
        if left:
            log.warning("reconstruction: %d layers are left as they are: %s", len(report.left), _some(report.left))
        rows = sorted(few - self._told)
        if rows:
            log.info("reconstruction: fewer rows than inputs, the ridge decides: %s", _some(rows))
        self._told.update(left, rows)


def _some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


@contextmanager
def _borrowed(module: nn.Module) -> Iterator[None]:
    """Let a module run in eval mode, every product seen; afterwards it and the random state are as before."""
    device = device_of(module)
    devices = [device] if device.type == "cuda" else []
    # the stand-in and torch's own class multiply rows in another order
    swapped = [part for part in module.modules() if type(part) is nn.MultiheadAttention and _plain(part)]
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices), modes_restored(module):
        torch.manual_seed(0)
        module.eval()
        for part in swapped:
            part.__class__ = SmallerAttention
        try:
            with without_fused_layers():
                yield
        finally:
            for part in swapped:
                part.__class__ = nn.MultiheadAttention


def _plain(part: Any) -> bool:
    return part.bias_k is None and not part.add_zero_attn
