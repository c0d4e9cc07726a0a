"""The configuration of a run: composed and checked before anything happens, named by what it says."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spaces import PruningError, first_line, unknown

__all__ = [
    "GROUPS",
    "HUB",
    "RESULTS",
    "Config",
    "code_of",
    "compose",
    "conf",
    "default_name",
    "differences",
    "identity",
    "model_name",
    "named_section",
    "options_of",
    "run_section",
    "space_of",
    "sweep_name",
    "swept",
]

Config = dict[str, Any]

RESULTS = Path("results")
HUB = "hub"
"""What stands for the weights of the model's own library in ``model.weights``."""
# keys that say how far and where a run goes, not what it finds
_CIRCUMSTANCES = (
    "trials", "timeout", "name", "device", "storage", "executor", "final",
    "baselines", "baseline_targets", "baseline_family",
)  # fmt: skip
# keys of conf/space that the lists below them are made of
_KNOBS = ("name", "match", "ratios", "channel_ratios", "width", "height", "delta", "n", "m")
GROUPS = ("model", "data", "task", "space", "criterion", "evaluator", "sampler", "executor", "storage")


def conf() -> Path:
    """Return the folder of the configuration files."""
    import explorer.conf

    return Path(explorer.conf.__path__[0]).resolve()


def compose(overrides: Sequence[str], *, config: str = "run", folder: Path | None = None) -> list[Config]:
    """Return the configurations that overrides describe: one, or one a job of a multirun.

    Parameters
    ----------
    overrides
        Hydra overrides; ``key=a,b`` is a sweep.
    config
        The primary config.
    folder
        A further folder of configuration files (Hydra's ``--config-dir``).

    Raises
    ------
    PruningError
        If a key or an option is unknown, or a value is missing or cannot be parsed.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if folder is not None and not folder.is_dir():
        raise PruningError(f"--config-dir: {str(folder)!r} is no folder that is there")
    extra = [f"hydra.searchpath=[file://{folder.resolve()}]"] if folder else []
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf())):
            parser = OverridesParser.create(GlobalHydra.instance().config_loader())
            choices = [
                [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
                if o.is_sweep_override()
                else [str(o.input_line)]
                for o in parser.parse_overrides(list(overrides))
            ]
            return [
                OmegaConf.to_container(  # type: ignore[misc]
                    hydra_compose(config, overrides=[*job, *extra]), resolve=True, throw_on_missing=True
                )
                for job in itertools.product(*choices)
            ]
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _readable(error, config) from None


def named_section(group: str, given: str | Mapping[str, Any], *, without: Collection[str] = ()) -> dict[str, Any]:
    """Return an option of a group of conf/ by its name, or by a mapping with ``name`` and what differs.

    Keys of conf/ that the caller has another way to say are left out and not allowed (`without`).

    Raises
    ------
    PruningError
        If the name or a key is unknown, or a key is needed and not given.
    """
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.get("name")
    if name not in options_of(group):
        raise unknown(group, str(name), options_of(group))
    known = yaml.safe_load((conf() / group / f"{name}.yaml").read_text())
    section = _filled(group, known, options, without)
    for key, value in section.items():
        if value == "???":
            raise PruningError(f"{group}.{key}: not given, and needed by {name}")
    return section


def run_section(name: str, given: Mapping[str, Any], *, without: Collection[str] = ()) -> dict[str, Any]:
    """Return a section of conf/run.yaml with what differs, `without` some keys as `named_section`.

    Raises
    ------
    PruningError
        If a key is unknown.
    """
    return _filled(name, _base("run")[name], given, without)


def _filled(
    group: str, defaults: Mapping[str, Any], given: Mapping[str, Any], without: Collection[str]
) -> dict[str, Any]:
    allowed = {key: value for key, value in defaults.items() if key not in without}
    for key in given:
        if key not in allowed:
            raise unknown(group, key, allowed)
    return {**allowed, **given}


def space_of(config: Config) -> Mapping[str, Any]:
    """Return the space's own keys: those of the group, or of the file it names.

    Raises
    ------
    PruningError
        If the file is not there or is no YAML mapping.
    """
    space = config["space"]
    if "path" in space:
        path = Path(str(space["path"]))
        try:
            space = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise PruningError(f"space.path: {str(path)!r} can't be read ({reason})") from None
        except yaml.YAMLError as error:
            raise PruningError(f"space.path: {str(path)!r} is no YAML ({first_line(error)})") from None
        if not isinstance(space, Mapping):
            raise PruningError(f"space.path: {str(path)!r} holds no mapping with channels, weights or blocks")
        space = _resolved(path, space)
    return {key: value for key, value in space.items() if key not in _KNOBS}


def _resolved(path: Path, space: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a space file with its references such as ``${space.ratios}`` replaced, as those of conf/ are."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(OmegaConf.create({"space": dict(space)}), resolve=True)["space"]  # type: ignore
    except OmegaConfBaseException as error:
        raise PruningError(f"space.path: {str(path)!r}: {first_line(error)}") from None


def identity(config: Config) -> dict[str, Any]:
    """Return everything of a configuration that can change a result; files, also of the user's code, by content."""
    known = {key: value for key, value in config.items() if key not in _CIRCUMSTANCES}
    known["space"] = dict(space_of(config))
    for section in ("model", "data", "task"):
        known[section] = {**config[section], **code_of(config[section])}
    earlier = config["sampler"].get("warm_start", [])
    if earlier:
        contents = [_content(Path(folder) / "trials.parquet") for folder in earlier]
        known["sampler"] = {**config["sampler"], "warm_start": contents}
    weights = config["model"]["weights"]
    if weights not in (None, HUB):
        known["model"]["weights"] = _content(Path(weights))
    return known


def code_of(section: Mapping[str, Any]) -> dict[str, str]:
    """Return hashes of the files that a section names besides data and weights.

    That is the file with the user's own function or class, as ``code``, and a model's local ``config.json``. Files
    that these import are not read; installed packages change with their versions only.
    """
    module = str(section["_target_"]).rpartition(".")[0]
    files = {"code": _source(module), "config.json": Path(str(section.get("architecture", ""))) / "config.json"}
    return {key: _content(path) for key, path in files.items() if path is not None and path.is_file()}


def _source(module: str) -> Path | None:
    if module.partition(".")[0] == "explorer":
        return None
    try:
        # of parents only, which are imported to find the module
        top = importlib.util.find_spec(module.partition(".")[0])
        if top is None or "site-packages" in str(top.origin):
            return None
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def default_name(config: Config) -> str:
    """Return the run's folder name: the given one, or its choices and a hash of its identity."""
    if config["name"] is not None:
        return str(config["name"])
    space = Path(config["space"]["path"]).stem if "path" in config["space"] else config["space"]["name"]
    parts = [
        model_name(config),
        config["data"]["name"],
        space,
        config["criterion"]["name"],
        config["evaluator"]["name"],
        config["sampler"]["name"],
    ]
    return "-".join([*map(str, parts), f"s{config['seed']}", _hash(identity(config))])


def model_name(config: Mapping[str, Any]) -> str:
    """Return what the model is called in names and titles: its choice, of a library's many models also which."""
    model = config["model"]
    # some are folders
    which = [Path(str(model["architecture"])).name] if "architecture" in model else []
    return "-".join([str(model["name"]), *which])


def sweep_name(configs: Sequence[Config], overrides: Sequence[str]) -> str:
    """Return the folder of a multirun: the choices its jobs share, and a hash of its override keys and fixed values.

    More values of a swept key give the same name.
    """
    names = {config["name"] for config in configs}
    if len(names) > 1:
        raise PruningError("name: it can't be swept, since it names the multirun; jobs are named by their choices")
    if (name := names.pop()) is not None:
        return str(name)
    groups = ["model", "data", "space", "sampler"]
    shared = [configs[0][g]["name"] for g in groups if len({config[g]["name"] for config in configs}) == 1]
    keys = swept(overrides)
    fixed = [o for o in overrides if not {o.split("=")[0], o.split("=")[0].split(".")[0]} & {*keys, *_CIRCUMSTANCES}]
    return "-".join(["sweep", *map(str, shared), _hash([sorted(keys), sorted(fixed)])])


def swept(overrides: Sequence[str]) -> list[str]:
    """Return the keys of the overrides that give several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [o.get_key_element() for o in parsed if o.is_sweep_override()]


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Return "key: old there, new here" for every value in which two configurations differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        return [line for k in keys for line in differences(old.get(k), new.get(k), f"{key}.{k}".lstrip("."))]
    return [] if old == new else [f"{key}: {old!r} there, {new!r} here"]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _base(config: str) -> dict[str, Any]:
    return yaml.safe_load((conf() / f"{config}.yaml").read_text())


def _readable(error: Exception, config: str) -> PruningError:
    """Turn what Hydra says into one line with the nearest spelling."""
    from omegaconf.errors import MissingMandatoryValue

    if isinstance(error, MissingMandatoryValue):
        return PruningError(f"{error.full_key}: not given, and needed by this choice")
    text = "\n".join(str(part) for part in (error, error.__cause__) if part is not None)
    patterns: list[tuple[str, Callable[[re.Match[str]], PruningError]]] = [
        (r"Could not find '([^'/]+)/([^']+)'", lambda m: unknown(m[1], m[2], options_of(m[1]))),
        (r"Could not override '([^']+)'", lambda m: _no_key(config, m[1])),
        (r"Key '([^']+)' is not in struct", lambda m: _no_key(config, m[1])),
    ]
    for pattern, make in patterns:
        if (match := re.search(pattern, text)) is not None:
            return make(match)
    return PruningError(f"config: {' '.join(text.split())[:300]}")


def _no_key(config: str, key: str) -> PruningError:
    """Return what is wrong with a key: only other options of its group have it, or it is misspelt."""
    group, _, name = key.partition(".")
    if group in GROUPS and name:
        files = sorted((conf() / group).glob("*.yaml"))
        if having := [path.stem for path in files if name in yaml.safe_load(path.read_text())]:
            return PruningError(f"key: {key!r} is one of {group}={', '.join(having)} only")
    return unknown("key", key, _keys(config, key))


def options_of(group: str) -> list[str]:
    """Return the options of a group of conf/."""
    return sorted(path.stem for path in (conf() / group).glob("*.yaml"))


def _keys(config: str, near: str) -> list[str]:
    """Return the keys of the same depth as `near`: top-level ones, or those inside its group."""
    base = _base(config)
    group, _, rest = near.partition(".")
    groups = GROUPS if "defaults" in base else ()
    if not rest or (group not in groups and not isinstance(base.get(group), dict)):
        return [key for key in (*base, *groups) if key not in ("defaults", "hydra")]
    if group in groups:
        found: dict[str, None] = {}
        for path in (conf() / group).glob("*.yaml"):
            found |= dict.fromkeys(f"{group}.{key}" for key in yaml.safe_load(path.read_text()))
        return sorted(found)
    return [f"{group}.{key}" for key in base[group]]
