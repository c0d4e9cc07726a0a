"""Series: which runs compare with each other, and what those that differ are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from explorer.analysis.naming import model_name, space_name
from explorer.analysis.studies.result import StudyResult
from explorer.utils.conf import GROUPS

__all__ = ["flat_choices", "groups_of", "labels_of", "series_of"]

# what says where and how far a run goes, and the seeds over which series are drawn
_CIRCUMSTANCES = {
    "trials", "n", "timeout", "name", "device", "executor", "storage", "final", "latency", "proxies", "seed",
    "baselines", "baseline_targets", "baseline_family", "identity", "facts", "draw",
}  # fmt: skip
# made of the group's other keys
_DERIVED = ("channels", "weights", "blocks")
_LONGEST = 40


def groups_of(results: Sequence[StudyResult]) -> dict[str, list[StudyResult]]:
    """Return the results whose errors compare, by a title: those of one model, data set, task and objectives."""
    found: dict[tuple[str, ...], list[StudyResult]] = {}
    for result in results:
        key = (
            model_name(result.config),
            str(result.config["data"]["name"]),
            str(result.config["task"]["name"]),
            " and ".join(result.scale.objectives),
            result.error.label,
        )
        found.setdefault(key, []).append(result)
    differing = [place for place in range(2, 5) if len({key[place] for key in found}) > 1]
    titles = {key: ", ".join([f"{key[0]} on {key[1]}", *(key[place] for place in differing)]) for key in found}
    return {titles[key]: members for key, members in found.items()}


def series_of(results: Sequence[StudyResult]) -> list[str]:
    """Return for each result the series that it belongs to: what it differs in from others, besides the seed.

    Where nothing differs the series is the space's name. Runs of one series and one seed are told apart by folder.
    """
    labels = labels_of([result.config for result in results])
    series = [label or space_name(result.config) for label, result in zip(labels, results, strict=True)]
    alike = [(name, result.seed) for name, result in zip(series, results, strict=True)]
    return [
        f"{name} ({result.folder.path.parent.name})" if alike.count((name, result.seed)) > 1 else name
        for name, result in zip(series, results, strict=True)
    ]


def labels_of(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return for each configuration what it differs in from the others besides the seed, "" for nothing."""
    flat = [flat_choices(config) for config in configs]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    differing = [key for key in keys if len({repr(one.get(key)) for one in flat}) > 1]
    # what a group of another name has besides follows from the name
    named = {key.removesuffix(".name") for key in differing if key.endswith(".name")}
    shown = [key for key in differing if key.endswith(".name") or key.partition(".")[0] not in named]
    return [_label({key: one[key] for key in shown if key in one}) for one in flat]


def flat_choices(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what series of runs can differ in, as keys with points: no seeds and nothing of where a run goes."""
    return dict(_flat(config))


def _flat(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in _CIRCUMSTANCES:
            continue
        if key == "model":
            yield "model.name", model_name(config)
        elif key == "space":
            yield "space.name", space_name(config)
        elif not isinstance(value, Mapping):
            yield key, value
            continue
        for name, entry in value.items():
            if key in GROUPS and (name in _DERIVED or (name == "name" and key in ("model", "space"))):
                continue
            yield f"{key}.{name}", entry


def _label(values: Mapping[str, Any]) -> str:
    """Return the values in which a result differs from others: groups by name, other keys with theirs."""
    parts = []
    for key, value in values.items():
        text = str(value)
        text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
        parts.append(text if key.endswith(".name") else f"{key}={text}")
    return " ".join(parts)
