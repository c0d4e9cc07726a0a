"""Meter: what sub-networks reach and take on validation: error, loss, latency, energy and realised costs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from explorer.data import Batch, head, size_of
from explorer.data.racing import Race, dealt
from explorer.data.reference import Reference
from explorer.data.task import Evaluation, Task
from explorer.evaluation.budgets import LatencyLimit
from explorer.evaluation.energy import joules
from explorer.pruning.patterns import Masks, realised_costs
from explorer.pruning.sparse import Executed, execute
from explorer.pruning.surgery.skeleton import copied
from explorer.search.jobs import OverBudgetError
from explorer.utils.decoding import decoding, next_tokens
from explorer.utils.modules import device_of, run
from explorer.utils.runtimes import Ready, ready
from explorer.utils.timing import in_turns
from spaces import Network, Recipe

__all__ = ["Meter"]

log = logging.getLogger("explorer")


@dataclass(repr=False)
class Meter:
    """Measures modules beside the dense network that they are made from.

    Parameters
    ----------
    model
        The dense network, on the device where modules are measured. A copy is kept, in eval mode.
    network
        What `trace` said of it.
    validation
        Batches the error is measured on.
    task
        What outputs are compared with targets by.
    latency
        If given, latency is measured for every candidate, before its error.
    racing
        Whether an evaluation may end early, see `explorer.data.racing`. Validation inputs are then mixed; where their
        shapes differ from batch to batch, all are read.
    runtime
        What latency is measured in, one of `explorer.utils.runtime_names.RUNTIMES`.
    """

    model: nn.Module
    network: Network
    validation: Sequence[Batch]
    task: Task
    latency: LatencyLimit | None = None
    racing: bool = False
    runtime: str = "torch"
    _channels_last: bool = field(init=False)
    # which form of a layer is fastest, found once for every pattern and shape
    _forms: dict[Any, tuple[str, str]] = field(init=False, default_factory=dict)
    # the dense network in the runtime, made ready when it is first timed
    _ready: Ready | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        # images with channels innermost make convolutions about twice as fast on a CPU; torch has it for 2d only
        mixed = dealt(self.validation) if self.racing else None
        if self.racing and mixed is None:
            log.warning("evaluator.racing: validation batches differ in shape and can't be mixed, each is read whole")
        self.validation, self.racing = mixed or self.validation, mixed is not None
        inputs, dims = self.validation[0][0], [tensor.dim() for tensor in self.model.parameters()]
        self._channels_last = isinstance(inputs, Tensor) and inputs.dim() == 4 and max(dims, default=0) < 5
        self.model = self.prepared(copied(self.model))
        if self.task.dense is not None:
            # one copy of it is enough
            self.task = replace(self.task, dense=Reference(self.model))
        self.validation = self.laid_out(self.validation)

    def __getstate__(self) -> dict[str, Any]:
        """Return what other processes are sent: they make runtimes ready themselves."""
        return {**vars(self), "_ready": None}

    def prepared(self, module: nn.Module) -> nn.Module:
        """Return a module as all are measured: in eval mode, and in the batches' memory layout."""
        if self._channels_last:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return module.eval()

    def laid_out(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Return batches of the same kind as those of validation in the memory layout of modules."""
        if not self._channels_last:
            return batches
        return [(x.contiguous(memory_format=torch.channels_last), y) for x, y in batches]

    def executed(self, module: nn.Module, masks: Masks) -> Executed:
        """Return a sub-network as it runs fastest here: masked layers computing with their patterns."""
        return execute(module, masks, self.validation[0][0], known=self._forms)

    def measured(self, module: nn.Module, bar: float | None = None) -> dict[str, float]:
        """Return a module's ``error``, ``error_se`` and ``loss`` on validation, and what the task shows beside them.

        With racing ``validation_inputs`` says how many of them were seen: less than all where it was soon sure that
        the error is above `bar`.
        """
        if not self.racing:
            return self._metrics(self.task.evaluate(module, self.validation))
        count = sum(size_of(targets) for _, targets in self.validation)
        race = None if bar is None else Race(bar, count)
        found = self.task.evaluate(module, self.validation, race=race)
        return self._metrics(found) | {"validation_inputs": found.n}

    def dense(self) -> dict[str, float]:
        """Return the dense network's ``error``, ``error_se`` and ``loss``, with its own batch-norm statistics.

        Where candidates' latency is measured, its own is among them, with ratio 1.
        """
        metrics = self._metrics(self.task.evaluate(self.model, self.validation))
        if self.latency is not None:
            (timing,) = in_turns([self._dense_ready()(self._one())])
            metrics |= {"latency_ms": timing.median, "latency_ratio": 1.0}
        return metrics

    def limits(self, module: nn.Module, masks: Masks, *, limited: bool = True) -> dict[str, float]:
        """Return a module's latency where that is asked for, checked against the limit if there is one.

        Raises
        ------
        OverBudgetError
            If it exceeds the limit and `limited` does not say otherwise.
        """
        if self.latency is None:
            return {}
        metrics = self.timings(module, masks, batch=False)
        excess = self.latency.excess(metrics["latency_ms"], metrics["latency_ratio"])
        if limited and excess > 0:
            raise OverBudgetError(excess, metrics)
        return metrics

    def realised(self, recipe: Recipe, masks: Masks) -> dict[str, float]:
        """Return the costs that a recipe's masks come to, nothing where it has none."""
        return realised_costs(self.network, recipe, masks) if masks else {}

    def timings(self, module: nn.Module, masks: Masks, *, batch: bool = True) -> dict[str, float]:
        """Return latencies in ms, median and quartiles, measured in turns with the dense network.

        ``latency_ms`` is that of one input, ``latency_batch_ms`` that of a validation batch, in the meter's runtime. In
        torch it is that of the network as it runs fastest here, patterns used where that helps; other runtimes compute
        with the zeros. Beside them ``_dense_ms`` is the dense network's, and of a network with patterns, in torch,
        ``_masked_ms`` is the latency with dense kernels, that compute with the zeros too. ``latency_decode_ms`` is, of
        a language model in torch, that of a token of each sequence after the network's context.
        """
        out: dict[str, float] = {}
        patterns = masks if self.runtime == "torch" else {}
        plain, beside = ready(self.runtime, module, self._one()), self._dense_ready()
        for name, inputs in self._timed(batch=batch).items():
            # which form of a layer is fastest depends on the inputs
            executed = execute(module, patterns, inputs, known=self._forms)
            if name == "latency_decode":
                modules = [executed.module, self.model, *([module] if patterns else [])]
                contestants = [decoding(each, *self.network.context) for each in modules]
            else:
                fastest = ready("torch", executed.module, inputs) if patterns else plain
                contestants = [fastest(inputs), beside(inputs)] + ([plain(inputs)] if patterns else [])
            small, dense, *rest = in_turns(contestants)
            ratio = small.over(dense)
            out |= {
                f"{name}_ms": small.median,
                f"{name}_ms_q1": small.lower,
                f"{name}_ms_q3": small.upper,
                f"{name}_dense_ms": dense.median,
                f"{name}_ratio": ratio.median,
                f"{name}_ratio_q1": ratio.lower,
                f"{name}_ratio_q3": ratio.upper,
            }
            for masked in rest:
                out |= {f"{name}_masked_ms": masked.median, f"{name}_sparse_layers": len(executed.layers)}
            energies = None if name == "latency_decode" else self._energy(executed.module, inputs)
            out |= {} if energies is None else {f"{name.replace('latency', 'energy')}_mj": energies}
        return out

    def _timed(self, *, batch: bool) -> dict[str, Any]:
        """Return what is timed, by the name of its latency: one input alone, or also a batch and a token more."""
        if not batch:
            return {"latency": self._one()}
        timed = {"latency": self._one(), "latency_batch": self.validation[0][0]}
        if self.network.caches and self.runtime == "torch":
            timed["latency_decode"] = next_tokens(self.network.context[0], device_of(self.model))
        return timed

    def check_runtime(self) -> None:
        """Check that the dense network runs in the meter's runtime, so that it shows before a search.

        Raises
        ------
        PruningError
            If it does not.
        """
        self._dense_ready()

    def _one(self) -> Any:
        """Return the input whose latency is measured."""
        return head(self.validation[0][0], 1)

    def _dense_ready(self) -> Ready:
        if self._ready is None:
            self._ready = ready(self.runtime, self.model, self._one())
        return self._ready

    def _energy(self, module: nn.Module, inputs: Any) -> float | None:
        """Return millijoules a forward pass, where the machine tells."""
        with torch.inference_mode():
            energy = joules(lambda: run(module, inputs), device_of(module))
        return None if energy is None else 1000 * energy

    def _metrics(self, result: Evaluation) -> dict[str, float]:
        plain = {"error": result.error, "error_se": result.error_se, "loss": result.loss}
        return plain | self.task.viewed(result)
