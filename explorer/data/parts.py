"""Which rows of a data set of the `datasets` library are train, validation and test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from explorer.data.columns import labels_of
from explorer.data.reading import read_folder, read_hub
from explorer.data.split import stratified
from explorer.utils.checks import checked_number
from spaces.errors import PruningError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Part", "Parts", "read_parts"]

_SPLIT_SEED = 0
_VALIDATION_NAMES = ("validation", "valid", "val")

_Integers: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of one split of the library that are used together, and their labels [n]."""

    dataset: Dataset
    rows: _Integers
    labels: _Integers


@dataclass(frozen=True, eq=False)
class Parts:
    """Train, validation and test of a labelled data set.

    Attributes
    ----------
    name
        Of the folder or on the hub.
    parts
        Train, validation, test, the first two shuffled.
    classes
        Number of classes.
    notes
        What was not as expected.
    key
        The configuration key that mistakes in the data are told of.
    """

    name: str
    parts: tuple[Part, Part, Part]
    classes: int
    notes: tuple[str, ...]
    key: str


def read_parts(path: str | Path | None, hub: str | None, *, validation: float, max_gib: float, seed: int = 0) -> Parts:
    """Return the parts of a labelled data set in a folder or on the hub.

    Parameters
    ----------
    path, hub
        A local folder, or without one a name on the hub.
    validation
        Rows to carve out of train, stratified: a count, or a share below 1. A set that has
        validation and test of its own keeps them; one without a labelled test gives its validation as test, or as
        many train rows.
    max_gib
        Files above this size are refused before they are read.
    seed
        Which rows validation is carved out of; test is the same for all seeds.

    Raises
    ------
    PruningError
        One line starting with ``data`` (the hub), ``data.path``, ``data.validation`` or ``data.seed``.
    """
    checked_number("data.seed", seed, least=0)
    if path is not None:
        splits, key = read_folder(path, max_gib=max_gib), "data.path"
    elif hub is not None:
        splits, key = read_hub(hub), "data"
    else:
        raise PruningError("data.path: give a folder (data.path) or a name on the hub (data.hub)")
    if "train" not in splits:
        raise PruningError(f"{key}: no split named train; the splits are {', '.join(splits)}")
    # other splits (unlabelled extras) needn't even have the same columns
    used = [name for name in ("train", "test", *_VALIDATION_NAMES) if name in splits and len(splits[name])]
    labelled = {name: labels_of(splits[name], key=key) for name in used}
    labels = {name: values for name, (values, _) in labelled.items()}
    parts, notes = _parts(splits, labels, validation=validation, seed=seed, key=key)
    classes = max(classes for _, classes in labelled.values())
    return Parts(Path(path).name if path is not None else str(hub), parts, classes, notes, key)


def _parts(
    splits: Mapping[str, Dataset], labels: Mapping[str, _Integers], *, validation: float, seed: int, key: str
) -> tuple[tuple[Part, Part, Part], tuple[str, ...]]:
    """Decide which rows of which split are train, validation and test, and say what was not as expected."""
    notes = []
    if labels.get("train", np.array([-1])).min() < 0:
        raise PruningError(f"{key}: the train split is empty or has rows without a label")
    labelled = {name: values for name, values in labels.items() if values.min() >= 0}
    if "test" in labels and "test" not in labelled:
        notes.append("the test split has no labels and is not used")

    def part(name: str, rows: _Integers) -> Part:
        return Part(splits[name], rows, labels[name][rows])

    generator = np.random.default_rng(_SPLIT_SEED)
    rest = generator.permutation(len(labels["train"]))

    def carve(generator: np.random.Generator) -> Part:
        nonlocal rest
        count = _count(validation, len(labels["train"]), len(rest))
        inner, chosen = stratified(labels["train"][rest], count, generator=generator)
        rows, rest = rest[chosen], rest[inner]
        return part("train", rows)

    own = next((name for name in _VALIDATION_NAMES if name in labelled), None)
    if "test" in labelled:
        test = part("test", np.arange(len(labels["test"])))
    elif own is not None:
        notes.append(f"there is no labelled test split: {own} is used as test, validation is carved out of train")
        test, own = part(own, np.arange(len(labels[own]))), None
    else:
        notes.append("there is no labelled test split: test is carved out of train")
        test = carve(generator)
    shuffled = None if own is None else part(own, generator.permutation(len(labels[own])))
    validated = shuffled or carve(np.random.default_rng(seed))
    return (part("train", rest), validated, test), tuple(notes)


def _count(validation: float, total: int, left: int) -> int:
    """Return the number of rows to carve out of `left` ones."""
    number = isinstance(validation, int | float)
    count = math.floor(validation * total + 0.5) if number and 0 < validation < 1 else validation
    if not number or not 1 <= count < left or count != int(count):
        raise PruningError(
            f"data.validation: {validation!r} is neither a share below 1 nor a count that fits {total} train rows"
        )
    return int(count)
