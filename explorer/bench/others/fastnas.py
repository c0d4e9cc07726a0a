"""FastNAS of NVIDIA's ModelOpt: widths within one sensitivity, found by halving."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from explorer.bench.others.costs import flops_of, plain
from explorer.data import head
from explorer.problem import Problem
from explorer.search.plan import Plan
from spaces import PruningError

__all__ = ["fastnas"]

# of the widths that are tried; by default 32, which is for wider networks than those of 16 to 64 channels
_DIVISOR = 4
# of validation, that its score is measured on
_INPUTS = 1000
# how much less is asked for where it counts less than we do, and how often
_CLOSER, _TRIES = 0.98, 5


def fastnas(problem: Problem, plan: Plan, shares: Sequence[float]) -> tuple[dict[float, nn.Module], int]:
    """Return the networks that it finds within shares of the FLOPs, and how many it evaluated for all of them.

    Its score is the accuracy on the first validation images; batch norms are estimated on the calibration batches. It
    takes what is within a share as it counts; where we count more, less is asked for.
    """
    import modelopt.torch.prune as mtp

    example = problem.meter.validation[0][0][:1]
    validation, count = [], 0
    for inputs, targets in problem.meter.validation:
        wanted = min(len(targets), _INPUTS - count)
        if wanted > 0:
            validation.append((head(inputs, wanted), head(targets, wanted)))
            count += wanted
    evaluations = 0

    def score(module: nn.Module) -> float:
        nonlocal evaluations
        evaluations += 1
        return 1 - problem.meter.task.evaluate(module, validation).error

    made: dict[float, nn.Module] = {}
    with tempfile.TemporaryDirectory() as folder:
        for share in shares:
            asked, most = share, share * problem.dense["flops"]
            for _ in range(_TRIES):
                config = mtp.fastnas.FastNASConfig()
                config["nn.Conv2d"]["*"]["channel_divisor"] = _DIVISOR
                config["nn.BatchNorm2d"]["*"]["feature_divisor"] = _DIVISOR
                settings = {
                    "data_loader": list(problem.inherited.calibration),
                    "collect_func": lambda batch: batch[0],
                    "score_func": score,
                    # what it measured once serves all shares
                    "checkpoint": str(Path(folder) / "measured.pth"),
                }
                # it prints, draws bars and warns
                silence = contextlib.ExitStack()
                silence.enter_context(contextlib.redirect_stdout(io.StringIO()))
                silence.enter_context(contextlib.redirect_stderr(io.StringIO()))
                with silence, warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    module, _ = mtp.prune(
                        model=plain(problem.meter.model),
                        mode=[("fastnas", config)],
                        constraints={"flops": f"{100 * asked}%"},
                        dummy_input=example,
                        config=settings,
                    )
                made[share] = module.eval()
                if flops_of(module, example) <= most:
                    break
                asked *= _CLOSER
            else:
                flops = flops_of(module, example)
                raise PruningError(f"fastnas: its network has {flops:,.0f} FLOPs, asked are at most {most:,.0f}")
    return made, evaluations
