"""The command `explore`: a word first, then Hydra overrides or options.

Everything is composed and checked here before Hydra runs a job, so that a mistake is one line and exit code 2.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["main"]

# what Hydra knows of; without them a mistake would be answered with its usage
_FLAGS = (
    "--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r",
    "--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn", "--config-dir",
    "-cd", "--experimental-rerun", "--info", "-i",
)  # fmt: skip

USAGE = """\
explore: the space of sub-networks that pruning can make out of a trained network

  explore run [key=value ...]       explore a space; -m for a multirun, --help for all keys
  explore inspect [key=value ...]   units, layers, costs, what is fixed and why, size of the space; --json
  explore export FOLDER             write the best sub-network of a run: --flops 0.5, --params 100k, --recipe FILE
  explore bench NAME [key=value ..] the project's benchmarks: costs, build, evaluate, sparse

  explore run                                         digits and a small ResNet, minutes
  explore run model=resnet56 data=cifar10 data.path=cifar10-parquet budget.flops=0.5
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
        "run": lambda rest: _hydra("run", rest),
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        sys.exit(0)
    word, *rest = arguments
    try:
        if word not in commands:
            raise unknown("command", word, commands)
        sys.exit(commands[word](rest))
    except PruningError as error:
        sys.exit(_complain(error))
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


def _complain(error: Exception) -> int:
    print(f"explore: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _hydra(command: str, arguments: list[str]) -> int:
    """Check the configuration of every job, then let Hydra run them; return the worst exit code."""
    from explorer.analysis.multirun_folder import MultirunFolder
    from explorer.runs.config import RESULTS, compose, sweep_name
    from explorer.runs.multirun import check_launcher, plan
    from explorer.runs.validation import validate
    from spaces import PruningError, unknown

    flags = [argument for argument in arguments if argument.startswith("-")]
    for flag in flags:
        if flag.partition("=")[0] not in _FLAGS:
            raise unknown("flag", flag, (*_FLAGS, "--json") if command == "inspect" else _FLAGS)
    multirun = any(flag in ("-m", "--multirun") for flag in flags)
    overrides, folder = _split(arguments)
    root, told = RESULTS, multirun and command == "run" and not set(flags) & {"--cfg", "-c"}
    if not set(flags) & {"--help", "-h", "--hydra-help", "--info", "-i", "--version", "--shell-completion", "-sc"}:
        # how jobs are launched is no part of what they are
        launch = [override for override in overrides if override.startswith("hydra")]
        chosen = [override for override in overrides if override not in launch]
        check_launcher(launch)
        configs = compose(chosen, folder=folder)
        if len(configs) > 1 and not multirun:
            raise PruningError("overrides: several values for a key make a multirun, for which -m is needed")
        for config in configs:
            validate(config)
        if told:
            root = RESULTS / sweep_name(configs, chosen)
            plan(MultirunFolder(root), configs, chosen)
    # jobs on other machines see what is below the working folder
    with tempfile.TemporaryDirectory(
        prefix=".multirun-", dir=RESULTS.resolve() if root.is_dir() and told else None
    ) as scratch:
        # jobs may run in other processes: they are told by the environment, and tell what failed by a file
        failures = Path(scratch) / "failures"
        os.environ |= {
            "EXPLORE_COMMAND": command,
            "EXPLORE_FAILURES": str(failures),
            "EXPLORE_LAUNCHER": str(os.getpid()),
            "EXPLORE_ROOT": str(root),
        }
        # Hydra takes no flags between overrides
        ordered = [argument for argument in arguments if argument not in overrides] + overrides
        # what it writes of a multirun, passwords included, goes where nothing stays
        try:
            _launch([*ordered, f"hydra.sweep.dir={scratch}", "hydra.sweep.subdir=."] if multirun else ordered)
        finally:
            if told and root.is_dir():
                from explorer.analysis.views import jobs_view
                from explorer.runs.multirun_frontiers import gather
                from explorer.utils.console import console

                multirun_folder = MultirunFolder(root)
                gather(multirun_folder)
                with multirun_folder.jobs() as rows:
                    console.print(jobs_view(rows.values()))
                console.print(f"jobs: {multirun_folder.jobs_file}", soft_wrap=True)
        codes = [int(line.split()[0]) for line in failures.read_text().splitlines()] if failures.exists() else []
    return max(codes, default=0)


def _split(arguments: list[str]) -> tuple[list[str], Path | None]:
    """Return the overrides among Hydra's arguments, and the folder given by --config-dir."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    known, rest = parser.parse_known_args(arguments)
    taken = {"--cfg", "-c", "--package", "-p", "--config-name", "-cn", "--config-path", "-cp", "--experimental-rerun"}
    values = {rest[i + 1] for i, argument in enumerate(rest[:-1]) if argument in taken}
    return [a for a in rest if not a.startswith("-") and a not in values], known.config_dir


def _launch(arguments: list[str]) -> None:
    import hydra

    from explorer.runs.config import conf

    sys.argv = ["explore", *arguments]
    hydra.main(version_base="1.3", config_path=str(conf()), config_name="run")(_job)()


def _job(config: Any) -> None:
    """Run one job; what fails is recorded and never ends the process, so that the other jobs of a multirun run."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from spaces import PruningError

    plain: Any = OmegaConf.to_container(config, resolve=True)
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    if sweep:
        # it names the multirun's folder
        plain["name"] = None
    if os.environ["EXPLORE_LAUNCHER"] != str(os.getpid()):
        # bars of several processes would overwrite each other
        os.environ["TTY_COMPATIBLE"] = "0"
    code = 0
    try:
        _work(plain, sweep=sweep)
    except PruningError as error:
        code = _complain(error)
    except BrokenPipeError:
        code = _silenced()
    except Exception as error:
        if not sweep:
            raise
        traceback.print_exc()
        code = _complain(error) - 1
    except KeyboardInterrupt:
        if sweep:
            raise
        code = 130
    if code:
        with Path(os.environ["EXPLORE_FAILURES"]).open("a") as file:
            file.write(f"{code}\n")


def _work(config: dict[str, Any], *, sweep: bool) -> None:
    """Do what a job is for; a multirun's table is told of it."""
    root = Path(os.environ["EXPLORE_ROOT"])
    if os.environ["EXPLORE_COMMAND"] == "inspect":
        from explorer.runs.inspection import inspect_model

        inspect_model(config, as_json=os.environ["EXPLORE_JSON"] == "1")
        return
    from explorer.analysis.multirun_folder import MultirunFolder
    from explorer.runs.config import default_name
    from explorer.runs.multirun import reported
    from explorer.runs.run import execute

    with reported(MultirunFolder(root), default_name(config)) if sweep else nullcontext():
        execute(config, root)


def _inspect(arguments: list[str]) -> int:
    # Hydra knows no flags of ours
    os.environ["EXPLORE_JSON"] = str(int("--json" in arguments))
    return _hydra("inspect", [argument for argument in arguments if argument != "--json"])


def _export(arguments: list[str]) -> int:
    from spaces import PruningError

    parser = _Parser(prog="explore export", description="Write the best sub-network of a run.", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="a run's folder, results/NAME")
    for metric in ("flops", "params", "bytes"):
        parser.add_argument(f"--{metric}", help=f"most {metric}: up to 1 relative to dense, above (or 60M) absolute")
    parser.add_argument("--recipe", type=Path, help="a recipe file instead, such as a baseline's in recipes/")
    parser.add_argument("--out", type=Path, help="where to (default: export/ in the run's folder)")
    given = parser.parse_args(arguments)
    budget = {m: _number(getattr(given, m)) for m in ("flops", "params", "bytes") if getattr(given, m) is not None}
    if given.recipe is not None and budget:
        raise PruningError(f"recipe: it is given, and so is --{next(iter(budget))}, allowed is one of them")
    if not given.folder.is_dir():
        raise PruningError(f"folder: {str(given.folder)!r} is no folder that is there")
    from explorer.analysis.run_folder import RunFolder
    from explorer.runs.export import export_run
    from explorer.utils.console import console

    target = export_run(RunFolder(given.folder), budget, given.out, recipe_file=given.recipe)
    console.print(f"exported to {target}; in Python: explorer.load({str(target)!r})", soft_wrap=True)
    return 0


def _number(text: str) -> float | str:
    """Return a number where the text is one, so that 0.5 is a share; 60M stays text."""
    try:
        return float(text)
    except ValueError:
        return text


def _bench(arguments: list[str]) -> int:
    from explorer.bench import run_bench

    return run_bench(arguments)
