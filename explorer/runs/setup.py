"""From a configuration to the things it names: data, the dense network, its problem."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.data import Batch, Batches, Data, moved
from explorer.data.segmentation import segmentation
from explorer.data.task import Task, classification
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.supernet import supernet
from explorer.evaluation.training import Epoch, identity_of, train
from explorer.models import load_weights
from explorer.models.factory import build_model, without_unused
from explorer.models.trained import trained_network
from explorer.problem import Problem, refuse_empty
from explorer.pruning.allocation import check_reach
from explorer.pruning.criteria import Scores
from explorer.runs.config import RESULTS, ModelSettings, RunConfig, Target
from explorer.runs.context import check_tokens
from explorer.runs.identity import HUB, code_of
from explorer.runs.memory import memory_needed
from explorer.search.samplers import Parameters, Past, make_sampler
from explorer.search.storage import open_study
from explorer.tracing import trace
from explorer.utils.console import steps
from explorer.utils.fingerprints import fingerprint
from explorer.utils.instantiate import accepted, called, locate
from explorer.utils.modules import device_of
from spaces import Budget, Network, PruningError, PruningSpace, first_line

__all__ = ["Setup", "load_data", "load_task"]

log = logging.getLogger(__name__)

# tokens that the units of a language model are verified on
_CHECKED = 32


def load_data(target: Target) -> Data:
    """Return the data set of a configuration.

    Raises
    ------
    PruningError
        If it can't be loaded.
    """
    data = called("data", locate("data._target_", target.path), target.arguments)
    if not isinstance(data, Data):
        raise PruningError(f"data._target_: {target.path!r} returns a {type(data).__name__}, not an explorer.data.Data")
    for note in data.notes:
        log.info("data: %s", note)
    return data


def model_arguments(model: ModelSettings, data: Data) -> dict[str, Any]:
    """Return the factory's arguments: those given, and the data's classes and channels where it takes them."""
    factory = locate("model._target_", model.factory.path)
    arguments = _offered(factory, data) | dict(model.factory.arguments)
    if model.drop_unused:
        if not data.mean:
            raise PruningError("model.drop_unused: true, allowed is false where the data has no images")
        # not the factory's: the shape of the image that tells what runs, kept with what is needed to build the model
        arguments["drop_unused"] = list(data.shape)
    return arguments


def load_task(target: Target, data: Data) -> Task:
    """Return the task of a configuration.

    Raises
    ------
    PruningError
        If it can't be made.
    """
    factory = locate("task._target_", target.path)
    if factory in (classification, segmentation) and data.classes is None:
        raise PruningError(
            f"task: {factory.__name__}, and the data has no classes, allowed are language, regression and custom"
        )
    if factory is segmentation and (data.crop or data.flip):
        raise PruningError(
            f"task: segmentation, and the data crops or mirrors images in training (crop={data.crop}, "
            f"flip={data.flip}), but not their masks; allowed are crop=0 and flip=False"
        )
    task = called("task", factory, _offered(factory, data) | dict(target.arguments))
    if not isinstance(task, Task):
        raise PruningError(f"task._target_: {target.path!r} returns a {type(task).__name__}, not an explorer.Task")
    return task


def _offered(factory: Callable[..., Any], data: Data) -> dict[str, Any]:
    """Return what is known of the data that a factory takes."""
    known = {"num_classes": data.classes, "classes": data.classes, "in_channels": data.shape[0] if data.mean else None}
    names = accepted(factory)
    return {name: value for name, value in known.items() if name in names and value is not None}


@dataclass
class Setup:
    """The objects that a configuration names, made when they are first needed.

    Parameters
    ----------
    config
        Of the run.
    on_epoch
        Called after each epoch of training a dense network.
    on_shared_epoch
        Called after each epoch of training weights that sub-networks share.
    """

    config: RunConfig
    on_epoch: Callable[[Epoch], None] | None = None
    on_shared_epoch: Callable[[Epoch], None] | None = None

    def __post_init__(self) -> None:
        self.device = self._device()
        self.data = load_data(self.config.data)
        self.task = load_task(self.config.task, self.data)
        model = self.config.model
        self.mean = tuple(model.mean or self.data.mean)
        self.std = tuple(model.std or self.data.std)
        self.arguments = model_arguments(model, self.data)

    def _device(self) -> torch.device:
        name = self.config.device
        if name == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(name)
            torch.zeros(1, device=device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            said = first_line(error)
            why = "allowed are auto, cpu, cuda, cuda:1 ..." if said.startswith("Expected one of") else said[:80]
            raise PruningError(f"device: {name!r} can't be used here ({why})") from None
        return device

    def untrained(self) -> nn.Module:
        """Return the model with its initial weights."""
        return build_model(self.config.model.factory.path, self.arguments, self.config.training.seed)

    def dense(self) -> nn.Module:
        """Return the dense network on the device: loaded, or trained once and kept."""
        weights = self.config.model.weights
        if weights is not None:
            model = self._pretrained(hub=weights == HUB)
            if weights != HUB:
                load_weights(model, weights)
            if "drop_unused" in self.arguments:
                without_unused(model, self.arguments["drop_unused"])
            source = self.config.model.source
            log.info("dense network: weights from %s; they may have seen the validation inputs", source)
        else:
            section = {key: value for key, value in self.config.given["model"].items() if key != "examples"}
            made = {**section, **code_of(section), "arguments": self.arguments}
            task, augmentation = fingerprint(self.task.loss, self.task.prediction), [self.data.crop, self.data.flip]
            key = {"model": made, "data": self.data.identity, "task": task, "augmentation": augmentation}
            model, cached = trained_network(
                self.untrained,
                key=key | {"mean": self.mean, "std": self.std, "training": self.config.given["training"]},
                cache_dir=RESULTS / ".cache",
                train=self._train,
            )
            log.info(
                "dense network: %s", "from the cache" if cached else f"trained for {self.config.training.epochs} epochs"
            )
        return model.to(self.device)

    def _pretrained(self, *, hub: bool) -> nn.Module:
        """Return the whole model, whatever is dropped afterwards; from a hub with the weights of its library."""
        target = self.config.model.factory.path
        arguments = {key: value for key, value in self.arguments.items() if key != "drop_unused"}
        if hub:
            if "pretrained" not in accepted(locate("model._target_", target)):
                raise PruningError(f"model.weights: {HUB!r}, but {target} knows none; allowed is a file or null")
            arguments["pretrained"] = True
        return build_model(target, arguments, self.config.training.seed)

    def shuffled(self, batch_size: int, seed: int) -> Batches:
        """Return the augmented batches of training."""
        return Batches(
            self.data.train.to(self.device),
            batch_size,
            mean=self.mean,
            std=self.std,
            generator=torch.Generator().manual_seed(seed),
            crop=self.data.crop,
            flip=self.data.flip,
            device=self.device,
        )

    def _train(self, model: nn.Module) -> None:
        training = self.config.training
        steps.info("training the dense network for %d epochs, once", training.epochs)
        images = self.shuffled(training.batch_size, training.seed)
        train(
            model.to(self.device),
            images,
            task=self.task,
            epochs=training.epochs,
            settings=training.settings,
            on_epoch=self.on_epoch,
        )
        model.cpu()

    def batches(self, split: str, images: int | None = None, *, seed: int | None = None) -> Batches:
        """Return the unaugmented batches of a split; images are normalised.

        Parameters
        ----------
        split
            ``train``, ``validation`` or ``test``.
        images
            How many inputs; None, or more than there are, for all.
        seed
            Draws them at random; None takes the first.
        """
        part = getattr(self.data, split)
        if images is not None and images < len(part):
            drawn = None if seed is None else torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))
            part = part.subset(range(images) if drawn is None else drawn[:images])
        size = self.config.evaluator.batch_size
        return Batches(part, size, mean=self.mean, std=self.std, device=self.device)

    def problem(self, checkpoints: Path | None = None) -> Problem:
        """Return the problem to search, with the dense network measured.

        Where the dense network is trained here, the space is made from the untrained model, so that a mistake in it
        costs no training. What candidates were trained to is kept in a folder, if one is given.
        """
        config, evaluator = self.config, self.config.evaluator
        criterion, trained = config.criterion.located(), config.model.weights is not None
        # read once: it may take gigabytes
        model = self.dense() if trained else self.untrained()
        check_tokens(model, self.data, config.context.tokens)
        needed = memory_needed(model)
        if needed is not None:
            steps.info("%s", needed)
        steps.info("tracing %s and checking its units", config.model.factory.name)
        network = self.traced(model)
        space = PruningSpace.from_config(network, config.space)
        refuse_empty(space, config.limits)
        if config.plan.drawing is not None:
            # recipes that can't be drawn show before anything is trained
            config.plan.drawing.rows(space, config.plan.trials, config.limits)
        check_reach(space, config.baselines)
        self._try_sampler(space, config.limits)
        if evaluator.trains or config.supernet.epochs or config.final.asked:
            config.finetuning.check(self.task)
        self.task.check(model, next(iter(self.batches("train", 2))))
        seed = config.plan.seed
        calibration = self.batches("train", evaluator.calibration_batches * evaluator.batch_size, seed=seed)
        problem = Problem.of(
            model if trained else self.dense(),
            space,
            list(calibration),
            list(self.batches("validation", evaluator.images, seed=seed)),
            limits=config.limits,
            latency=config.latency,
            runtime=config.timing.runtime,
            objectives=config.plan.objectives,
            criterion=criterion,
            task=self.task,
            scored=self._scored(),
            cache=RESULTS / ".cache",
            racing=evaluator.racing,
            share=self._shared if config.supernet.epochs else None,
            reconstruction=evaluator.reconstruction(config.start),
            evaluator=lambda inherited: self._evaluator(inherited, checkpoints),
        )
        if config.final.points:
            self.finetuned(problem.inherited, (config.final.epochs,), None).check()
        return problem

    def _evaluator(self, inherited: Inherited, checkpoints: Path | None) -> Inherited | Finetuned:
        """Return the evaluator of candidates."""
        settings = self.config.evaluator
        return self.finetuned(inherited, settings.rungs, checkpoints) if settings.trains else inherited

    def finetuned(self, inherited: Inherited, rungs: Sequence[int], folder: Path | None) -> Finetuned:
        """Return what trains sub-networks, and keeps what they were trained to in a folder."""
        return Finetuned(
            inherited,
            self.shuffled(self.config.finetuning_batch, 0),
            self.config.finetuning,
            rungs,
            seed=self.config.plan.seed,
            start=self.config.start,
            folder=folder,
        )

    def _shared(self, module: nn.Module, space: PruningSpace, scores: Scores, task: Task, limits: Budget) -> nn.Module:
        """Return the dense network with weights that sub-networks share."""
        shared = self.config.supernet
        settings = replace(self.config.finetuning, learning_rate=shared.learning_rate)
        images = self.shuffled(self.config.finetuning_batch, 0)
        named = identity_of(images)
        return supernet(
            module,
            space,
            images,
            task=task,
            scores=scores,
            epochs=shared.epochs,
            settings=settings,
            limits=limits,
            samples=shared.samples,
            cache=(RESULTS / ".cache", named),
            on_epoch=self.on_shared_epoch,
        )

    def _scored(self) -> list[Batch]:
        """Return the batches that the criterion sees."""
        criterion = self.config.criterion
        if not criterion.needs_data:
            return []
        images = criterion.batches * self.config.evaluator.batch_size
        return list(self.batches("train", images, seed=criterion.seed))

    def _try_sampler(self, space: PruningSpace, limits: Budget) -> None:
        """Make one proposal in a study that is thrown away, so that wrong options show before anything is done."""
        plan = self.config.plan
        study = open_study(None, "trial", plan.objectives)
        study.sampler = make_sampler(plan.sampler, Past.empty(space, limits, plan.objectives), plan.options)
        try:
            study.ask(Parameters(space).distributions)
        except (TypeError, ValueError) as error:
            line = first_line(error)
            raise PruningError(f"sampler.options: {plan.sampler} can't work with them ({line})") from None

    def traced(self, model: nn.Module) -> Network:
        """Return the Network of the model on the first training inputs, of what the task takes of its outputs.

        Its units are verified.
        """
        settings, device = self.config.model, device_of(model)
        part = self.data.train.subset(range(min(settings.examples, len(self.data.train))))
        inputs = [moved(batch, device)[0] for batch in Batches(part, 1, mean=self.mean, std=self.std, device=device)]
        name, used = settings.factory.name, self.task.prediction
        # any length tells whether what is sliced is what is masked
        language = settings.factory.arguments.get("task") == "causal-lm" and isinstance(inputs[0], Mapping)
        short = [{key: tokens[:, :_CHECKED] for key, tokens in one.items()} for one in inputs] if language else []
        asked = self.config.context
        tokens = asked.tokens or (inputs[0]["input_ids"].size(1) if language else 1)
        context = (asked.sequences, tokens) if language else None
        return trace(model, inputs[0], name=name, outputs=used, more=inputs[1:], checked_on=short, context=context)

    def example(self, device: torch.device | str) -> Any:
        """Return the first training input, on a device."""
        return moved(next(iter(self.batches("train", 1))), device)[0]
