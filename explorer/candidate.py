"""Candidate: one sub-network that comes out of a study, to be built, run and shipped."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from explorer.analysis.html import candidate_html
from explorer.analysis.plots import composition_figure
from explorer.analysis.studies import composition
from explorer.analysis.tables import without_choices
from explorer.data import Batch, draw, head
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.finetuning import Finetuned
from explorer.export.huggingface import described, is_transformers
from explorer.export.shipping import Formats, Shipment, check_formats, ship
from explorer.export.target import check_target
from explorer.pruning.patterns import Masks, check_same
from explorer.pruning.sparse import Executed
from explorer.pruning.surgery.skeleton import copied
from explorer.search.metrics import Metric
from explorer.utils.fingerprints import fingerprint
from explorer.utils.keywords import known_keywords
from explorer.utils.modules import device_of, tensors_of
from spaces import Recipe

__all__ = ["Candidate"]

log = logging.getLogger("explorer")


@dataclass(frozen=True)
class Candidate:
    """One sub-network of a study.

    Attributes
    ----------
    recipe
        What is kept.
    metrics
        Its row of the trials table.
    evaluator
        Builds it.
    dense
        What was measured of the dense network, and its costs.
    error
        How errors are shown.
    factory, arguments
        The import path of what makes the dense model, if there is one, and its arguments.
    """

    recipe: Recipe
    metrics: Mapping[str, Any]
    evaluator: Inherited | Finetuned
    dense: Mapping[str, float]
    error: Metric
    factory: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    # the modules that were built and are still there, and what their tensors were then
    _built: WeakKeyDictionary[nn.Module, str] = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )

    def __getstate__(self) -> dict[str, Any]:
        # what was built stays with the process that did
        return vars(self) | {"_built": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"_built": WeakKeyDictionary()})

    def __repr__(self) -> str:
        cost, error = self.metrics["flops_ratio"], self.metrics["error"]
        return f"<Candidate: error {error:.4f} at {cost:.3f} of the FLOPs, {self.recipe.to_dict()}>"

    def _repr_html_(self) -> str:
        return candidate_html(self.metrics, composition(self.evaluator.meter.network, self.recipe))

    def plot(self) -> Figure:
        """Return the figure of what the sub-network keeps, layer by layer, against the dense network."""
        return composition_figure(composition(self.evaluator.meter.network, self.recipe))

    def build(self) -> nn.Module:
        """Return the sub-network as it was measured, as a module to train or ship: in eval mode, zeros held.

        The ``config`` of a model of transformers has the sub-network's widths where an architecture can say them, and
        ``save_pretrained`` writes a folder that ``from_pretrained`` loads, or raises a PruningError that says why not.
        """
        module = self._masked()[0]
        if is_transformers(module):
            described(module, head(self.evaluator.meter.validation[0][0], 1))
        self._built[module] = fingerprint(tensors_of(module))
        return module

    def executed(self) -> Executed:
        """Return the sub-network as it runs fastest on this machine, patterns used where that helps, for inference."""
        return self.evaluator.meter.executed(*self._masked())

    def _masked(self) -> tuple[nn.Module, Masks]:
        return self.evaluator.masked(self.recipe, int(self.metrics.get("rung", len(self.evaluator.rungs) - 1)))

    @known_keywords
    def save(
        self,
        folder: str | Path,
        *,
        module: nn.Module | None = None,
        test: Iterable[Any] | None = None,
        onnx: bool = True,
        int8: bool = False,
        hf: bool = False,
    ) -> None:
        """Export the sub-network, as it was measured or as a module trained since, with a card that says what it is.

        `explorer.load` gives it back: a model that was given to `explore` as an importable factory as a module, one
        given as an instance as the module of an exported program, or as itself with ``load(folder, model=skeleton)``.
        ONNX Runtime runs model.onnx. README.md has errors, costs, latencies and how to load each file.

        Parameters
        ----------
        folder
            Created if it is not there. An export that it holds is replaced, anything else is refused.
        module
            The module that `build` returned and that was trained since; its error on validation is measured again.
        test
            Batches on which the error is measured for the card, such as a DataLoader; they choose nothing.
        onnx
            Whether model.onnx is written, where ``pruning-spaces[onnx]`` is installed.
        int8
            Whether model.int8.onnx is too, with 8-bit weights and activations, calibrated on the batches that
            sub-networks are calibrated on; its errors are measured.
        hf
            Whether the folder ``hf`` is, which ``from_pretrained`` of transformers loads without this package.

        Raises
        ------
        PruningError
            If the folder holds anything but an export or can't be written, the module is not this recipe's, or int8 is
            asked for and ONNX Runtime is not installed, or hf is and the model is none of transformers or its
            configuration can't say the sub-network's widths. What else can't be written is a warning.

        Warns
        -----
        UserWarning
            If no module is given, and one that `build` returned has other weights or statistics since.

        Examples
        --------
        ``small = best.build()``, training of ``small``, ``best.save("small", module=small)``.
        """
        batches = None if test is None else draw(test, key="test")
        _, notes = self.ship(Path(folder), Formats(onnx, int8, hf), module, batches, {})
        for note in notes:
            log.warning(note)

    def ship(
        self,
        folder: Path,
        formats: Formats,
        module: nn.Module | None,
        test: Iterable[Batch] | None,
        facts: Mapping[str, Any],
    ) -> tuple[dict[str, Any], list[str]]:
        """Export the sub-network, see `ship`; return its metrics and sentences on what happened."""
        check_formats(formats)
        check_target(folder)
        metrics = without_choices(pd.DataFrame([self.metrics])).iloc[0].dropna().to_dict()
        evaluator, meter = self.evaluator, self.evaluator.meter
        written, masks = self._masked()
        if module is not None:
            check_same(module, written, meter.network, masks)
            written = copied(module).to(device_of(meter.model)).eval()
            metrics |= meter.measured(written)
        elif any(fingerprint(tensors_of(built)) != before for built, before in self._built.items()):
            warnings.warn(
                "a module that build() returned was changed since, and the sub-network is written as it was measured; "
                "save(folder, module=...) writes one trained since",
                # past `save` and its check of keywords
                stacklevel=4,
            )
        inherited = evaluator.inherited if isinstance(evaluator, Finetuned) else evaluator
        shipment = Shipment(
            written,
            masks,
            self.recipe,
            meter.network,
            meter.model,
            meter.task,
            meter.validation,
            inherited.calibration,
            test,
            metrics,
            self.dense,
            self.error,
            self.factory,
            self.arguments,
            facts,
        )
        return ship(shipment, folder, formats)
