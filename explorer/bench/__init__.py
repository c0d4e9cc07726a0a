"""The project's own benchmarks: what is claimed to be fast, measured as ratios in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from explorer.bench.build import build
from explorer.bench.checks import check
from explorer.bench.costs import costs
from explorer.bench.criteria import criteria
from explorer.bench.evaluate import evaluate
from explorer.bench.executors import executors
from explorer.bench.frontiers import frontiers
from explorer.bench.language import language
from explorer.bench.leaderboard import leaderboard
from explorer.bench.measured import Measured, show, write
from explorer.bench.naive import naive
from explorer.bench.others import others
from explorer.bench.rungs_and_racing import racing, rungs
from explorer.bench.samplers import samplers
from explorer.bench.sparse import sparse
from explorer.bench.threads import limited_threads
from explorer.bench.training import training
from explorer.bench.zoo import zoo
from explorer.runs.composing import compose
from explorer.runs.config import RESULTS
from explorer.utils.conf import conf
from explorer.utils.console import console
from spaces import PruningError, unknown

__all__ = ["BENCHES", "run_bench"]

BENCHES: Mapping[str, Callable[[dict[str, Any]], list[Measured]]] = {
    "build": build,
    "costs": costs,
    "criteria": criteria,
    "evaluate": evaluate,
    "executors": executors,
    "frontiers": frontiers,
    "language": language,
    "leaderboard": leaderboard,
    "naive": naive,
    "others": others,
    "racing": racing,
    "rungs": rungs,
    "samplers": samplers,
    "sparse": sparse,
    "training": training,
    "zoo": zoo,
}
"""From a configuration (conf/bench.yaml) to figures, by name."""

# not among all: they need libraries or files that nothing else needs, or many minutes
_BY_NAME = (
    *("criteria", "executors", "frontiers", "language", "leaderboard", "naive", "others"),
    *("racing", "rungs", "samplers", "training", "zoo"),
)


def run_bench(arguments: list[str]) -> int:
    """Run one benchmark, or all of them; print a table and write ``results/bench/NAME.csv`` for each.

    Parameters
    ----------
    arguments
        Optionally a key of `BENCHES`, then overrides of conf/bench.yaml.

    Raises
    ------
    PruningError
        If the name or a key is unknown, or a value is out of range.
    """
    if {"-h", "--help"} & set(arguments):
        console.print(f"explore bench [{'|'.join(BENCHES)}] [key=value ...]", markup=False)
        console.print((conf() / "bench.yaml").read_text(), markup=False, highlight=False)
        return 0
    names = [name for name in BENCHES if name not in _BY_NAME]
    if arguments and "=" not in arguments[0]:
        name, *arguments = arguments
        if name not in BENCHES:
            raise unknown("bench", name, BENCHES)
        names = [name]
    configs = compose(arguments, config="bench")
    if len(configs) > 1:
        raise PruningError("overrides: a benchmark takes one value for a key")
    config = configs[0]
    check(config)
    for name in names:
        with limited_threads(config["threads"]):
            figures = BENCHES[name](config)
        show(name, figures)
        console.print(f"written to {write(name, figures, config, RESULTS / 'bench')}", soft_wrap=True)
    return 0
