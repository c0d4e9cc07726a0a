"""How the networks of torchvision, timm and transformers are traced: seconds, units, what share can be pruned."""

from __future__ import annotations

import importlib
import multiprocessing
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import Tensor, nn

from explorer import models
from explorer.analysis.facts import prunable_share
from explorer.bench.measured import Measured
from explorer.runs.config import RESULTS
from explorer.tracing import trace
from explorer.utils.console import console
from explorer.utils.files import atomic
from spaces import PruningError, first_line, unknown

__all__ = ["LIBRARIES", "Traced", "built", "chosen", "listed", "traced", "zoo"]

LIBRARIES: Mapping[str, Callable[..., nn.Module]] = {
    "torchvision": models.torchvision,
    "timm": models.timm,
    "transformers": models.transformers,
    "kinds": lambda **arguments: _of_class(**arguments),
}
"""Factories by library, the last for networks of other kinds than classifiers."""

_LIST = Path(__file__).with_name("zoo.yaml")
# of a library's models so many have at least half of their FLOPs in layers that a unit touches (issue 4)
_SHARE, _TARGETS = 0.5, {"torchvision": 0.95, "timm": 0.9, "transformers": 0.9, "kinds": 0.9}
_INPUTS = ("image", "inputs", "outputs", "tokens")


@dataclass(frozen=True)
class Traced:
    """One model's row: what it read, seconds to trace and verify (not to build), what came of it.

    `parameters` is in millions, `share` that of the FLOPs in layers of whose weight a unit owns a dimension, `reason`
    why most other layers are fixed, `problem` why there is nothing to report, or empty.
    """

    library: str
    model: str
    input: str
    parameters: float = float("nan")
    seconds: float = float("nan")
    units: int = 0
    blocks: int = 0
    share: float = 0.0
    reason: str = ""
    problem: str = ""


def listed() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the models by library: for each its ``image`` or ``tokens``, and the factory's arguments."""
    content = yaml.safe_load(_LIST.read_text())
    return {
        library: {
            name: dict(entry) if isinstance(entry, Mapping) else {"image": entry} for name, entry in entries.items()
        }
        for library, entries in content.items()
    }


def built(library: str, name: str, entry: Mapping[str, Any], seed: int = 0) -> tuple[nn.Module, Any]:
    """Return a listed model in eval mode and an input for it; the global random state is left as it was."""
    arguments = {"architecture": name, **{key: value for key, value in entry.items() if key not in _INPUTS}}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        model = LIBRARIES[library](**arguments).eval()
        if "inputs" in entry:
            return model, {key: _drawn(shape) for key, shape in entry["inputs"].items()}
        if "tokens" in entry:
            return model, torch.randint(1, entry["config"]["vocab_size"], (1, entry["tokens"]))
        return model, torch.randn(1, 3, entry["image"], entry["image"])


def _drawn(shape: Any) -> Tensor:
    """Return an input: numbers of tokens, or values of a shape."""
    if isinstance(shape, Mapping):
        return torch.randint(3, shape["vocabulary"], (1, shape["tokens"]))
    return torch.randn(shape)


def _of_class(architecture: str, config: Mapping[str, Any] | None = None, **entry: Any) -> nn.Module:
    """Return a model of a class with its configuration, or what a function makes of the same arguments."""
    package, _, attribute = entry["class"].rpartition(".")
    made = getattr(importlib.import_module(package), attribute)
    kind = getattr(made, "config_class", None)
    return made(**(config or {})) if kind is None else made(kind(**(config or {})))


def traced(library: str, name: str, entry: Mapping[str, Any], seed: int = 0) -> Traced:
    """Return the row of one model; whatever goes wrong is its problem."""
    shown = _shown(entry)
    parameters = float("nan")
    try:
        model, example = built(library, name, entry, seed)
        parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        begin = time.perf_counter()
        network = trace(model, example, name=name, outputs=entry.get("outputs"))
        seconds = time.perf_counter() - begin
    except Exception as error:
        line = first_line(error)
        return Traced(library, name, shown, parameters, problem=f"{type(error).__name__}: {line}")
    channels: dict[str, int] = {}
    for fixed in network.fixed:
        channels[fixed.reason] = channels.get(fixed.reason, 0) + fixed.channels
    reason = max(channels, key=lambda why: channels[why], default="")
    share = prunable_share(network)
    return Traced(library, name, shown, parameters, seconds, len(network.units), len(network.blocks), share, reason)


def _shown(entry: Mapping[str, Any]) -> str:
    """Return an input in words."""
    if "inputs" in entry:
        shapes = entry["inputs"].values()
        return ", ".join(
            f"{part['tokens']} tokens" if isinstance(part, Mapping) else " x ".join(map(str, part)) for part in shapes
        )
    return f"{entry['tokens']} tokens" if "tokens" in entry else f"{entry['image']} x {entry['image']}"


def chosen(options: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (library, name, entry) of what ``zoo.libraries`` and ``zoo.models`` ask for.

    Raises
    ------
    PruningError
        If a library or a model is not listed.
    """
    every = listed()
    for library in options["libraries"]:
        if library not in every:
            raise unknown("zoo.libraries", library, every)
    found = [
        (library, name, entry)
        for library in dict.fromkeys(options["libraries"])
        for name, entry in every[library].items()
    ]
    if options["models"] is None:
        return found
    names = {name for _, name, _ in found}
    for name in options["models"]:
        if name not in names:
            raise unknown("zoo.models", name, sorted(names))
    return [row for row in found if row[1] in options["models"]]


def zoo(config: dict[str, Any]) -> list[Measured]:
    """Return how many models of each library have half of their FLOPs in layers that a unit touches, and the slowest.

    Every model has a process of its own, so that one that hangs or crashes is a row; all rows are written to
    ``results/bench/zoo-models.csv`` and ``.md``.

    Raises
    ------
    PruningError
        If a library or a model is not listed.
    """
    options = config["zoo"]
    rows = []
    for library, name, entry in chosen(options):
        rows.append(_alone(library, name, entry, config["seed"], options["limit"]))
        console.print(_line(rows[-1]), markup=False, highlight=False, soft_wrap=True)
    _write(rows, RESULTS / "bench")
    return [figure for library in LIBRARIES for figure in _figures([row for row in rows if row.library == library])]


def _figures(rows: list[Traced]) -> list[Measured]:
    if not rows:
        return []
    library, count = rows[0].library, len(rows)
    slowest = max(rows, key=lambda row: -1 if row.problem else row.seconds)
    good = sum(row.share >= _SHARE for row in rows)
    ran = sum(not row.problem for row in rows)
    half = f"{library}: half of the FLOPs or more in layers that a unit touches"
    return [
        Measured(f"{library}: traced and verified", "all", ran, f"of {count}", count),
        Measured(half, "all", good, f"of {count}", round(_TARGETS[library] * count)),
        Measured(f"{library}: seconds of the slowest, {slowest.model}", "", slowest.seconds, "s", at_most=60),
    ]


def _alone(library: str, name: str, entry: dict[str, Any], seed: int, limit: float) -> Traced:
    """Return the row of one model, made in a process that has `limit` seconds."""
    # a forked process has the libraries already; where there is none it imports them again
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("fork" if "fork" in methods else None)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, library, name, entry, seed), daemon=True)
    process.start()
    theirs.close()
    problem = f"no result after {limit:g} s"
    try:
        if ours.poll(limit):
            return ours.recv()
    except EOFError:
        process.join()
        problem = f"its process ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()
        ours.close()
    return Traced(library, name, _shown(entry), problem=problem)


def _send(connection: Connection, library: str, name: str, entry: dict[str, Any], seed: int) -> None:
    connection.send(traced(library, name, entry, seed))


def _line(row: Traced) -> str:
    made = f"{row.seconds:5.1f} s, {row.units} units, {row.blocks} blocks, share {row.share:.3f}"
    return f"{row.library} {row.model}, {row.input}: {row.problem or made}"


def _write(rows: list[Traced], folder: Path) -> None:
    """Write the rows as a table for programs and one for people.

    Raises
    ------
    PruningError
        If the folder cannot be written.
    """
    table = pd.DataFrame([[getattr(row, field.name) for field in fields(row)] for row in rows])
    table.columns = [field.name for field in fields(Traced)]
    lines = ["| model | input | M parameters | seconds | units | blocks | share | most of the rest, or the problem |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|---|")
    lines += [
        f"| {row.model} ({row.library}) | {row.input} | {row.parameters:.2f} | {row.seconds:.1f} | {row.units} "
        f"| {row.blocks} | {row.share:.3f} | {(row.problem or row.reason).replace('|', '/')} |"
        for row in rows
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / "zoo-models.csv") as temporary:
            table.to_csv(temporary, index=False)
        with atomic(folder / "zoo-models.md") as temporary:
            temporary.write_text("\n".join([*lines, ""]))
    except OSError as error:
        raise PruningError(f"{folder}: can't be written ({error.strerror})") from None
