"""From a recipe to metrics without training: prune, calibrate, measure on validation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from explorer.data import Batch
from explorer.data.task import Task
from explorer.evaluation.budgets import LatencyLimit
from explorer.evaluation.meter import Meter
from explorer.evaluation.training import reestimate_bn
from explorer.pruning.criteria import Scores
from explorer.pruning.patterns import Masks
from explorer.pruning.pruner import Pruner
from explorer.pruning.reconstruction import Reconstructor, Settings
from explorer.pruning.surgery.skeleton import copied
from explorer.search.jobs import Job
from spaces import Network, Recipe

__all__ = ["Inherited"]


@dataclass(repr=False)
class Inherited:
    """Evaluates jobs by the weights that sub-networks inherit; there is one rung.

    Sub-networks are calibrated before they are measured: their batch norms are re-estimated (EagleEye, arXiv
    2007.02491), or their layers solved for the dense network's outputs.

    Parameters
    ----------
    meter
        Measures sub-networks.
    pruner
        Makes them, of a model in the meter's memory layout.
    calibration
        Unaugmented training batches that sub-networks are calibrated on, the same for every candidate.
    reconstruction
        How their layers are solved; None where batch norms are re-estimated.
    """

    meter: Meter
    pruner: Pruner
    calibration: Sequence[Batch]
    reconstruction: Settings | None = None
    rungs: ClassVar[Sequence[int]] = (0,)
    _reconstruct: Reconstructor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.calibration = self.meter.laid_out(self.calibration)
        if self.reconstruction is not None:
            pruner = self.pruner
            self._reconstruct = Reconstructor(pruner.model, pruner.network, self.calibration, self.reconstruction)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        network: Network,
        scores: Scores,
        calibration: Sequence[Batch],
        validation: Sequence[Batch],
        task: Task,
        *,
        latency: LatencyLimit | None = None,
        runtime: str = "torch",
        racing: bool = False,
        shared: nn.Module | None = None,
        reconstruction: Settings | None = None,
    ) -> Inherited:
        """Return the evaluator of a dense network's sub-networks.

        Parameters
        ----------
        model, network, validation, task, latency, runtime, racing
            As `Meter` takes them.
        scores
            As `Pruner` takes them.
        calibration, reconstruction
            As the class takes them.
        shared
            The same network with other weights, which sub-networks inherit in place of the dense network's.
        """
        meter = Meter(model, network, validation, task, latency, racing, runtime)
        weights = meter.model if shared is None else meter.prepared(copied(shared))
        return cls(meter, Pruner(weights, network, scores), calibration, reconstruction)

    def __call__(self, job: Job) -> dict[str, float]:
        """Return the metrics of the job's recipe: error, standard error and loss; its latency where that is asked for.

        With patterns on weights also the realised costs, see `explorer.pruning.patterns.realised_costs`.

        Raises
        ------
        OverBudgetError
            If its latency exceeds the limit; its error is not measured then.
        PruningError
            If its outputs are not finite.
        """
        module, masks = self.pruned(job.recipe)
        metrics = self.meter.limits(module, masks, limited=job.limited)
        self.calibrate(module, masks, job.recipe)
        return metrics | self.meter.realised(job.recipe, masks) | self.meter.measured(module, job.bar)

    def pruned(self, recipe: Recipe) -> tuple[nn.Module, Masks]:
        """Return the sub-network before any calibration, ready to be measured, and the masks of its weights."""
        module, masks = self.pruner(recipe)
        return self.meter.prepared(module), masks

    def build(self, recipe: Recipe) -> nn.Module:
        """Return the sub-network as it is measured, in eval mode."""
        return self.masked(recipe)[0]

    def masked(self, recipe: Recipe, rung: int = -1) -> tuple[nn.Module, Masks]:
        """Return the sub-network that `build` returns, and the masks of its weights."""
        module, masks = self.pruned(recipe)
        self.calibrate(module, masks, recipe)
        return module, masks

    def calibrate(self, module: nn.Module, masks: Masks, recipe: Recipe) -> None:
        """Make a pruned module give what it is measured for: re-estimate its batch norms, or solve its layers.

        Raises
        ------
        PruningError
            If a layer's inputs or outputs on the calibration batches are not finite.
        """
        if self._reconstruct is None:
            reestimate_bn(module, self.calibration)
        else:
            self._reconstruct(module, masks, self.pruner.kept(recipe))

    def tidy(self, recipes: Iterable[Recipe]) -> None:
        """Keep the files that building these recipes needs: there are none."""
