"""Supernet: a dense network whose weights are trained for all sub-networks of a space at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call

from explorer.data.task import Task
from explorer.evaluation.settings import Settings
from explorer.evaluation.training import Epoch, Trainer, distance, epoch_of, precision_of, seed_of, seeded
from explorer.models.trained import trained_network
from explorer.pruning.criteria import Scores
from explorer.pruning.pruner import Pruner
from explorer.pruning.surgery.skeleton import copied
from explorer.utils.fingerprints import fingerprint
from explorer.utils.modules import device_of
from spaces import Budget, PruningSpace, sample_inside

__all__ = ["supernet"]

# recipes that an epoch's steps choose from: drawing inside a tight budget takes longer than a step
_POOL = 512


def supernet(
    module: nn.Module,
    space: PruningSpace,
    batches: Iterable[Any],
    *,
    task: Task,
    scores: Scores,
    epochs: int,
    settings: Settings,
    limits: Budget | None = None,
    samples: int = 2,
    seed: int = 0,
    cache: tuple[Path, str] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> nn.Module:
    """Return a copy of the dense network whose weights sub-networks share, in eval mode.

    Every step trains the dense network on the labels, and on its outputs the cheapest sub-network and some random ones
    (sandwich rule and inplace distillation: Yu and Huang, arXiv 1903.05134), with equal weights. Sub-networks are
    differentiable slices of the dense tensors, their patterns masks on those, their blocks dropped.

    Parameters
    ----------
    module
        The trained dense network, on the device it is to be trained on; not changed.
    space, limits
        Which sub-networks: those of the space inside its constraints and these limits.
    batches
        Of training, as `explorer.evaluation.finetuning.Finetuned` takes them.
    task
        Whose loss the dense network is trained on.
    scores
        Of `module`: what recipes keep. They must be those that candidates are built by afterwards, since what is kept
        has to be the same; scores of the new weights would choose channels that were not trained together.
    epochs
        At least 1.
    settings
        How; distillation from `module`, its temperature and averaged weights are not for this.
    samples
        Random sub-networks a step.
    seed
        Of everything random.
    cache
        A folder that keeps the result, and what the batches are called in its name.
    on_epoch
        Called after each epoch.

    Raises
    ------
    PruningError
        If training fails, no recipe is inside the limits, or the task's loss has no label smoothing where that is
        asked for.
    """
    settings.check(task)
    # a higher temperature lets sub-networks that are far off, as the cheapest is, spoil the weights of all others
    chosen = replace(settings, distillation=0.0, ema=0.0, temperature=1.0)
    limits = Budget() if limits is None else limits

    def fit(model: nn.Module) -> None:
        sandwich = _Sandwich(model, space, limits, scores, task=task, settings=chosen, samples=samples)
        trainer = Trainer(model, task=task, settings=chosen, backward=sandwich)
        for number in range(1, epochs + 1):
            drawn = seed_of("supernet", seed, number)
            sandwich.draw(np.random.default_rng(drawn))
            with seeded(drawn, device_of(model)):
                epoch = trainer.epoch(epoch_of(batches, drawn), number=number, begun=number - 1, of=epochs)
            if on_epoch is not None:
                on_epoch(epoch)
        model.eval()

    if cache is None:
        shared = copied(module)
        fit(shared)
        return shared
    folder, data = cache
    axes = [[one.label, *map(str, one.choices)] for axis in space.axes for one in (axis, *axis.members)]
    key = {
        "supernet": {"epochs": epochs, "samples": samples, "seed": seed, "settings": asdict(chosen)},
        "space": [axes, str(space.constraints), str(limits)],
        "data": data,
        "network": space.network.identity,
        "task": fingerprint(task.loss, task.prediction),
        "weights": fingerprint(module, scores),
    }
    return trained_network(lambda: copied(module), key=key, cache_dir=folder, train=fit)[0]


class _Sandwich:
    """From a batch to the mean loss of the dense network and of sub-networks, whose gradients are left in it."""

    def __init__(
        self,
        model: nn.Module,
        space: PruningSpace,
        limits: Budget,
        scores: Scores,
        *,
        task: Task,
        settings: Settings,
        samples: int,
    ) -> None:
        self._model, self._space, self._limits = model, space, limits
        self._task, self._settings, self._samples = task, settings, samples
        self._pruner = Pruner(model, space.network, scores)
        self._parameters = {name: value for name, value in model.named_parameters() if name in space.network.tensor}

    def draw(self, rng: np.random.Generator) -> None:
        """Draw the recipes that the steps to come choose from."""
        space, self._rng = self._space, rng
        self._rows = sample_inside(space, _POOL, rng, budget=self._limits, measure="axes").rows
        least = space.canonical(np.array([[np.argmin(axis.ratios) for axis in space.axes]], dtype=np.int16))
        inside = space.inside(least, space.constraints & self._limits)
        candidates = np.concatenate([least[inside], self._rows])
        self._cheapest = candidates[np.argmin(space.costs(candidates)["flops"])]

    def __call__(self, inputs: Any, targets: Any) -> Tensor:
        """Return the mean loss, detached."""
        rows = [self._cheapest, *self._rows[self._rng.integers(len(self._rows), size=self._samples)]]
        task, settings, share = self._task, self._settings, 1 / (1 + len(rows))
        smoothing = {"label_smoothing": settings.label_smoothing} if settings.label_smoothing else {}
        with precision_of(settings, device_of(self._model)):
            wanted = task.forward(self._model, inputs)
            loss = task.loss(wanted, targets, **smoothing) * share
        loss.backward()
        total = loss.detach()
        wanted = torch.utils._pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, wanted)
        for row in rows:
            with precision_of(settings, device_of(self._model)):
                own = task.forward(cast(nn.Module, self._part(row)), inputs)
                loss = distance(task, own, wanted, temperature=settings.temperature) * share
            # one after the other: only one graph at a time takes memory
            loss.backward()
            total += loss.detach()
        return total

    def _part(self, row: npt.NDArray[np.int16]) -> Callable[..., Any]:
        """Return a sub-network that computes with slices of the dense parameters, in train mode."""
        recipe = self._space.recipe(row)
        part, masks = self._pruner(recipe)
        part.train()
        # what a block took with it is not there
        dense = {name: self._parameters[name] for name, _ in part.named_parameters() if name in self._parameters}
        sliced = self._pruner.sliced(dense, recipe, masks)
        return lambda *args, **kwargs: functional_call(part, sliced, args, kwargs)
