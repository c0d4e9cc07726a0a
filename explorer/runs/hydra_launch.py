"""What is left to Hydra: multiruns, and the flags that it answers itself (``--cfg``, ``--help``).

Jobs of a multirun may run in other processes. They are told what to do by environment variables, and tell what failed
by a file.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explorer.analysis.multirun_folder import MultirunFolder
from explorer.runs.composing import Composed, compose, several_values
from explorer.runs.config import RESULTS, RunConfig
from explorer.utils.conf import conf
from explorer.utils.console import complain, console
from spaces import PruningError, unknown

__all__ = ["asked_of_hydra", "launched", "single"]

# what Hydra knows of; without them a mistake would be answered with its usage
_FLAGS = (
    "--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r",
    "--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn", "--config-dir",
    "-cd", "--experimental-rerun", "--info", "-i",
)  # fmt: skip
# those for which nothing runs
_ANSWERED = {"--help", "-h", "--hydra-help", "--info", "-i", "--version", "--shell-completion", "-sc"}
_MULTIRUN = {"--multirun", "-m"}
# those that are followed by a value
_VALUED = {"--cfg", "-c", "--package", "-p", "--config-name", "-cn", "--config-path", "-cp", "--experimental-rerun"}


def asked_of_hydra(arguments: Sequence[str], *ours: str) -> bool:
    """Tell whether arguments hold a flag for Hydra, besides the folder of further configuration files.

    Raises
    ------
    PruningError
        If a flag is none of Hydra's; those of `ours` are named as allowed too.
    """
    flags = _flags(arguments)
    for flag in flags:
        if flag not in _FLAGS:
            raise unknown("flag", flag, (*_FLAGS, *ours))
    return bool(flags - {"--config-dir", "-cd", "--run", "-r"})


def _flags(arguments: Sequence[str]) -> set[str]:
    return {argument.partition("=")[0] for argument in arguments if argument.startswith("-")}


def single(arguments: Sequence[str], config: str = "run") -> RunConfig:
    """Return the configuration of one run, or of one population where `config` says so.

    Raises
    ------
    PruningError
        On any mistake, and if a key has several values.
    """
    overrides, folder = _split(arguments)
    chosen = [override for override in overrides if not override.startswith("hydra")]
    return RunConfig.composed(chosen, config=config, folder=folder)


def launched(command: str, arguments: Sequence[str], *, as_json: bool = False) -> int:
    """Check the configuration of every job, let Hydra run them or answer its flags, and return the worst exit code.

    Parameters
    ----------
    command
        ``run``, ``population`` or ``inspect``.
    arguments
        Overrides and flags.
    as_json
        How models are inspected.

    Raises
    ------
    PruningError
        On any mistake that can be known before a job runs.
    """
    flags = _flags(arguments)
    overrides, folder = _split(arguments)
    if flags & _ANSWERED:
        return _hydra(command, arguments, overrides)
    # how jobs are launched is no part of what they are
    chosen = [override for override in overrides if not override.startswith("hydra")]
    from explorer.runs.multirun import check_launcher

    check_launcher([override for override in overrides if override not in chosen])
    configs = compose(chosen, config=_primary(command), folder=folder)
    if len(configs) > 1 and not flags & _MULTIRUN:
        raise several_values(chosen)
    for config in configs:
        RunConfig.of(config)
    if flags & {"--cfg", "-c"} or not flags & _MULTIRUN:
        return _hydra(command, arguments, overrides)
    if command == "inspect":
        return _jobs(command, arguments, overrides, RESULTS, as_json=as_json)
    return _multirun(command, arguments, overrides, configs, chosen)


def _primary(command: str) -> str:
    """Return the primary config of a command."""
    return "population" if command == "population" else "run"


def _multirun(
    command: str,
    arguments: Sequence[str],
    overrides: Sequence[str],
    configs: Sequence[Composed],
    chosen: Sequence[str],
) -> int:
    """Run the jobs of a multirun; its tables are written and shown however it ends."""
    from explorer.analysis.views import jobs_view
    from explorer.runs.identity import sweep_name
    from explorer.runs.multirun import plan
    from explorer.runs.multirun_frontiers import gather
    from explorer.runs.report import show_report

    folder = MultirunFolder(RESULTS / sweep_name(configs, chosen))
    # its name is the multirun's, jobs are named by their choices
    plan(folder, [RunConfig.of(config | {"name": None}) for config in configs], chosen)
    try:
        return _jobs(command, arguments, overrides, folder.path)
    finally:
        if folder.path.is_dir():
            gather(folder)
            console.print(jobs_view(folder.rows().values(), folder.errors()))
            console.print(f"jobs: {folder.jobs_file}", soft_wrap=True)
            if command == "population":
                from explorer.runs.population import write_populations

                write_populations(folder.ended(), folder.path)
            show_report(folder.path)


def _jobs(
    command: str, arguments: Sequence[str], overrides: Sequence[str], root: Path, *, as_json: bool = False
) -> int:
    """Let Hydra run jobs, and return the worst of their exit codes."""
    # jobs on other machines see what is below the working folder
    shared = RESULTS.resolve() if root.is_dir() else None
    with tempfile.TemporaryDirectory(prefix=".multirun-", dir=shared) as scratch:
        failures = Path(scratch) / "failures"
        os.environ |= {
            "EXPLORE_COMMAND": command,
            "EXPLORE_FAILURES": str(failures),
            "EXPLORE_JSON": str(int(as_json)),
            "EXPLORE_LAUNCHER": str(os.getpid()),
            "EXPLORE_ROOT": str(root),
        }
        # what Hydra writes of a multirun, passwords included, goes where nothing stays
        _hydra(command, [*arguments, f"hydra.sweep.dir={scratch}", "hydra.sweep.subdir=."], overrides)
        codes = [int(line.split()[0]) for line in failures.read_text().splitlines()] if failures.exists() else []
    return max(codes, default=0)


def _split(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """Return the overrides among Hydra's arguments, and the folder given by --config-dir."""
    overrides, folder, flag = list[str](), None, ""
    for argument in arguments:
        if argument.startswith("-"):
            flag, _, value = argument.partition("=")
            if flag in ("--config-dir", "-cd") and value:
                folder = Path(value)
        elif flag in ("--config-dir", "-cd"):
            folder, flag = Path(argument), ""
        elif flag in _VALUED:
            flag = ""
        else:
            overrides.append(argument)
    return overrides, folder


def _hydra(command: str, arguments: Sequence[str], overrides: Sequence[str]) -> int:
    import hydra

    # Hydra takes no flags between overrides
    sys.argv = ["explore", *(argument for argument in arguments if argument not in overrides), *overrides]
    hydra.main(version_base="1.3", config_path=str(conf()), config_name=_primary(command))(_job)()
    return 0


def _job(config: Any) -> None:
    """Run one job; what fails is recorded and never ends the process, so that the other jobs of a multirun run."""
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(config, resolve=True)
    # it names the multirun's folder
    plain["name"] = None
    if os.environ["EXPLORE_LAUNCHER"] != str(os.getpid()):
        # bars of several processes would overwrite each other
        os.environ["TTY_COMPATIBLE"] = "0"
    code = 0
    try:
        _work(plain)
    except PruningError as error:
        code = complain(error)
    except Exception as error:
        traceback.print_exc()
        code = complain(error) - 1
    if code:
        with Path(os.environ["EXPLORE_FAILURES"]).open("a") as file:
            file.write(f"{code}\n")


def _work(given: Composed) -> None:
    """Do what a job is for; a multirun's table is told of it."""
    config, root = RunConfig.of(given), Path(os.environ["EXPLORE_ROOT"])
    if os.environ["EXPLORE_COMMAND"] == "inspect":
        from explorer.runs.inspection import inspect_model

        inspect_model(config, as_json=os.environ["EXPLORE_JSON"] == "1")
        return
    from explorer.runs.multirun import reported
    from explorer.runs.run import execute

    with reported(MultirunFolder(root), config):
        execute(config, root)
