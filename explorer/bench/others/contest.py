"""Contest: what every contestant prunes, and how each of its sub-networks is measured and trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from explorer.bench.others.costs import counted
from explorer.bench.others.methods import TOLERANCE, Entry
from explorer.bench.published import key_of, published
from explorer.evaluation.training import Trainer, epoch_of, reestimate_bn, seed_of, seeded
from explorer.pruning.patterns import Masks, put_on
from explorer.pruning.surgery.skeleton import copied
from explorer.runs.config import RunConfig
from explorer.runs.setup import Setup
from explorer.utils.files import atomic
from explorer.utils.modules import device_of
from spaces import Network, PruningError, Recipe

__all__ = ["COLUMNS", "DENSE", "Contest"]

DENSE = "dense"
"""The name of the control: the dense network, trained as long as what was pruned."""
COLUMNS = ["method", "space", "seed", "asked", "flops", "params", "epochs", "error", "test_error"]
COLUMNS += ["test_images", "evaluations", "tool"]
"""Of the table: see `explorer.bench.others.others`."""


class Contest:
    """One dense network, its data and a seed: the ground that contestants meet on.

    Parameters
    ----------
    options
        The section ``others`` of conf/bench.yaml.
    space
        What recipes choose from, one of conf/space.
    seed
        Of the calibration and validation images, of a search and of the order of trainings.
    reconstruct
        Whether recipes' sub-networks are reconstructed, and how trainings begin.
    folder
        Where what was measured is kept.
    """

    def __init__(self, options: Mapping[str, Any], *, space: str, seed: int, reconstruct: bool, folder: Path) -> None:
        self._options, self._space, self._seed, self._folder = options, space, seed, folder
        images = "null" if options["images"] is None else options["images"]
        self._setup = Setup(
            RunConfig.composed(
                [
                    *published("others", options),
                    f"space={space}",
                    f"seed={seed}",
                    f"evaluator={'reconstruct' if reconstruct else 'inherit'}",
                    f"evaluator.images={images}",
                    f"trials={options['trials']}",
                    *(f"finetuning.{key}={value}" for key, value in options["finetuning"].items()),
                    "device=cpu",
                ]
            )
        )
        self.problem = self._setup.problem()
        self._test = list(self._setup.batches("test", options["test_images"]))
        settings = self._setup.config.finetuning
        self._key = key_of(self.problem, [asdict(settings), options["test_images"], options["trials"]])

    def control(self) -> pd.DataFrame:
        """Return the rows of the dense network."""
        return self._rows(DENSE, [1.0], "", lambda _: ({1.0: copied(self.problem.meter.model)}, 0))

    def meet(self, entry: Entry, shares: Sequence[float]) -> pd.DataFrame:
        """Return the rows of a contestant at shares of the FLOPs; what was measured before is read.

        Raises
        ------
        PruningError
            If a sub-network of its has more than its share.
        """
        plan = self._setup.config.plan
        return self._rows(
            entry.name, shares, entry.method.tool, lambda some: entry.method.make(self.problem, plan, some)
        )

    def _rows(
        self,
        name: str,
        shares: Sequence[float],
        tool: str,
        make: Callable[[Sequence[float]], tuple[Mapping[float, Recipe | nn.Module], int]],
    ) -> pd.DataFrame:
        """Return the rows of all shares and stages; sub-networks are made where one is missing."""
        stages = list(dict.fromkeys([0, self._options["epochs"]]))
        paths = {(share, epochs): self._file(name, share, epochs) for share in shares for epochs in stages}
        missing = list(dict.fromkeys(share for (share, _), path in paths.items() if not path.exists()))
        if missing:
            made, evaluations = make(missing)
            for share in missing:
                given = made[share]
                # the dense network keeps the statistics that it was published with
                module = given if name == DENSE and isinstance(given, nn.Module) else self._built(given)
                network, masks, facts = self._counted(name, module, share)
                facts |= {"evaluations": evaluations, "tool": tool}
                for epochs in stages:
                    path = paths[share, epochs]
                    if path.exists():
                        continue
                    if epochs:
                        # what was counted as removed stays removed
                        put_on(module, network, masks)
                        self._train(module, epochs)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with atomic(path) as temporary:
                        row = facts | {"epochs": epochs} | self._errors(module)
                        pd.DataFrame([row])[COLUMNS].to_csv(temporary, index=False)
        # a tool's name may be empty
        return pd.concat([pd.read_csv(path, keep_default_na=False) for path in paths.values()], ignore_index=True)

    def _built(self, made: Recipe | nn.Module) -> nn.Module:
        """Return a sub-network ready to be measured; the batch norms of modules are re-estimated as of our own."""
        if isinstance(made, Recipe):
            return self.problem.inherited.build(made)
        # what a method returns may be the dense network itself
        module = self.problem.meter.prepared(copied(made)).eval()
        reestimate_bn(module, self.problem.inherited.calibration)
        return module

    def _counted(self, name: str, module: nn.Module, share: float) -> tuple[Network, Masks, dict[str, Any]]:
        """Return a sub-network's network and masks, and what its row says of its costs."""
        network, masks, costs = counted(module, self._setup.example("cpu"))
        dense = self.problem.dense
        flops, params = (costs[metric] / dense[metric] for metric in ("flops", "params"))
        if flops > share + TOLERANCE:
            raise PruningError(
                f"others.methods: {name} gives {flops:.4g} of the FLOPs, allowed is at most {share + TOLERANCE:g}"
            )
        facts = {"method": name, "space": self._space, "seed": self._seed, "asked": share}
        return network, masks, facts | {"flops": flops, "params": params}

    def _errors(self, module: nn.Module) -> dict[str, float]:
        tested = self.problem.meter.task.evaluate(module, self._test)
        error = self.problem.meter.measured(module)["error"]
        return {"error": error, "test_error": tested.error, "test_images": tested.n}

    def _train(self, module: nn.Module, epochs: int) -> None:
        """Train a sub-network; all of a seed see the same images in the same order."""
        finetuned = self._setup.finetuned(self.problem.inherited, (epochs,), None)
        for parameter in module.parameters():
            parameter.requires_grad_(True)
        trainer = Trainer(module, task=self.problem.meter.task, settings=finetuned.settings)
        for number in range(1, epochs + 1):
            seed = seed_of("others", self._seed, number)
            with seeded(seed, device_of(module)):
                batches = epoch_of(finetuned.batches, seed)
                trainer.epoch(batches, number=number, begun=number - 1, of=epochs)
        module.eval()

    def _file(self, name: str, share: float, epochs: int) -> Path:
        # a training of another length is another
        key = f"{self._key}-{epochs}" if epochs else self._key
        return self._folder / f"{self._options['model']}-{name}-{self._space}-{share:g}-{key}-seed{self._seed}.csv"
