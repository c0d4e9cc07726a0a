"""Evaluating a recipe, against the forward passes it consists of; and reconstructing it, against inheriting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explorer.bench.cases import Case
from explorer.bench.measured import Measured
from explorer.data.task import classification
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.settings import EvaluatorSettings
from explorer.search.jobs import Job
from explorer.utils.conf import defaults
from explorer.utils.timing import interleaved

__all__ = ["evaluate"]

Batches = list[tuple[Tensor, Tensor]]


def evaluate(config: dict[str, Any]) -> list[Measured]:
    """Return the time of evaluating random recipes over bare forward passes of the same batches.

    And that of the evaluator ``reconstruct``, as conf/ has it, over that of ``inherit``. The bare passes run modules
    built before, batch norm in train mode on the calibration batches and all in eval mode on the validation batches.
    Inputs are random: what they show changes no time.
    """
    options = config["evaluate"]
    torch.manual_seed(config["seed"])
    figures = []
    for name in options["models"]:
        case, size = Case.built_in(name), options["batch_size"]
        calibration = _batches(case, options["calibration_batches"] * size, size)
        validation = _batches(case, options["images"], size)
        made = partial(Inherited.of, case.model, case.network, case.pruner.scores)
        evaluator = made(calibration, validation, classification(10))
        solved = EvaluatorSettings.of(defaults("evaluator/reconstruct"))
        solving = made(
            _batches(case, solved.calibration_batches * size, size),
            validation,
            classification(10),
            reconstruction=solved.reconstruction(solved.name),
        )
        space = case.space
        for number, row in enumerate(space.sample(options["recipes"], np.random.default_rng(config["seed"]))):
            recipe = space.recipe(row)
            ours, solved_in, bare = interleaved(
                [
                    partial(evaluator, Job(-1, recipe)),
                    partial(solving, Job(-1, recipe)),
                    _bare(evaluator.build(recipe), evaluator.build(recipe), evaluator),
                ],
                runs=config["repeats"],
                seconds=config["seconds"],
            )
            what = f"{name} at {case.example.shape[-1]}, random recipe {number}: time"
            value = ours.median / bare.median
            figures.append(Measured(what, "bare forward passes", value, at_most=1.1, ours=ours, theirs=bare))
            value = solved_in.median / ours.median
            figures.append(Measured(f"{what}, reconstruct", "inherit", value, at_most=2.5, ours=solved_in, theirs=ours))
    return figures


def _batches(case: Case, count: int, size: int) -> Batches:
    inputs, labels = case.inputs(count), torch.randint(10, (count,))
    return list(zip(inputs.split(size), labels.split(size), strict=True))


def _bare(calibrated: nn.Module, evaluated: nn.Module, evaluator: Inherited) -> Callable[[], None]:
    """Return a function that does an evaluation's forward passes, on inputs in the evaluator's own layout."""
    normed = False
    for module in calibrated.modules():
        module.training = isinstance(module, nn.BatchNorm2d)
        normed |= module.training
    # without batch norms there is nothing to calibrate
    calibration = evaluator.calibration if normed else []

    def forward() -> None:
        with torch.no_grad():
            for x, _ in calibration:
                calibrated(x)
        with torch.inference_mode():
            for x, _ in evaluator.meter.validation:
                evaluated(x)

    return forward
