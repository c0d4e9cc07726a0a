"""Card: the README of an exported sub-network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from explorer.analysis.views import FAR_APART
from explorer.search.metrics import Metric
from explorer.utils.timing import Timing
from spaces import Network, Recipe

__all__ = ["Card", "Errors", "in_words"]

# standard errors on each side of an interval that holds the value in 95 of 100 cases
_WIDE = 1.96
_COSTS = {
    "flops": "multiply-adds",
    "params": "parameters",
    "bytes": "bytes of weights",
    "memory": "bytes of weights, keys and values",
}
_WHAT = {
    "README.md": "this card",
    "hf": "the network for transformers: a folder for from_pretrained",
    "model.int8.onnx": "the network with 8-bit weights and activations, for ONNX Runtime",
    "model.json": "what makes the dense network's structure, and what was measured",
    "model.onnx": "the network for ONNX Runtime and others",
    "network.yaml": "the dense network's structure that the recipe is of",
    "openvino.bin": "weights of openvino.xml",
    "openvino.xml": "the network for OpenVINO",
    "program.pt2": "the network for torch.export.load",
    "recipe.yaml": "what was kept",
    "weights.safetensors": "its weights, for explorer.load",
}


@dataclass(frozen=True)
class Errors:
    """A network's errors by split, each with its standard error or None."""

    values: Mapping[str, tuple[float, float | None]]

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Errors:
        """Return the errors among metrics."""
        names = {"test": "test_error", "validation": "error"}
        return cls({split: (metrics[k], metrics.get(f"{k}_se")) for split, k in names.items() if k in metrics})

    def text(self, split: str, error: Metric) -> str:
        """Return an error with its 95 % interval, as tables show it; nothing where it was not measured."""
        if split not in self.values:
            return ""
        value, se = self.values[split]
        if se is None or se != se:
            return error.text(value)
        low, high = max(0.0, value - _WIDE * se), value + _WIDE * se
        return f"{error.text(value)} ({error.text(low)} to {error.text(high)})"


@dataclass(frozen=True)
class Card:
    """What a README says of an exported sub-network.

    Parameters
    ----------
    network, recipe
        The dense network and what is kept of it.
    error
        How errors are shown.
    errors
        By network: ``small``, ``dense``, and ``int8`` where there is one.
    costs
        By cost the sub-network's and the dense network's.
    timings
        By runtime the times of the sub-network and, where they were measured, of the dense network.
    hardware
        What they were measured on.
    files
        Bytes by name.
    loading
        How to load it with this package: the call and why it needs its arguments.
    inputs
        Shape and type of every input of the ONNX file by name; empty where there is none.
    statistics
        Mean and standard deviation by which images are normalised, empty where they are not.
    notes
        Sentences on what was not written, or what to know.
    """

    network: Network
    recipe: Recipe
    error: Metric
    errors: Mapping[str, Errors]
    costs: Mapping[str, tuple[float, float]]
    timings: Mapping[str, tuple[Timing, Timing | None]]
    hardware: str
    files: Mapping[str, int]
    loading: str
    inputs: Mapping[str, tuple[Sequence[Any], str]]
    statistics: tuple[Sequence[float], Sequence[float]] = ((), ())
    notes: Sequence[str] = field(default_factory=tuple)

    def text(self) -> str:
        """Return the page as Markdown."""
        parts = [f"# A sub-network of {self.network.name}", self._summary(), self._table(), self._latency()]
        parts += [f"- {note}" for note in self.notes]
        parts += ["## What was kept", "\n".join(f"- {line}" for line in in_words(self.recipe, self.network))]
        parts += ["## Files", self._files(), "## Load it", self.loading]
        if self.inputs:
            parts += ["Without torch and without this package (`pip install onnxruntime numpy`):", self._snippet()]
        return "\n\n".join(part for part in parts if part) + "\n"

    @property
    def _label(self) -> str:
        return self.error.label.removeprefix("validation ")

    def _summary(self) -> str:
        small, dense = self.errors["small"], self.errors["dense"]
        split = "test" if "test" in small.values else "validation"
        shares = " and ".join(
            f"{self.costs[cost][0] / self.costs[cost][1]:.3f} of the {_COSTS[cost]}" for cost in ("flops", "params")
        )
        name = self._label.replace(" (%)", ""), " %" if "(%)" in self._label else ""
        beside = (
            f" beside {dense.text(split, self.error)}{name[1]} of the dense network" if split in dense.values else ""
        )
        return f"{split.capitalize()} {name[0]} {small.text(split, self.error)}{name[1]}{beside}, at {shares}."

    def _table(self) -> str:
        small, dense = self.errors["small"], self.errors["dense"]
        rows = [("", "this network", "dense network", "ratio")]
        for split in ("test", "validation"):
            if split in small.values:
                texts = [errors.text(split, self.error) for errors in (small, dense)]
                rows.append((f"{split} {self._label}", texts[0], texts[1], ""))
        for cost, (ours, theirs) in self.costs.items():
            rows.append((_COSTS[cost], f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.3f}"))
        if (quantised := self.errors.get("int8")) is not None:
            rows += [
                (f"{split} {self._label} of model.int8.onnx", quantised.text(split, self.error), "", "")
                for split in quantised.values
            ]
        interval = "Errors are those of the network as it is in these files; in brackets 95 % intervals."
        return f"{_markdown(rows)}\n\n{interval}"

    def _latency(self) -> str:
        rows = [("latency of one input in ms", "this network", "dense network", "ratio")]
        for name, (ours, theirs) in self.timings.items():
            beside = ("", "") if theirs is None else (_milliseconds(theirs), f"{ours.over(theirs).median:.2f}")
            rows.append((name, _milliseconds(ours), *beside))
        if len(rows) == 1:
            return ""
        busy = " ~ quartiles far apart: the machine was busy, the number compares with no other."
        marked = busy if any("~" in cell for row in rows for cell in row) else ""
        return f"{_markdown(rows)}\n\nMedians and quartiles, measured in turns on {self.hardware}.{marked}"

    def _files(self) -> str:
        rows = [("file", "bytes", "what it is")]
        rows += [(name, f"{size:,}", _WHAT.get(name, "")) for name, size in sorted(self.files.items())]
        return _markdown(rows)

    def _snippet(self) -> str:
        lines = ["import numpy as np", "import onnxruntime", ""]
        lines += ['session = onnxruntime.InferenceSession("model.onnx")']
        mean, std = self.statistics
        if len(mean) and len(self.inputs) == 1:
            ((name, (shape, _)),) = self.inputs.items()
            lines += [
                f"images = np.zeros({tuple(shape)}, np.float32)  # as many as you like, scaled to 0..1",
                f"mean, std = np.float32({list(mean)}), np.float32({list(std)})",
                f"inputs = {{{name!r}: (images - mean[:, None, None]) / std[:, None, None]}}",
            ]
        else:
            arrays = [f"{name!r}: np.zeros({tuple(shape)}, np.{kind})" for name, (shape, kind) in self.inputs.items()]
            lines += [f"inputs = {{{', '.join(arrays)}}}"]
        lines += ["outputs = session.run(None, inputs)[0]"]
        body = "\n".join(lines)
        return f"```python\n{body}\n```"


def in_words(recipe: Recipe, network: Network) -> list[str]:
    """Return a recipe in words, a line for everything that is kept in the same way."""
    lines = [f"block {name} is dropped" for name in recipe.blocks]
    kept: dict[str, list[str]] = {}
    for name, ratio in recipe.channels:
        unit = network.unit[name]
        kept.setdefault(f"{100 * ratio:.3g} % of the channels", []).append(
            f"{name} ({round(ratio * unit.channels)} of {unit.channels})"
        )
    lines += [f"{share}: {', '.join(names)}" for share, names in kept.items()]
    patterns: dict[str, list[str]] = {}
    for name, pattern in recipe.weights:
        patterns.setdefault(f"{100 * pattern.ratio:.3g} % of the weights that are left, {pattern}", []).append(name)
    lines += [f"{share}: {', '.join(names)}" for share, names in patterns.items()]
    return lines or ["everything: it is the dense network"]


def _milliseconds(timing: Timing) -> str:
    apart = timing.upper - timing.lower > FAR_APART * timing.median
    return f"{'~' if apart else ''}{timing.median:.3g} ({timing.lower:.3g} to {timing.upper:.3g})"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *body])
