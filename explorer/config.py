"""The configuration of a run: composed and checked before anything happens, named by what it says."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spaces import Budget, PruningError, PruningSpace, unknown

__all__ = [
    "RESULTS",
    "Config",
    "compose",
    "conf",
    "default_name",
    "differences",
    "identity",
    "space_of",
    "sweep_name",
    "validate",
]

Config = dict[str, Any]

RESULTS = Path("results")
# keys that say how far and where a run goes, not what it finds
_CIRCUMSTANCES = ("trials", "timeout", "name", "device", "storage")
_GROUPS = ("model", "data", "space", "criterion", "evaluator", "sampler", "storage")
_SAMPLERS = ("exhaustive", "gp", "nsga2", "qmc", "random", "tpe")
_OBJECTIVES = ("bytes", "error", "flops", "latency", "loss", "params")


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
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    extra = [f"hydra.searchpath=[file://{folder.resolve()}]"] if folder else []
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        choices = [
            [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
            if o.is_sweep_override()
            else [str(o.input_line)]
            for o in parsed
        ]
        with initialize_config_dir(version_base="1.3", config_dir=str(conf())):
            return [
                OmegaConf.to_container(  # type: ignore[misc]
                    hydra_compose(config, overrides=[*job, *extra]), resolve=True, throw_on_missing=True
                )
                for job in itertools.product(*choices)
            ]
    except (HydraException, OmegaConfBaseException) as error:
        raise _readable(error, config) from None


def validate(config: Config) -> None:
    """Check all that can be known of a configuration before data and model are loaded.

    Raises
    ------
    PruningError
        One line that names the key, what was given and what is allowed.
    """
    _only_known("", config, _base("run"))
    for key, least, kinds in [("trials", 1, int), ("seed", 0, int), ("ladder", 0, int), ("timeout", 0, int | float)]:
        value = config[key]
        if value is None and key == "timeout":
            continue
        if isinstance(value, bool) or not isinstance(value, kinds) or value < least:
            raise PruningError(
                f"{key}: {value!r}, allowed is {'a number' if key == 'timeout' else 'a whole number'} >= {least}"
            )
    objectives = config["objectives"]
    if not isinstance(objectives, list) or not objectives or len(set(objectives)) < len(objectives):
        raise PruningError(
            f"objectives: {objectives!r}, allowed is a list of different metrics: {', '.join(_OBJECTIVES)}"
        )
    for objective in objectives:
        if objective not in _OBJECTIVES:
            raise unknown("objectives", objective, _OBJECTIVES)
    if config["sampler"]["name"] not in _SAMPLERS:
        raise unknown("sampler", config["sampler"]["name"], _SAMPLERS)
    Budget.parse({key: value for key, value in config["budget"].items() if not key.startswith("latency")})
    for key in ("latency", "latency_ms"):
        limit = config["budget"][key]
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0):
            raise PruningError(f"budget.{key}: {limit!r}, allowed is a number > 0")
    PruningSpace.check(space_of(config))
    _check_paths(config)
    name = config["name"]
    if name is not None and (name in ("reference", ".", "..") or not re.fullmatch(r"[\w.=+-]+", str(name))):
        raise PruningError(
            f"name: {name!r} can't be a run's folder, allowed are letters, digits and . _ - = + (not 'reference')"
        )


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
        except OSError as error:
            raise PruningError(f"space.path: {str(path)!r} can't be read ({error.strerror})") from None
        except yaml.YAMLError as error:
            raise PruningError(f"space.path: {str(path)!r} is no YAML ({str(error).splitlines()[0]})") from None
        if not isinstance(space, Mapping):
            raise PruningError(f"space.path: {str(path)!r} holds no mapping with channels")
    return {key: value for key, value in space.items() if key != "name"}


def identity(config: Config) -> dict[str, Any]:
    """Return everything of a configuration that can change a result, files by their content."""
    known = {key: value for key, value in config.items() if key not in _CIRCUMSTANCES}
    known["space"] = dict(space_of(config))
    weights = config["model"]["weights"]
    if weights is not None:
        with Path(weights).open("rb") as file:
            known["model"] = {
                **config["model"],
                "weights": f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}",
            }
    return known


def default_name(config: Config) -> str:
    """Return the run's folder name: the given one, or its choices and a hash of its identity."""
    if config["name"] is not None:
        return str(config["name"])
    space = Path(config["space"]["path"]).stem if "path" in config["space"] else config["space"]["name"]
    parts = [
        config["model"]["name"],
        config["data"]["name"],
        space,
        config["evaluator"]["name"],
        config["sampler"]["name"],
    ]
    return "-".join([*map(str, parts), f"s{config['seed']}", _hash(identity(config))])


def sweep_name(configs: Sequence[Config], overrides: Sequence[str]) -> str:
    """Return the folder of a multirun: the choices its jobs share, and a hash of its override keys and fixed values.

    More values of a swept key give the same name.
    """
    names = {config["name"] for config in configs}
    if len(names) == 1 and (name := names.pop()) is not None:
        return str(name)
    groups = ["model", "data", "space", "sampler"]
    shared = [configs[0][g]["name"] for g in groups if len({config[g]["name"] for config in configs}) == 1]
    swept = [o.split("=")[0] for o in overrides if "," in o.partition("=")[2]]
    fixed = [o for o in overrides if o.split("=")[0] not in (*swept, *_CIRCUMSTANCES)]
    return "-".join(["sweep", *map(str, shared), _hash([sorted(swept), sorted(fixed)])])


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Return "key: old there, new here" for every value in which two configurations differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        return [line for k in keys for line in differences(old.get(k), new.get(k), f"{key}.{k}".lstrip("."))]
    return [] if old == new else [f"{key}: {old!r} there, {new!r} here"]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _check_paths(config: Config) -> None:
    for key, kind, is_there in [("model.weights", "file", Path.is_file), ("data.path", "folder", Path.is_dir)]:
        group, _, name = key.partition(".")
        value = config[group].get(name)
        if value is not None and not is_there(Path(str(value)).expanduser()):
            raise PruningError(f"{key}: {str(value)!r} is no {kind} that is there")


def _base(config: str) -> dict[str, Any]:
    return yaml.safe_load((conf() / f"{config}.yaml").read_text())


def _only_known(prefix: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse keys that a `+key=value` override added where nothing reads them."""
    allowed = [key for key in (*known, *(_GROUPS if not prefix else ())) if key not in ("defaults", "hydra")]
    for key, value in given.items():
        if key not in allowed:
            raise unknown("key", f"{prefix}{key}", allowed)
        if isinstance(known.get(key), dict) and isinstance(value, Mapping):
            _only_known(f"{prefix}{key}.", value, known[key])


def _readable(error: Exception, config: str) -> PruningError:
    """Turn what Hydra says into one line with the nearest spelling."""
    from omegaconf.errors import MissingMandatoryValue

    if isinstance(error, MissingMandatoryValue):
        return PruningError(f"{error.full_key}: not given, and needed by this choice")
    text = "\n".join(str(part) for part in (error, error.__cause__) if part is not None)
    patterns: list[tuple[str, Callable[[re.Match[str]], PruningError]]] = [
        (r"Could not find '([^'/]+)/([^']+)'", lambda m: unknown(m[1], m[2], _options(m[1]))),
        (r"Could not override '([^']+)'", lambda m: unknown("key", m[1], _keys(config, m[1]))),
        (r"Key '([^']+)' is not in struct", lambda m: unknown("key", m[1], _keys(config, m[1]))),
    ]
    for pattern, make in patterns:
        if (match := re.search(pattern, text)) is not None:
            return make(match)
    return PruningError(f"config: {' '.join(text.split())[:300]}")


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf() / group).glob("*.yaml"))


def _keys(config: str, near: str) -> list[str]:
    """Return the keys of the same depth as `near`: top-level ones, or those inside its group."""
    base = _base(config)
    group, _, rest = near.partition(".")
    groups = _GROUPS if "defaults" in base else ()
    if not rest or (group not in groups and not isinstance(base.get(group), dict)):
        return [key for key in (*base, *groups) if key not in ("defaults", "hydra")]
    if group in groups:
        found: dict[str, None] = {}
        for path in (conf() / group).glob("*.yaml"):
            found |= dict.fromkeys(f"{group}.{key}" for key in yaml.safe_load(path.read_text()))
        return sorted(found)
    return [f"{group}.{key}" for key in base[group]]
