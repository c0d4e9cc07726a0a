"""The command `explore`: a word first, then Hydra overrides or options.

Everything is composed and checked here before a run begins, so that a mistake is one line and exit code 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["main"]

USAGE = """\
explore: the space of sub-networks that pruning can make out of a trained network

  explore run [key=value ...]       explore a space; -m for a multirun, --help for all keys
  explore population [key=value ..] recipes of a regime drawn at random: distributions, optima, refined spaces; -m
  explore inspect [key=value ...]   units, layers, costs, what is fixed and why, size of the space; --json
  explore inspect FOLDER            the same of a run that is there, and what it found; of a multirun its jobs
  explore report FOLDER ...         one page of runs, multiruns and populations: frontiers to point at; --compare
  explore export FOLDER             write a sub-network of a run: --flops 0.5, --knee, --trial N, --int8
  explore bench NAME [key=value ..] the project's benchmarks: costs, build, evaluate, sparse
  explore --version

  explore run                                         digits and a small ResNet, minutes
  explore run model=resnet56 data=cifar10 data.path=cifar10-parquet budget.flops=0.5
  explore population -m space=inner,filter regime.flops=0.75,0.5,0.25 n=128
  explore run -m sampler=tpe,nsga2 seed=0,1,2         one study a job
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 on success, 2 on a mistake of the user's, 130 on Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # threads that wait by spinning slow each other down ten times where another process uses the cores too
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # models and data of the user's are imported from where the command is given
    sys.path.insert(0, os.getcwd())
    from spaces import PruningError, unknown

    commands: dict[str, Callable[[list[str]], int]] = {
        "bench": _bench,
        "export": _export,
        "inspect": _inspect,
        "population": _population,
        "report": _report,
        "run": _run,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        sys.exit(0)
    word, *rest = arguments
    try:
        if word == "--version":
            sys.exit(_version())
        if word not in commands:
            raise unknown("command", word, commands)
        sys.exit(commands[word](rest))
    except PruningError as error:
        from explorer.utils.console import complain

        sys.exit(complain(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(_silenced())


class _Parser(argparse.ArgumentParser):
    """Says a mistake in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        from spaces import PruningError

        raise PruningError(f"{self.prog.removeprefix('explore ')}: {message}")


def _silenced() -> int:
    """Return the exit code where a reader such as head has seen enough; what is still printed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def _version() -> int:
    from importlib.metadata import version

    print(f"pruning-spaces {version('pruning-spaces')}")
    return 0


def _run(arguments: list[str]) -> int:
    from explorer.runs.hydra_launch import asked_of_hydra, launched, single

    if asked_of_hydra(arguments):
        return launched("run", arguments)
    from explorer.runs.multirun import execute_where_it_is

    execute_where_it_is(single(arguments))
    return 0


def _population(arguments: list[str]) -> int:
    from explorer.runs.hydra_launch import asked_of_hydra, launched, single

    if asked_of_hydra(arguments):
        return launched("population", arguments)
    from explorer.analysis.run_folder import RunFolder
    from explorer.runs.multirun import execute_where_it_is
    from explorer.runs.population import write_populations

    def analyse(folder: Path) -> None:
        write_populations([RunFolder(folder)], folder)

    execute_where_it_is(single(arguments, "population"), finish=analyse)
    return 0


def _inspect(arguments: list[str]) -> int:
    from explorer.runs.hydra_launch import asked_of_hydra, launched, single

    # Hydra knows no flags of ours
    as_json, rest = "--json" in arguments, [argument for argument in arguments if argument != "--json"]
    if len(rest) == 1 and "=" not in rest[0] and not rest[0].startswith("-"):
        from explorer.analysis.multirun_folder import MultirunFolder
        from explorer.analysis.run_folder import RunFolder
        from explorer.runs.inspection import inspect_multirun, inspect_run

        if (multirun := MultirunFolder(Path(rest[0]))).there:
            inspect_multirun(multirun, as_json=as_json)
            return 0
        inspect_run(RunFolder(Path(rest[0])), as_json=as_json)
        return 0
    if asked_of_hydra(rest, "--json"):
        return launched("inspect", rest, as_json=as_json)
    from explorer.runs.inspection import inspect_model

    inspect_model(single(rest), as_json=as_json)
    return 0


def _export(arguments: list[str]) -> int:
    from spaces import COSTS, PruningError

    parser = _Parser(prog="explore export", description="Write one sub-network of a run.", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="a run's folder, results/NAME")
    for metric in COSTS:
        parser.add_argument(f"--{metric}", help=f"most {metric}: up to 1 relative to dense, above (or 60M) absolute")
    parser.add_argument("--latency-ms", help="most milliseconds for one input, as the run measured them")
    parser.add_argument("--error", help="most error: the cheapest sub-network that has no more")
    parser.add_argument("--knee", action="store_true", help="the frontier's knee: furthest below the line of its ends")
    parser.add_argument("--trial", type=_whole, metavar="N", help="a trial by its number in trials.csv")
    parser.add_argument("--recipe", type=Path, help="a recipe file instead, such as a baseline's in recipes/")
    parser.add_argument("--rung", type=_whole, metavar="N", help="as it was at a lower rung; 0 is the first")
    parser.add_argument("--out", type=Path, help="where to (default: export/ in the run's folder)")
    parser.add_argument("--no-onnx", action="store_true", help="leave ONNX out, which is written where it is installed")
    parser.add_argument("--int8", action="store_true", help="ONNX with 8-bit weights and activations too, measured")
    parser.add_argument("--hf", action="store_true", help="the folder hf too, which transformers loads by itself")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="MODULE",
        help="whose functions the run's configuration may name",
    )
    given = parser.parse_args(arguments)
    limits = (*COSTS, "latency_ms", "error")
    budget: dict[str, Any] = {m: _number(getattr(given, m)) for m in limits if getattr(given, m) is not None}
    if not given.folder.is_dir():
        raise PruningError(f"folder: {str(given.folder)!r} is no folder that is there")
    from explorer.analysis.multirun_folder import MultirunFolder
    from explorer.analysis.run_folder import RunFolder

    if (multirun := MultirunFolder(given.folder)).there:
        raise multirun.refused()
    from explorer.export.shipping import Formats
    from explorer.runs.export import Choice, export_run
    from explorer.runs.logs import steps_shown
    from explorer.utils.console import console

    choice = Choice(budget, given.trial, given.knee, given.recipe, given.rung)
    formats = Formats(not given.no_onnx, given.int8, given.hf)
    with steps_shown():
        target = export_run(RunFolder(given.folder), choice, given.out, formats=formats, allow=given.allow)
    console.print(f"exported to {target}; in Python: explorer.load({str(target)!r})", soft_wrap=True)
    return 0


def _report(arguments: list[str]) -> int:
    parser = _Parser(prog="explore report", description="Write one page of runs.", allow_abbrev=False)
    parser.add_argument("folders", type=Path, nargs="+", metavar="folder", help="of a run, a multirun or populations")
    parser.add_argument(
        "--out", type=Path, help="where to (default: report.html in the folder, of several in this one)"
    )
    parser.add_argument("--compare", action="store_true", help="the runs of two folders, seed by seed, in words")
    parser.add_argument("--plots", action="store_true", help="its figures as png, svg and pdf too, in plots/ beside it")
    given = parser.parse_args(arguments)
    from explorer.runs.report import write_report

    write_report(given.folders, given.out, compare=given.compare, plots=given.plots)
    return 0


def _whole(text: str) -> int:
    """Return a whole number of 0 or more; argparse says otherwise what was given."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}, allowed is a whole number >= 0")
    return int(text)


def _number(text: str) -> float | str:
    """Return a number where the text is one, so that 0.5 is a share; 60M stays text."""
    try:
        return float(text)
    except ValueError:
        return text


def _bench(arguments: list[str]) -> int:
    from explorer.bench import run_bench

    return run_bench(arguments)
