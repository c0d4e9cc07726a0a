"""From a recipe to metrics by training: inherited or fresh weights, in stretches that later rungs continue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.data import head
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.meter import Meter
from explorer.evaluation.settings import STARTS, Settings, checked_rungs
from explorer.evaluation.training import (
    Checkpoints,
    Epoch,
    Trainer,
    epoch_of,
    identity_of,
    is_out_of_memory,
    reestimate_bn,
    seed_of,
    seeded,
    within_memory,
)
from explorer.pruning.patterns import Masks, put_on
from explorer.pruning.surgery.skeleton import copied
from explorer.search.jobs import Job, OutOfTimeError
from explorer.utils.fingerprints import fingerprint
from explorer.utils.modules import device_of
from spaces import PruningError, Recipe, unknown

__all__ = ["Finetuned"]

# inputs that tell whether a network can be trained
_CHECKED = 32


@dataclass(frozen=True, repr=False)
class Finetuned:
    """Evaluates jobs by training their sub-networks; all randomness comes from (seed, recipe, epoch).

    Each rung is a stretch of epochs with a cosine of its own, so that a promoted candidate goes on at the full
    learning rate, as in learning-rate rewinding (Renda et al., arXiv 2003.02389). It goes on from the state it was
    left in; where that is not at hand, its missing stretches are trained first, with the same result.

    Parameters
    ----------
    inherited
        Builds the sub-networks that are trained; its meter measures them, whose dense network is the teacher.
    batches
        Of training: shuffled ones of ours, whose generator gives way to one for each epoch, or a user's iterable.
    settings
        How sub-networks are trained.
    rungs
        Epochs trained in all when a rung's error is measured; 0 is inherited weights alone.
    seed
        Of everything random.
    start
        ``inherit``, with batch norms re-estimated; ``reconstruct``, as the evaluator that builds sub-networks
        calibrates them; or ``scratch``, which keeps the architecture and the masks only and draws the weights anew.
    folder
        Where states are kept, after each epoch, and the weights of what has been through all rungs: two to four times
        the bytes of a sub-network's weights while it may be promoted, and once those bytes from then on. `tidy` keeps
        the weights of some recipes only. None keeps nothing: a promoted candidate is trained again from the start.
    on_epoch
        Called after each epoch.

    Raises
    ------
    PruningError
        If the rungs are not ascending, or the task's loss has no label smoothing where that is asked for.
    """

    inherited: Inherited
    batches: Iterable[Any]
    settings: Settings
    rungs: Sequence[int]
    seed: int = 0
    start: str = "inherit"
    folder: Path | None = None
    on_epoch: Callable[[Epoch], None] | None = None
    checkpoints: Checkpoints = field(init=False)

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise unknown("start", self.start, STARTS)
        checked_rungs(self.rungs, start=self.start)
        if self.start == "reconstruct" and self.inherited.reconstruction is None:
            raise PruningError("start: 'reconstruct', and the sub-networks are not reconstructed")
        self.settings.check(self.meter.task)
        object.__setattr__(self, "checkpoints", Checkpoints(self.folder))

    @property
    def meter(self) -> Meter:
        """The meter of the sub-networks."""
        return self.inherited.meter

    def check(self) -> None:
        """Check on the first training inputs that the dense network can be trained, so that it shows before a search.

        Raises
        ------
        PruningError
            If nothing of it can be trained, it runs or its loss can be differentiated in evaluation only, or batches
            are too small for its norms. The error names ``train``.
        """
        inputs, targets = self.inherited.calibration[0]
        batch = head(inputs, _CHECKED), head(targets, _CHECKED)
        model = copied(self.meter.model)
        try:
            trainer = Trainer(model, task=self.meter.task, settings=self.settings, teacher=self.meter.model)
            with seeded(0, device_of(model)):
                trainer.epoch([batch], number=1, begun=0, of=1)
        except PruningError as error:
            reason = str(error).removeprefix("training: ")
            raise PruningError(f"train: the dense network can't be trained ({reason})") from None

    def __call__(self, job: Job) -> dict[str, float]:
        """Return the metrics of the sub-network after the job's rung, and how the training went.

        That is ``epochs``, ``train_loss`` of the last and ``images_per_second``, of training alone.

        Raises
        ------
        OverBudgetError
            If its latency exceeds the limit.
        OutOfTimeError
            If the job's time is over before the last epoch; the state after the epoch in hand is kept.
        PruningError
            If the loss or an output is not finite, the model raises, or memory runs out.
        """
        return within_memory(lambda: self._metrics(job))

    def build(self, recipe: Recipe, rung: int = -1) -> nn.Module:
        """Return the trained sub-network as it was measured after a rung, by default the last, in eval mode.

        Its weights are read where they were kept, otherwise it is trained again.
        """
        return self.masked(recipe, rung)[0]

    def masked(self, recipe: Recipe, rung: int = -1) -> tuple[nn.Module, Masks]:
        """Return what `build` does, and the masks of its weights."""
        module, masks, _ = self._trained(recipe, rung)
        return module, masks

    def trained(self, recipe: Recipe, rung: int = -1) -> tuple[nn.Module, list[Epoch]]:
        """Return what `build` does, and what each epoch of its training did."""
        module, _, history = self._trained(recipe, rung)
        return module, history

    def kept(self, recipe: Recipe) -> Path | None:
        """Return the file that holds a recipe's weights after the last rung, where they are kept; it may not exist."""
        return None if self.folder is None else self.folder / f"{self._kept_as(recipe)}.safetensors"

    def tidy(self, recipes: Iterable[Recipe]) -> None:
        """Forget every state, and all weights but those of some recipes; to be called when a study has ended."""
        self.checkpoints.tidy({self._kept_as(recipe) for recipe in recipes})

    def _metrics(self, job: Job) -> dict[str, float]:
        module, masks = self.inherited.pruned(job.recipe)
        # measured again for the table, but what was within the limit once is not refused for noise
        metrics = self.meter.limits(module, masks, limited=job.limited and job.rung == 0)
        history = self._fit(module, masks, job.recipe, job.rung, job)
        metrics |= self.meter.realised(job.recipe, masks) | self.meter.measured(module, job.bar)
        metrics["epochs"] = len(history)
        if history:
            seconds = sum(epoch.seconds for epoch in history)
            metrics["train_loss"] = history[-1].loss
            metrics["images_per_second"] = sum(epoch.images for epoch in history) / seconds
        return metrics

    def _trained(self, recipe: Recipe, rung: int) -> tuple[nn.Module, Masks, list[Epoch]]:
        """Return the sub-network after a rung, its masks and what its epochs did."""
        module, masks = self.inherited.pruned(recipe)
        return module, masks, self._fit(module, masks, recipe, range(len(self.rungs))[rung])

    def _fit(self, module: nn.Module, masks: Masks, recipe: Recipe, rung: int, job: Job | None = None) -> list[Epoch]:
        """Bring a pruned module into the state after a rung; return what its epochs did.

        A `job` whose time is over ends it between epochs.
        """
        name, last = self._kept_as(recipe), rung == len(self.rungs) - 1
        facts = self.checkpoints.weights(name, module) if last and self.rungs[rung] else None
        if facts is not None:
            return _epochs(facts)
        if self.start == "reconstruct":
            self.inherited.calibrate(module, masks, recipe)
        else:
            reestimate_bn(module, self.inherited.calibration)
        if not self.rungs[rung]:
            return []
        if self.start == "scratch":
            with seeded(seed_of(self._drawn(recipe), "weights"), device_of(module)):
                _draw(module)
            put_on(module, self.meter.network, masks)
        history = self._train(module, recipe, rung, job)
        if last:
            self.checkpoints.keep_weights(name, module, {"history": [astuple(epoch) for epoch in history]})
        return history

    def _train(self, module: nn.Module, recipe: Recipe, rung: int, job: Job | None) -> list[Epoch]:
        """Train the network that a recipe starts with through its stretches up to a rung."""
        meter, device = self.meter, device_of(module)
        name, drawn = self._kept_as(recipe), self._drawn(recipe)
        trainer = Trainer(module, task=meter.task, settings=self.settings, teacher=meter.model)
        history: list[Epoch] = []
        state = self.checkpoints.state(name)
        if state is not None and len(state["history"]) <= self.rungs[rung]:
            trainer.load(state["trainer"])
            history = _epochs(state)
        try:
            for number in range(len(history) + 1, self.rungs[rung] + 1):
                begin = max(epochs for epochs in (0, *self.rungs) if epochs < number)
                end = min(epochs for epochs in self.rungs if epochs >= number)
                seed = seed_of(drawn, number)
                with seeded(seed, device):
                    batches = epoch_of(self.batches, seed)
                    history.append(trainer.epoch(batches, number=number, begun=number - 1 - begin, of=end - begin))
                kept = {"trainer": trainer.state(), "history": [astuple(epoch) for epoch in history]}
                self.checkpoints.keep_state(name, kept)
                if self.on_epoch is not None:
                    self.on_epoch(history[-1])
                if job is not None and job.late and number < self.rungs[rung]:
                    raise OutOfTimeError
        except PruningError as error:
            # trained again it would end the same way; more memory may be free then
            if not is_out_of_memory(error):
                self.checkpoints.drop_state(name)
            raise
        # The statistics that training leaves are those of the last weights, over many augmented batches. Averaged
        # weights never saw a batch, and get statistics of their own.
        if trainer.average is not None:
            trainer.average.put()
            reestimate_bn(module, self.inherited.calibration)
        module.eval()
        return history

    def _kept_as(self, recipe: Recipe) -> str:
        """Return the name of the files of a recipe's training, which differs where its result may."""
        return fingerprint(self._drawn(recipe), self._made_of)

    @cached_property
    def _made_of(self) -> str:
        """What trainings depend on beside recipe, settings and seeds: weights, teacher, scores, task and batches."""
        inherited, task = self.inherited, self.meter.task
        networks = [inherited.pruner.model, inherited.pruner.scores, self.meter.model, inherited.reconstruction]
        return fingerprint(networks, task.loss, task.prediction, inherited.calibration, identity_of(self.batches))

    def _drawn(self, recipe: Recipe) -> str:
        """Return what all that is random in a recipe's training is drawn from."""
        network = self.meter.network
        parts = [network.identity, recipe.canonical(network).to_dict(), asdict(self.settings)]
        return f"{seed_of(*parts, list(self.rungs), self.seed, self.start):016x}"


def _epochs(facts: Mapping[str, Any]) -> list[Epoch]:
    return [Epoch(*values) for values in facts["history"]]


@torch.no_grad()
def _draw(model: nn.Module) -> None:
    """Draw all weights anew, as their modules do when they are made; those of others are shuffled.

    Shuffling leaves nothing of what was learnt but the distribution of the values, which a module that doesn't tell
    how it is initialised may depend on.
    """
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset):
            reset()
            continue
        for parameter in module.parameters(recurse=False):
            order = torch.randperm(parameter.numel()).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
