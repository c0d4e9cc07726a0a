"""Identity: what a run is named by, which is everything that can change a result."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explorer.analysis.naming import model_name, space_name
from explorer.analysis.run_folder import RunFolder
from explorer.runs.composing import Composed, swept
from explorer.utils.gguf import is_gguf
from explorer.utils.space_section import space_of
from spaces import PruningError

__all__ = ["HUB", "code_of", "default_name", "differences", "identity", "own_weights", "sweep_name"]

HUB = "hub"
"""What stands for the weights of the model's own library in ``model.weights``."""
# keys that say how far and where a run goes, not what it finds
_CIRCUMSTANCES = (
    "trials", "n", "proxies", "recipe", "timeout", "name", "device", "storage", "executor", "final", "latency",
    "baselines", "baseline_targets", "baseline_family", "tracking",
)  # fmt: skip


def identity(config: Composed) -> dict[str, Any]:
    """Return everything of a configuration that can change a result; files, also of the user's code, by content."""
    known = {key: value for key, value in config.items() if key not in _CIRCUMSTANCES}
    limited = any(config["budget"].get(key) is not None for key in ("latency", "latency_ms"))
    if limited or (isinstance(config["objectives"], list) and "latency" in config["objectives"]):
        known["latency"] = {"runtime": config["latency"]["runtime"]}
    known["space"] = dict(space_of(config["space"]))
    for section in ("model", "data", "task", "criterion", "sampler"):
        if "_target_" in config[section]:
            known[section] = {**config[section], **code_of(config[section])}
    earlier = config["sampler"].get("warm_start", [])
    if earlier:
        contents = [_content(RunFolder(Path(folder)).trials_file) for folder in earlier]
        known["sampler"] = {**config["sampler"], "warm_start": contents}
    if known["model"].get("examples") == 1:
        # as where the key is not there
        known["model"] = {key: value for key, value in known["model"].items() if key != "examples"}
    weights = config["model"]["weights"]
    if weights not in (None, HUB):
        known["model"]["weights"] = _content(Path(weights))
    elif files := own_weights(config["model"]):
        known["model"]["weights"] = [_content(path) for path in files]
    return known


def own_weights(section: Mapping[str, Any]) -> list[Path]:
    """Return the files of weights of the folder or GGUF file that a model's section names; none for others."""
    folder = Path(str(section.get("architecture", ""))).expanduser()
    if is_gguf(str(folder)):
        return [folder]
    if "architecture" not in section or not (folder / "config.json").is_file():
        return []
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


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


def default_name(config: Composed) -> str:
    """Return the run's folder name: the given one, or its choices and a hash of its identity."""
    if config["name"] is not None:
        return str(config["name"])
    parts = [
        model_name(config),
        config["data"]["name"],
        space_name(config),
        config["criterion"]["name"],
        config["evaluator"]["name"],
        f"population{config['regime']['flops'] or ''}" if "regime" in config else config["sampler"]["name"],
    ]
    return "-".join([*map(str, parts), f"s{config['seed']}", _hash(identity(config))])


def sweep_name(configs: Sequence[Composed], overrides: Sequence[str]) -> str:
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


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Return "key: old there, new here" for every value in which two configurations differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        return [line for k in keys for line in differences(old.get(k), new.get(k), f"{key}.{k}".lstrip("."))]
    return [] if old == new else [f"{key}: {old!r} there, {new!r} here"]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]
