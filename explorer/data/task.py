"""Task: what a network is for - its loss, the metric that is minimised, and what the trivial predictor reaches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from explorer.data import Batch, head, moved, size_of
from explorer.data.accumulators import accumulator_of
from explorer.data.attempts import attempted, described
from explorer.data.predictions import constant, in_single_precision, prediction, squared_error, wrong
from explorer.data.racing import Race
from explorer.data.reference import Reference
from explorer.utils.keywords import known_keywords
from explorer.utils.modules import device_of, modes_restored, run
from spaces import PruningError, first_line

__all__ = ["Evaluation", "Task", "classification", "regression"]


@dataclass(frozen=True)
class Evaluation:
    """How well a network does.

    Attributes
    ----------
    error
        The task's metric, turned so that less is better; for classes the share of the inputs classified wrongly.
    error_se
        Standard error of `error`; NaN where the metric does not tell.
    loss
        Mean loss; for classes the cross-entropy in nats.
    n
        Number of inputs.
    """

    error: float
    error_se: float
    loss: float
    n: int


@dataclass(frozen=True)
class Task:
    """What a network's outputs are compared with.

    Parameters
    ----------
    loss
        From predictions and targets to the mean loss of a batch.
    metric
        From predictions and targets to one value for each input [n], to such values and their weights [n], or to one
        value of the batch; an object with ``update``, ``compute`` and ``reset`` such as those of torchmetrics, or an
        `explorer.data.accumulators.Accumulator`.
    name, unit
        What the metric is called in tables and plots. With the unit % it is shown times 100.
    higher_is_better
        Whether good networks have a high value; by default what the metric says of itself. Then 1 - value is
        minimised.
    trivial, trivial_loss
        What the predictor that knows nothing reaches, as minimised: the reference of the hypervolume. By default
        that of predicting the mean of the calibration targets, or their most frequent class.
    prediction
        From a model's output to what loss and metric take.
    classes
        How many logits a model must at least return for an input, where that is known.
    constant
        From predictions and calibration targets to what a predictor gives for every input that knows these targets
        only.
    views
        Further columns of an evaluation, beside those of `Evaluation`.
    class_dim
        The dimension of logits along which classes lie, None where predictions are no logits; torch's cross-entropy
        takes them along the second.
    targets
        Raises a `PruningError` if the targets of all validation batches can't tell a good network from a bad one; by
        default if there are `classes` and all are of one.
    against_dense
        Whether the metric compares with the dense network, which is then run beside every other: its targets are pairs
        of targets and the dense network's predictions.
    dense
        That network, once it is known.

    Examples
    --------
    >>> Task(F.mse_loss, squared_error, "squared error").label
    'squared error'
    """

    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    metric: Any = wrong
    name: str = "error"
    unit: str = ""
    higher_is_better: bool | None = None
    trivial: float | None = None
    trivial_loss: float | None = None
    prediction: Callable[[Any], Any] = prediction
    classes: int | None = None
    constant: Callable[[Any, Tensor], Tensor] = constant
    views: Mapping[str, Callable[[Evaluation], float]] = field(default_factory=dict)
    class_dim: int | None = None
    targets: Callable[[Sequence[Any]], None] | None = None
    against_dense: bool = False
    dense: Reference | None = None

    @property
    def label(self) -> str:
        """What is minimised, in words with its unit."""
        name = f"1 - {self.name}" if self._grows else self.name
        return f"{name} ({self.unit})" if self.unit else name

    @property
    def scale(self) -> float:
        """The factor by which what is minimised is multiplied where it is shown."""
        return 100 if self.unit == "%" else 1

    @property
    def classifies(self) -> bool:
        """Whether the loss is torch's cross-entropy, which has label smoothing and takes logits."""
        return self.loss is F.cross_entropy

    @property
    def reference(self) -> dict[str, float]:
        """What the trivial predictor reaches, by column."""
        known = {"error": self.trivial, "loss": self.trivial_loss}
        return {column: value for column, value in known.items() if value is not None}

    def viewed(self, evaluation: Evaluation, prefix: str = "") -> dict[str, float]:
        """Return an evaluation's further columns, their names behind a prefix."""
        return {f"{prefix}{name}": view(evaluation) for name, view in self.views.items()}

    @property
    def _grows(self) -> bool:
        given = self.higher_is_better
        return bool(getattr(self.metric, "higher_is_better", False) if given is None else given)

    def forward(self, model: nn.Module, inputs: Any) -> Any:
        """Return the predictions for inputs: a tensor, a tuple of positional or a mapping of keyword arguments."""
        return self.prediction(run(model, inputs))

    def evaluate(self, model: nn.Module, batches: Iterable[Batch], *, race: Race | None = None) -> Evaluation:
        """Return how well a model does, in eval mode; its modes are restored.

        Parameters
        ----------
        model
            Not changed.
        batches
            Inputs and targets.
        race
            When to stop before all batches were read.

        Raises
        ------
        PruningError
            If there are no inputs, the model, the loss or the metric raises, or the loss or the metric is infinite or
            NaN.
        """
        device = device_of(model)

        def pairs() -> Iterator[tuple[Any, Any]]:
            for batch in batches:
                # only here, so that whatever a loader keeps between readings can still be trained on
                with torch.inference_mode():
                    inputs, targets = moved(batch, device)
                    predictions = attempted("model: forward", self.forward, model, inputs, told=inputs)
                    wanted = self._wanted(model, inputs, targets, of=batch[0])
                yield in_single_precision(predictions), wanted

        with modes_restored(model):
            model.eval()
            return self.compare(pairs(), race=race)

    def _wanted(self, model: nn.Module, inputs: Any, targets: Any, *, of: Any = None) -> Any:
        """Return what the metric compares predictions with; a network without a dense one is its own.

        The dense network's predictions are known again by `of`, the inputs before they were moved to the model.
        """
        if not self.against_dense:
            return targets
        dense = Reference(model) if self.dense is None else self.dense

        def predicted() -> Any:
            with torch.inference_mode(), modes_restored(dense.model):
                return in_single_precision(self.forward(dense.model.eval(), inputs))

        return targets, dense(inputs if of is None else of, predicted)

    def compare(self, pairs: Iterable[tuple[Any, Any]], *, race: Race | None = None) -> Evaluation:
        """Return how well predictions fit their targets, batch by batch, until `race` has seen enough.

        Raises
        ------
        PruningError
            As `evaluate`.
        """
        metric = attempted("task: metric", accumulator_of, self.metric, told=self.metric)
        sizes, losses = list[int](), list[Tensor]()
        for predictions, wanted in pairs:
            targets = wanted[0] if self.against_dense else wanted
            with torch.inference_mode():
                # kept on the device: reading a number back at every batch would stall a GPU
                losses.append(attempted("task: loss", self.loss, predictions, targets, told=(predictions, targets)))
                attempted("task: metric", metric.add, predictions, wanted, told=(predictions, targets))
            sizes.append(size_of(targets))
            if race is not None and race.looks(len(sizes)) and metric.size > 1:
                value, error_se = attempted("task: metric", metric.mean, _shares(sizes), told=self.metric)
                if race.lost(1 - value if self._grows else value, error_se, metric.size, sum(sizes)):
                    break
        if not sum(sizes):
            raise PruningError("evaluation: the batches are empty; an iterator can be read only once")
        weights = _shares(sizes)
        loss = float(weights @ torch.stack(losses).double().cpu())
        if not math.isfinite(loss):
            raise PruningError(f"evaluation: the mean loss is {loss}; the network's outputs are not finite")
        value, error_se = attempted("task: metric", metric.mean, weights, told=self.metric)
        if not math.isfinite(value):
            raise PruningError(f"evaluation: the {self.name} is {value}")
        return Evaluation(1 - value if self._grows else value, error_se, loss, sum(sizes))

    def check(self, model: nn.Module, batch: Batch) -> None:
        """Check on two inputs that the model runs and that loss and metric take what it returns.

        Raises
        ------
        PruningError
            If the model, the loss or the metric raises, the model changes its inputs, or there are fewer logits than
            classes.
        """
        inputs, targets = moved((head(batch[0], 2), head(batch[1], 2)), device_of(model))
        # a view of what is kept and read again and again
        lent = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, inputs)
        with modes_restored(model), torch.no_grad():
            output = attempted("model: forward", run, model.eval(), lent, told=inputs)
        if not all(map(_same, tree_leaves(lent), tree_leaves(inputs))):
            raise PruningError("model: forward changes its inputs in place, which no other could then be measured on")
        predictions = attempted("task: prediction", self.prediction, output, told=output)
        if self.classes is not None:
            _check_logits(predictions, size_of(targets), self.classes)
        loss = attempted("task: loss", self.loss, predictions, targets, told=(predictions, targets))
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise PruningError(f"task: loss returns {described(loss)}, needed is one number for a batch")
        metric = attempted("task: metric", accumulator_of, self.metric, told=self.metric)
        with torch.no_grad():
            wanted = self._wanted(model, inputs, targets)
            attempted("task: metric", metric.add, predictions, wanted, told=(predictions, targets))

    def check_targets(self, batches: Sequence[Batch]) -> None:
        """Check the targets of all batches together, where the task says how or they are classes.

        Raises
        ------
        PruningError
            If they can't tell a good network from a bad one.
        """
        targets = [each for _, each in batches]
        if self.targets is not None:
            self.targets(targets)
        elif self.classes is not None:
            _told_apart(targets)

    def check_direction(self, dense: Mapping[str, float]) -> None:
        """Check that the dense network's metrics don't say that a high value of the metric is good.

        Parameters
        ----------
        dense
            Its ``error``, ``error_se`` and ``loss`` on validation; trivial values are known.

        Raises
        ------
        PruningError
            If it is better than a constant prediction by its loss and clearly worse by its metric, of which nobody said
            whether a high value is good.
        """
        told = self.higher_is_better is not None or hasattr(self.metric, "higher_is_better")
        if told or self.metric in (wrong, squared_error) or self.trivial is None or self.trivial_loss is None:
            return
        error_se = dense["error_se"] if math.isfinite(dense["error_se"]) else 0.0
        if dense["loss"] < self.trivial_loss and dense["error"] - 2 * error_se > self.trivial:
            raise PruningError(
                f"task: {self.name} is {dense['error']:.4g} on validation for the dense network and {self.trivial:.4g} "
                f"for a constant prediction, and by the loss the network is better: is a high {self.name} good? "
                "Then give Task(..., higher_is_better=True), else higher_is_better=False"
            )

    def referred(self, model: nn.Module, calibration: Sequence[Batch], validation: Sequence[Batch]) -> Task:
        """Return the task with the dense network and both trivial values.

        These are the ones given, or those of a constant prediction on validation.

        Raises
        ------
        PruningError
            If there is no telling what to predict: predictions are neither logits of classes nor shaped like targets.
        """
        task = replace(self, dense=Reference(model)) if self.against_dense else self
        if self.trivial is not None and self.trivial_loss is not None:
            return task
        device = device_of(model)
        with modes_restored(model), torch.inference_mode():
            like = self.forward(model.eval(), moved(validation[0], device)[0])
        try:
            known = self.constant(like, torch.cat([targets.to(device) for _, targets in calibration]))
            found = self.compare(
                (known.expand(size_of(y), *known.shape), task._wanted(model, *moved((x, y), device), of=x))
                for x, y in validation
            )
        except Exception as error:
            raise PruningError(
                "task.trivial: not given, with trivial_loss, and what a constant prediction reaches can't be computed "
                f"({first_line(error)[:300]})"
            ) from None
        trivial = found.error if self.trivial is None else self.trivial
        return replace(
            task, trivial=trivial, trivial_loss=found.loss if self.trivial_loss is None else self.trivial_loss
        )


# the dataclass makes it
Task.__init__ = known_keywords(Task.__init__)  # type: ignore[method-assign]


@known_keywords
def classification(classes: int) -> Task:
    """Return the task of telling so many classes apart: cross-entropy, and the share of inputs classified wrongly."""
    return Task(unit="%", trivial=1 - 1 / classes, trivial_loss=math.log(classes), classes=classes)


def regression() -> Task:
    """Return the task of predicting values: mean squared error, as loss and as what is minimised."""
    return Task(_mean_squared_error, squared_error, "mean squared error")


def _told_apart(batches: Sequence[Tensor]) -> None:
    """Raise if several labels are all of one class: every constant prediction would then be right."""
    labels = torch.cat([targets.flatten().cpu() for targets in batches])
    if len(labels) > 1 and bool((labels == labels[0]).all()):
        raise PruningError(f"all {len(labels)} labels are {int(labels[0])}, needed are two classes at least")


def _shares(sizes: Sequence[int]) -> Tensor:
    return torch.tensor(sizes, dtype=torch.float64) / sum(sizes)


def _mean_squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    return squared_error(predictions, targets).mean()


def _check_logits(logits: Any, count: int, classes: int) -> None:
    shape = list(logits.shape) if isinstance(logits, Tensor) else []
    if len(shape) != 2 or shape[0] != count or shape[1] < classes or not logits.is_floating_point():
        raise PruningError(
            f"model: it returns {described(logits)}, needed are logits of shape [{count}, {classes} classes]"
        )


def _same(one: Any, other: Any) -> bool:
    """Tell whether two tensors hold the same, NaN at the same places included; anything else counts as the same."""
    return not isinstance(one, Tensor) or bool(((one == other) | (one != one)).all())
