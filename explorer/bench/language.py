"""A language model pruned in one shot: the perplexity on test text of what is left, inherited and reconstructed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from explorer.bench.measured import Measured
from explorer.bench.ratios import searched
from explorer.data import Batch
from explorer.data.language import perplexity
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.features import features_of
from explorer.pruning.criteria import Options, Scores, cached_scores
from explorer.pruning.pruner import Pruner
from explorer.pruning.reconstruction import Reconstructor, Settings
from explorer.runs.config import RESULTS, RunConfig
from explorer.runs.setup import Setup
from explorer.utils.console import progress
from explorer.utils.files import atomic
from explorer.utils.fingerprints import fingerprint
from spaces import PruningError, PruningSpace, Recipe, costs_of

__all__ = ["CASES", "Case", "language"]

# sequences a forward pass, and on so many the change is measured that a block's removal makes
_BATCH = 4
# where no weights are compared, so that any scores do
_ANY = "l1"


@dataclass(frozen=True)
class Case:
    """One way to prune.

    Parameters
    ----------
    removed
        What is removed, in words.
    by
        What chooses: a criterion; of blocks ``first``, ``last`` or ``change``, the least change of the predictions when
        a block is dropped alone; ``search`` of ratios that differ from block to block.
    space
        Of one recipe, as in a space file; nothing where blocks are dropped or ratios are searched.
    """

    removed: str
    by: str
    space: Mapping[str, Any] | None = None

    @property
    def criterion(self) -> str:
        """What scores the weights and channels."""
        return self.by if self.space is not None else "wanda" if self.by == "search" else _ANY


def _weights(**choice: Any) -> dict[str, Any]:
    return {"weights": [{"match": "*.[0-9]*.*", "choices": [choice]}]}


def _channels(match: str) -> dict[str, Any]:
    return {"channels": [{"match": match, "choices": [{"granularity": "filter", "ratios": [0.8]}]}]}


_OUTPUT = _weights(granularity="element", per="output", ratios=[0.5])
_PAIRS = _weights(granularity="vector", n=2, m=4)

CASES = (
    Case("half of each output's weights", "wanda", _OUTPUT),
    Case("half of each output's weights", "l1", _OUTPUT),
    Case("half of each layer's weights", "l1", _weights(granularity="element", ratios=[0.5])),
    Case("2 of every 4 weights", "wanda", _PAIRS),
    Case("2 of every 4 weights", "l1", _PAIRS),
    Case("a quarter of the blocks", "change"),
    Case("a quarter of the blocks", "first"),
    Case("a quarter of the blocks", "last"),
    Case("a fifth of each MLP's channels", "wanda", _channels("*[ep]_proj")),
    Case("a fifth of the heads, in groups", "wanda", _channels("*[qkv]_proj")),
    Case("half of all weights, each output's", "search"),
)
"""Of models whose layers are called as Llama's."""


def language(config: dict[str, Any]) -> list[Measured]:
    """Return the perplexity on test text of a language model that is pruned in every way of `CASES`.

    Calibration and search see the text of validation only, and what is solved is given the dense network's outputs.
    ``results/bench/language/MODEL-KEY.csv`` has one row a sub-network: ``removed``, ``by``, whether layers were
    ``solved``, ``params`` and ``flops`` relative to dense, the mean negative log-likelihood ``error`` with its standard
    error, ``perplexity`` and the dropped ``blocks``. It is written after every row, and no row is made again. The
    table beside it, in Markdown, has one line a case.

    Raises
    ------
    PruningError
        If model or data are not given or not there.
    """
    options = config["language"]
    for key, what in {"model": "a folder of transformers or a GGUF file", "data": "a folder of texts"}.items():
        if options[key] is None:
            raise PruningError(f"language.{key}: not given, needed is {what}")
    bench = _Bench(options, RESULTS / "bench" / "language")
    # what is solved takes ten times as long, and the search longer than all others
    plain, last = ([case for case in CASES if (case.by == "search") == late] for late in (False, True))
    groups = [plain, last] if options["trials"] else [plain]
    jobs = [(None, False), *((case, solved) for group in groups for solved in (False, True) for case in group)]
    with progress("language", len(jobs)) as show:
        for done, (case, solved) in enumerate(jobs, start=1):
            bench.measure(case, solved=solved)
            show(done, "dense" if case is None else f"{case.removed} by {case.by}" + ", solved" * solved)
    return [
        Measured(f"{row['removed']} by {row['by']}" + ", solved" * row["solved"], "", row["perplexity"], "")
        for _, row in bench.table.iterrows()
    ]


class _Bench:
    """A traced language model, its texts, and the rows that are measured."""

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        self._options = options
        self._setup = Setup(RunConfig.composed(_overrides(options)))
        self._model = self._setup.dense()
        self._network = self._setup.traced(self._model)
        self._test = list(self._setup.batches("test"))
        self._calibration = list(self._setup.batches("train"))
        # of the weights, whatever file they were read from
        key = fingerprint(self._model.state_dict(), self._test, self._calibration, options["trials"])[:6]
        self.path = folder / f"{Path(options['model']).stem}-{key}.csv"
        self.table = pd.read_csv(self.path, keep_default_na=False) if self.path.exists() else pd.DataFrame()
        self._scores: dict[str, Scores] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def measure(self, case: Case | None, *, solved: bool) -> None:
        """Measure the dense network, or a case, unless it has been."""
        named = ("nothing", "") if case is None else (case.removed, case.by)
        if len(self.table) and (self.table[["removed", "by", "solved"]] == [*named, solved]).all(1).any():
            return
        recipe = Recipe.of({}) if case is None else self._recipe(case)
        pruner = Pruner(self._model, self._network, self._scored(_ANY if case is None else case.criterion))
        module, masks = pruner(recipe)
        if solved:
            self._reconstruct(module, masks, pruner.kept(recipe))
        found = self._setup.task.evaluate(module, self._test)
        dense, costs = costs_of(self._network, Recipe.of({})), costs_of(self._network, recipe)
        row = {
            **dict(zip(("removed", "by", "solved"), (*named, solved), strict=True)),
            **{metric: costs[metric] / dense[metric] for metric in ("params", "flops")},
            "error": found.error,
            "error_se": found.error_se,
            "perplexity": perplexity(found),
            "blocks": " ".join(recipe.blocks),
        }
        self.table = pd.concat([self.table, pd.DataFrame([row])], ignore_index=True)
        with atomic(self.path) as temporary:
            self.table.to_csv(temporary, index=False)
        with atomic(self.path.with_suffix(".md")) as temporary:
            temporary.write_text(_markdown(self.table))

    def _recipe(self, case: Case) -> Recipe:
        if case.space is not None:
            space = PruningSpace.from_config(self._network, case.space)
            return space.recipe([0] * len(space.axes))
        if case.by == "search":
            kept = self.path.with_suffix(".yaml")
            if not kept.exists():
                recipe = searched(self._setup, self._model, self._network, self._calibration, self._options["trials"])
                with atomic(kept) as temporary:
                    temporary.write_text(recipe.to_yaml())
            return Recipe.load(kept)
        names = [block.name for block in self._network.blocks]
        count = math.floor(len(names) / 4 + 0.5)
        ordered = {"first": names, "last": names[::-1]}.get(case.by) or self._by_change
        return Recipe.of({}, blocks=ordered[:count])

    @cached_property
    def _by_change(self) -> list[str]:
        """The blocks, what changes the predictions least first."""
        scores, task = self._scored(_ANY), self._setup.task
        inherited = Inherited.of(self._model, self._network, scores, self._calibration, self._test, task)
        space = PruningSpace.from_config(
            self._network, {"blocks": [{"match": "*", "choices": [{"granularity": "layer", "ratios": [1, 0]}]}]}
        )
        changes = features_of(inherited, space, self._calibration).changes
        changed = {axis.name: max(change) for axis, change in zip(space.axes, changes, strict=True)}
        return sorted(changed, key=lambda name: changed[name])

    @cached_property
    def _reconstruct(self) -> Reconstructor:
        settings = Settings(positions=self._options["length"])
        return Reconstructor(self._model, self._network, self._calibration, settings)

    def _scored(self, criterion: str) -> Scores:
        if criterion not in self._scores:
            options, task = Options.of(criterion), self._setup.task
            batches: list[Batch] = self._calibration if options.needs_data else []
            self._scores[criterion] = cached_scores(
                self._model, self._network, options, batches=batches, task=task, folder=RESULTS / ".cache"
            )
        return self._scores[criterion]


def _overrides(options: Mapping[str, Any]) -> list[str]:
    """Return the overrides of conf/run.yaml that name the model and its texts."""
    return [
        "model=transformers",
        "model.task=causal-lm",
        f"model.architecture={options['model']}",
        "data=tokens",
        f"data.path={options['data']}",
        f"data.length={options['length']}",
        f"data.train={options['calibration']}",
        f"data.validation={options['calibration']}",
        f"data.test={options['test']}",
        "task=language",
        "space=llm",
        f"evaluator.batch_size={_BATCH}",
        "device=cpu",
    ]


def _markdown(table: pd.DataFrame) -> str:
    lines = [
        "| removed | by | parameters (%) | multiply-adds (%) | perplexity | reconstructed |",
        "|---|---|---|---|---|---|",
    ]
    for (removed, by), mine in table.groupby(["removed", "by"], sort=False):
        cells = [_shown(mine[mine["solved"] == solved]) for solved in (False, True)]
        costs = [f"{100 * mine[metric].iloc[0]:.1f}" for metric in ("params", "flops")]
        lines.append(f"| {' | '.join([str(removed), str(by), *costs, *cells])} |")
    return "\n".join(lines) + "\n"


def _shown(rows: pd.DataFrame) -> str:
    """Return the perplexity of at most one row."""
    return next(_text(row["perplexity"]) for _, row in rows.iterrows()) if len(rows) else ""


def _text(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
