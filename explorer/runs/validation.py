"""What can be known of a configuration to be wrong before data and model are loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from explorer.evaluation.budgets import split_budget
from explorer.runs.baselines import check_baselines
from explorer.runs.config import GROUPS, HUB, Config, conf, default_name, options_of, space_of
from explorer.search.executors import check_executor
from explorer.utils.checks import checked_ladder, checked_number, checked_objectives
from spaces import PruningError, PruningSpace, unknown

__all__ = ["check_evaluator", "validate"]

_NUMBERS: Mapping[str, dict[str, Any]] = {
    "trials": {"least": 1},
    "timeout": {"least": 0, "whole": False, "optional": True},
    "seed": {"least": 0},
    "training.epochs": {"least": 1},
    "training.batch_size": {"least": 2},
    "training.learning_rate": {"least": 0, "whole": False, "above": True},
    "training.weight_decay": {"least": 0, "whole": False},
    "training.label_smoothing": {"least": 0, "whole": False},
    "training.seed": {"least": 0},
    "evaluator.batch_size": {"least": 1},
    "evaluator.calibration_batches": {"least": 1},
    "evaluator.images": {"least": 1, "optional": True},
    "finetuning.batch_size": {"least": 2},
    "supernet.epochs": {"least": 0},
    "supernet.samples": {"least": 0},
    "supernet.learning_rate": {"least": 0, "whole": False, "above": True},
    "final.points": {"least": 0},
    "final.seeds": {"least": 1},
    "final.epochs": {"least": 1},
}
# groups whose options name a function of the user's or ours, which has arguments of its own
_OPEN = ("model", "data", "task", "space")


def validate(config: Config) -> None:
    """Check all that can be known of a configuration before anything is loaded or written.

    Raises
    ------
    PruningError
        One line that names the key, what was given and what is allowed.
    """
    base = yaml.safe_load((conf() / "run.yaml").read_text())
    sections = [key for key, value in base.items() if isinstance(value, dict) and key != "hydra"]
    allowed = [key for key in (*base, *GROUPS) if key not in ("defaults", "hydra")]
    _same_keys("", config, allowed)
    for section in (*GROUPS, *sections):
        if not isinstance(config[section], Mapping):
            raise PruningError(f"{section}: {config[section]!r}, allowed is a section of keys")
    for section in sections:
        _same_keys(f"{section}.", config[section], list(base[section]))
    for group in GROUPS:
        _check_group(group, config[group])
    for key, rule in _NUMBERS.items():
        section, _, name = key.rpartition(".")
        checked_number(key, config[section][name] if section else config[name], **rule)
    checked_objectives(config["objectives"])
    checked_ladder(config["ladder"])
    split_budget(config["budget"])
    check_baselines(config["baselines"], config["baseline_targets"], config["baseline_family"])
    _check_model(config["model"])
    PruningSpace.check(space_of(config))
    _check_criterion(config)
    check_evaluator(config["evaluator"])
    _check_finetuning(config["finetuning"])
    check_executor(config["executor"])
    _check_paths(config)
    for key, name in (("name", config["name"]), ("the run's name", default_name(config))):
        if name is not None and (name in ("bench", "reference") or not re.fullmatch(r"\w[\w.=+-]*", str(name))):
            raise PruningError(
                f"{key}: {name!r} can't be a folder, allowed are letters, digits and . _ - = + "
                "(but not 'bench' and 'reference')"
            )


def _same_keys(prefix: str, given: Mapping[str, Any], allowed: list[str]) -> None:
    """Refuse keys that an override added where nothing reads them, or removed where something does."""
    for key in given:
        if key not in allowed:
            raise unknown("key", f"{prefix}{key}", [f"{prefix}{name}" for name in allowed])
    for key in allowed:
        if key not in given:
            raise PruningError(f"{prefix}{key}: not given, and needed")


def _check_group(group: str, section: Mapping[str, Any]) -> None:
    name = section.get("name")
    if not isinstance(name, str):
        raise PruningError(f"{group}.name: {name!r}, allowed is a word")
    if group in _OPEN:
        return
    if name not in options_of(group):
        raise unknown(group, name, options_of(group))
    _same_keys(f"{group}.", section, list(yaml.safe_load((conf() / group / f"{name}.yaml").read_text())))
    if group == "sampler":
        _check_sampler(section)


def _check_sampler(section: Mapping[str, Any]) -> None:
    if not isinstance(section["options"], Mapping):
        raise PruningError(f"sampler.options: {section['options']!r}, allowed is a section of keys")
    earlier = section.get("warm_start", [])
    if not isinstance(earlier, list):
        raise PruningError(f"sampler.warm_start: {earlier!r}, allowed is a list of runs' folders")
    for folder in earlier:
        if not (Path(str(folder)) / "trials.parquet").is_file():
            raise PruningError(f"sampler.warm_start: {str(folder)!r} is no run's folder that is there")


def _check_criterion(config: Config) -> None:
    # the table's functions need torch, which takes seconds to import
    from explorer.pruning.criteria import Options

    Options.of(config["criterion"]).check(space_of(config))


def check_evaluator(section: Mapping[str, Any]) -> None:
    """Check the values of the configuration's section ``evaluator`` that say how candidates are measured.

    Raises
    ------
    PruningError
        If the rungs are no ascending numbers of epochs, or a value is out of range.
    """
    # torch again
    from explorer.evaluation.finetuning import checked_rungs

    if not isinstance(section["racing"], bool):
        raise PruningError(f"evaluator.racing: {section['racing']!r}, allowed is true or false")
    if "rungs" in section:
        checked_rungs(section["rungs"], start=section["name"])
        checked_number("evaluator.eta", section["eta"], least=1, whole=False, above=True)


def _check_finetuning(section: Mapping[str, Any]) -> None:
    from explorer.evaluation.training import Settings

    Settings.of(section)


def _check_model(model: Mapping[str, Any]) -> None:
    if not isinstance(model.get("drop_unused", False), bool):
        raise PruningError(f"model.drop_unused: {model['drop_unused']!r}, allowed is true or false")
    for key in ("mean", "std"):
        values = model.get(key)
        if values is None:
            continue
        if not isinstance(values, list):
            raise PruningError(f"model.{key}: {values!r}, allowed is a list of numbers, one a channel")
        for value in values:
            checked_number(f"model.{key}", value, least=0, whole=False, above=key == "std")


def _check_paths(config: Config) -> None:
    for key, kind, is_there in [("model.weights", "file", Path.is_file), ("data.path", "folder", Path.is_dir)]:
        group, _, name = key.partition(".")
        value = config[group].get(name)
        if value is not None and (key, value) != ("model.weights", HUB) and not is_there(Path(str(value))):
            raise PruningError(f"{key}: {str(value)!r} is no {kind} that is there")
