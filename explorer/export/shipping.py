"""Shipping: a sub-network as every file that it can be used from, measured as it is in them, with a card."""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from explorer.data import Batch, head, moved
from explorer.data.task import Evaluation, Task
from explorer.export.card import Card, Errors
from explorer.export.files import write
from explorer.export.huggingface import FOLDER as HF
from explorer.export.huggingface import save_huggingface
from explorer.export.onnx import checked_onnx, quantized
from explorer.export.target import check_target, replaced
from explorer.pruning.patterns import Masks
from explorer.pruning.sparse import execute
from explorer.search.metrics import Metric
from explorer.utils.hardware import load, processor, version_of
from explorer.utils.modules import device_of
from explorer.utils.programs import OnnxModule, Program, program_of
from explorer.utils.quiet import quiet
from explorer.utils.runtime_names import ONNX, RUNTIMES, missing
from explorer.utils.runtimes import openvino_ready, ready
from explorer.utils.timing import Timing, in_turns
from spaces import COSTS, Network, PruningError, Recipe

__all__ = ["Formats", "Shipment", "check_formats", "ship"]


@dataclass(frozen=True)
class Formats:
    """Which files are written beside those that `explorer.load` reads.

    Parameters
    ----------
    onnx
        ONNX, where its packages are installed.
    int8
        The same quantised to 8-bit integers.
    hf
        A folder that transformers loads, of a model of that library.
    """

    onnx: bool = True
    int8: bool = False
    hf: bool = False


def check_formats(formats: Formats) -> None:
    """Check that the formats asked for can be written here.

    Raises
    ------
    PruningError
        If int8 is, and its packages are not installed or it is without ONNX.
    """
    if formats.int8 and not formats.onnx:
        raise PruningError("int8: it is asked for, and ONNX is not, of which it is made")
    if formats.int8 and (command := missing(ONNX)) is not None:
        raise PruningError(f"int8: ONNX Runtime is not installed: {command}")


@dataclass(frozen=True, repr=False)
class Shipment:
    """A sub-network, and all that is told of it.

    Parameters
    ----------
    module, masks
        The sub-network in eval mode, and the masks of its patterns.
    recipe, network
        What it is and of what.
    dense
        The dense network in eval mode.
    task
        What outputs are compared with targets by.
    validation, calibration
        Batches on which the error of what is quantised is measured, and by which it is.
    test
        Batches on which the error is measured and stated; None where there are none.
    metrics, beside
        What was measured of the sub-network, and of the dense network.
    error
        How errors are shown.
    factory, arguments
        Import path of what makes the dense model, and its keyword arguments.
    facts
        JSON-safe values that model.json keeps beside; ``mean`` and ``std`` are those of images.
    """

    module: nn.Module
    masks: Masks
    recipe: Recipe
    network: Network
    dense: nn.Module
    task: Task
    validation: Sequence[Batch]
    calibration: Sequence[Batch]
    test: Iterable[Batch] | None
    metrics: Mapping[str, Any]
    beside: Mapping[str, Any]
    error: Metric
    factory: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def ship(shipment: Shipment, folder: Path, formats: Formats) -> tuple[dict[str, Any], list[str]]:
    """Write a sub-network to a folder, and return its metrics with its test error, and sentences on what happened.

    Files are recipe.yaml, network.yaml, weights.safetensors and model.json, which `explorer.load` reads; program.pt2;
    model.onnx, model.int8.onnx and hf as asked for; openvino.xml where OpenVINO is installed; and README.md. An export
    that the folder holds is replaced as a whole, or stays if anything is raised.

    Parameters
    ----------
    shipment
        The sub-network.
    folder
        Created if it is not there.
    formats
        What is asked for; what turns out not to be possible is among the sentences, and the other files are written.

    Raises
    ------
    PruningError
        If the folder holds anything but an export or can't be written, a model without a factory can't be exported as
        a program, or no configuration of transformers says what a sub-network is that is asked for as one.
    """
    check_formats(formats)
    said = check_target(folder)
    with replaced(folder) as temporary:
        work = _Work(shipment, temporary)
        metrics = work.write(formats)
    # what was in the folder is no part of the card
    return metrics, [*([] if said is None else [said]), *work.notes]


_Timings = dict[str, tuple[Timing, Timing | None]]


class _Work:
    """The writing of one shipment to an empty folder."""

    def __init__(self, shipment: Shipment, folder: Path) -> None:
        self.it, self.folder = shipment, folder
        self.notes: list[str] = []
        # as it is measured by torch, and as a program on the CPU, where it is read by anybody
        self.module = shipment.module
        self.plain = self.module if device_of(self.module).type == "cpu" else copy.deepcopy(self.module).cpu()
        self.inputs = moved(shipment.validation[0], "cpu")[0]
        self.one = head(self.inputs, 1)

    def write(self, formats: Formats) -> dict[str, Any]:
        it = self.it
        if formats.hf:
            # first, as it is refused where widths differ
            save_huggingface(self.plain, self.folder / HF, self.one)
        metrics, errors = self._errors()
        program = self._program()
        onnx = self._onnx(program, formats)
        quantised = None
        if onnx is not None and program is not None:
            if formats.int8:
                quantised = self._int8(onnx, program)
            self._openvino()
        if quantised is not None:
            found = {"error": it.task.evaluate(quantised, it.validation)}
            found |= {} if it.test is None else {"test_error": it.task.evaluate(quantised, it.test)}
            values = {key: (result.error, _number(result.error_se)) for key, result in found.items()}
            metrics |= {f"int8_{key}": value for key, (value, _) in values.items()}
            errors["int8"] = Errors({{"error": "validation"}.get(key, "test"): value for key, value in values.items()})
        timings = self._timings(onnx, quantised)
        metrics |= {f"{key}_latency_ms": timing.median for key, (timing, _) in timings.items()}
        write(
            it.module,
            it.recipe,
            it.network,
            self.folder,
            masks=it.masks,
            factory=it.factory,
            arguments=it.arguments,
            program=program,
            facts={**it.facts, "metrics": metrics},
        )
        card = Card(
            it.network,
            it.recipe,
            it.error,
            errors,
            {cost: (metrics[cost], it.beside[cost]) for cost in COSTS if cost in metrics},
            {_called(key): pair for key, pair in timings.items()},
            self._hardware(),
            {path.name: _size(path) for path in self.folder.iterdir() if not path.name.startswith(".")},
            self._loading(program, formats),
            {} if onnx is None else _described(onnx.named(self.one)),
            (it.facts.get("mean", ()), it.facts.get("std", ())),
            self.notes,
        )
        (self.folder / "README.md").write_text(card.text())
        return metrics

    def _errors(self) -> tuple[dict[str, Any], dict[str, Errors]]:
        """Return the metrics with the test error, and the errors of both networks."""
        it = self.it
        metrics, beside = dict(it.metrics), dict(it.beside)
        if it.test is not None:
            metrics |= _tested(it.task, it.task.evaluate(it.module, it.test))
            # a run has measured it
            if "test_error" not in beside:
                beside |= _tested(it.task, it.task.evaluate(it.dense, it.test))
        return metrics, {"small": Errors.of(metrics), "dense": Errors.of(beside)}

    def _program(self) -> Program | None:
        try:
            return program_of(self.plain, self.one)
        except PruningError as error:
            if self.it.factory is None:
                raise
            self.notes.append(f"{error}: no program.pt2 and no model.onnx")
            return None

    def _onnx(self, program: Program | None, formats: Formats) -> OnnxModule | None:
        if program is None or not formats.onnx:
            return None
        if (command := missing(ONNX)) is not None:
            self.notes.append(f"no model.onnx, since ONNX Runtime is not installed: {command}")
            return None
        try:
            return checked_onnx(self.plain, program, self.inputs, self.folder / "model.onnx")[0]
        except PruningError as error:
            self.notes.append(f"{error}: no model.onnx")
            return None

    def _int8(self, onnx: OnnxModule, program: Program) -> OnnxModule | None:
        try:
            path, target = (self.folder / name for name in ("model.onnx", "model.int8.onnx"))
            return quantized(onnx, path, program, self.it.calibration, target)
        except PruningError as error:
            self.notes.append(f"{error}: no model.int8.onnx")
            return None

    def _openvino(self) -> None:
        if missing(RUNTIMES["openvino"][1]) is not None:
            return
        try:
            with quiet():
                openvino = importlib.import_module("openvino")
                model = openvino.convert_model(str(self.folder / "model.onnx"))
                openvino.save_model(model, str(self.folder / "openvino.xml"), compress_to_fp16=False)
        except Exception as error:
            self.notes.append(f"OpenVINO can't convert the network ({type(error).__name__}): no openvino.xml")

    def _timings(
        self, onnx: OnnxModule | None, quantised: OnnxModule | None
    ) -> dict[str, tuple[Timing, Timing | None]]:
        """Return by runtime the times of one input, of the sub-network and of the dense network, all in turns."""
        it, one = self.it, self.one
        device = device_of(self.module)
        here = tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, one)
        turns = {
            ("torch", "small"): ready("torch", execute(it.module, it.masks, here).module, here)(here),
            ("torch", "dense"): ready("torch", it.dense, here)(here),
        }
        if onnx is not None:
            named = onnx.named(one)
            turns["onnxruntime", "small"] = lambda: onnx.session.run(None, named)
            try:
                turns["onnxruntime", "dense"] = ready("onnxruntime", it.dense, here)(here)
            except PruningError as error:
                self.notes.append(f"of the dense network: {error}")
            if quantised is not None:
                turns["int8", "small"] = lambda: quantised.session.run(None, named)
            path = self.folder / "openvino.xml"
            if path.exists():
                turns["openvino", "small"] = openvino_ready(path, onnx)(one)
                turns["openvino", "dense"] = ready("openvino", it.dense, here)(here)
        found = dict(zip(turns, in_turns(list(turns.values())), strict=True))
        return {
            name: (timing, found.get((name, "dense"))) for (name, which), timing in found.items() if which == "small"
        }

    def _hardware(self) -> str:
        versions = [
            f"{name} {version}" for name in ("torch", "onnxruntime", "openvino") if (version := version_of(name))
        ]
        device = device_of(self.module)
        graphics = f" and {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
        threads = torch.get_num_threads()
        busy = f", load {load():g}" if load() is not None else ""
        return (
            f"{processor()}{graphics} with {threads} thread{'s' if threads > 1 else ''}{busy}, "
            f"{', '.join(versions)}, {date.today().isoformat()}"
        )

    def _loading(self, program: Program | None, formats: Formats) -> str:
        if self.it.factory is not None:
            call, why = 'explorer.load("FOLDER")', "a plain torch module, to run or to train"
        else:
            call = f'explorer.load("FOLDER", model={type(self.module).__name__}())'
            why = "your class, made as the dense network was; its weights do not matter"
        lines = ["import explorer", "", f"module = {call}  # {why}"]
        if program is not None:
            lines += ["", "import torch", "", 'program = torch.export.load("program.pt2").module()  # with torch alone']
        if formats.hf:
            kind = type(self.module).__name__
            call = f'model = {kind}.from_pretrained("{HF}")  # with transformers alone'
            lines += ["", f"from transformers import {kind}", "", call]
        body = "\n".join(lines)
        return f"```python\n{body}\n```"


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all in a folder."""
    return sum(part.stat().st_size for part in path.rglob("*")) if path.is_dir() else path.stat().st_size


def _tested(task: Task, found: Evaluation) -> dict[str, float]:
    noise = {} if math.isnan(found.error_se) else {"test_error_se": found.error_se}
    return {"test_error": found.error, **noise, **task.viewed(found, "test_")}


def _called(key: str) -> str:
    return "ONNX Runtime, int8" if key == "int8" else RUNTIMES[key][0]


def _described(named: Mapping[str, Any]) -> dict[str, tuple[Sequence[int], str]]:
    return {name: (array.shape, array.dtype.name) for name, array in named.items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
