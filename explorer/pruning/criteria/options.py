"""A criterion with its options, as a file of conf/criterion or a caller gives them, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from explorer.pruning.criteria.catalogue import CRITERIA, CUSTOM, Criterion
from explorer.utils.instantiate import check_arguments, locate
from spaces import PruningError, PruningSpace, unknown

__all__ = ["Options", "seeded"]

_WORDS: Mapping[str, tuple[str, ...]] = {
    "norm": ("l1", "l2"),
    "normalizer": ("mean", "max", "sum", "none"),
    "reduction": ("sum", "mean", "max", "prod"),
}
_NUMBERS = {"batches": 1, "seed": 0}


@dataclass(frozen=True)
class Options:
    """A criterion and how its scores are made.

    Parameters
    ----------
    name
        One of `CRITERIA`, or ``custom``.
    norm
        How the scores of a channel in one tensor become one number: ``l1``, their sum, or ``l2``, the root of the sum
        of their squares.
    normalizer
        What the numbers of a tensor are divided by: their ``mean``, ``max``, ``sum``, or ``none`` for 1.
    reduction
        How the numbers of all tensors of a unit become one: ``sum``, ``mean``, ``max`` or ``prod``.
    batches
        Training batches that criteria that need data see.
    seed
        Which of them: 0 the first, 1 as many after those, and so on. Of ``random`` the seed.
    function
        Of ``custom``, or its import path: from a `Subject` to the name of every weight in ``subject.weights`` and
        scores of its shape, numbers of 0 or more.
    arguments
        What else that function is given, by name.
    """

    name: str = "l1"
    norm: str = "l1"
    normalizer: str = "mean"
    reduction: str = "sum"
    batches: int = 10
    seed: int = 0
    function: Callable[..., Any] | str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, criterion: str | Mapping[str, Any] | Callable[[Any], Any] | Options) -> Options:
        """Return the options of a criterion given by its name, or as a mapping with ``name`` and others.

        A function of the user's is given itself or by its import path, in place of a name or as ``name``; a file of
        conf/ has the path as ``_target_``. Options that custom criteria do not have are the function's arguments.

        Raises
        ------
        PruningError
            If the criterion or an option is unknown, or a value is not allowed.

        Examples
        --------
        >>> Options.of({"name": "taylor", "seed": 1}).reduction
        'sum'
        """
        if isinstance(criterion, Options):
            return criterion
        given: dict[str, Any] = dict(criterion) if isinstance(criterion, Mapping) else {"name": criterion}
        name, function = given.get("name"), None
        if callable(name):
            function, given["name"] = name, CUSTOM.name
        elif name == CUSTOM.name or (isinstance(name, str) and "." in name):
            # imported by `located`: what checks a configuration runs none of its code
            function, given["name"] = str(given.pop("_target_", name)), CUSTOM.name
        elif not isinstance(name, str) or name not in CRITERIA:
            raise unknown("criterion", name, (*CRITERIA, CUSTOM.name))
        row = CUSTOM if function is not None else CRITERIA[given["name"]]
        arguments = {}
        for key in [] if function is None else list(given):
            if key != "name" and key not in row.options:
                arguments[key] = given.pop(key)
        for key, value in given.items():
            if key != "name" and key not in row.options:
                raise unknown("criterion", key, row.options)
            if key in _WORDS and value not in _WORDS[key]:
                raise unknown(f"criterion.{key}", value, _WORDS[key])
            least = _NUMBERS.get(key)
            if least is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise PruningError(f"criterion.{key}: {value!r}, allowed is a whole number >= {least}")
        return cls(**{"norm": row.norm, "function": function, "arguments": arguments, **given})

    def located(self) -> Options:
        """Return the options with the function itself in place of its import path.

        Raises
        ------
        PruningError
            If it can't be imported, or does not take the arguments.
        """
        if self.function is None:
            return self
        function = locate("criterion", self.function) if isinstance(self.function, str) else self.function
        check_arguments(
            "criterion",
            function,
            self.arguments,
            first=["the subject"],
            others=[name for name in self.row.options if name != "_target_"],
        )
        return replace(self, function=function)

    @property
    def row(self) -> Criterion:
        """The criterion's row in the catalogue."""
        return CRITERIA[self.name] if self.function is None else CUSTOM

    @property
    def needs_data(self) -> bool:
        """Whether the criterion looks at training batches."""
        return self.row.needs != "nothing"

    def check(self, space: Mapping[str, Any] | PruningSpace) -> None:
        """Check that the criterion scores what a space prunes.

        Parameters
        ----------
        space
            As in a space file, or bound to a network.

        Raises
        ------
        PruningError
            If it scores channels only and the space has patterns.
        """
        if isinstance(space, PruningSpace):
            patterns = any(axis.part == "weights" for axis in space.axes)
        else:
            patterns = bool(space.get("weights"))
        if patterns and self.row.channels_only:
            allowed = ", ".join(name for name, row in CRITERIA.items() if not row.channels_only)
            raise PruningError(
                f"criterion: {self.name!r} scores channels only, and the space has patterns on weights; "
                f"allowed with them are {allowed}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return what `of` takes: the name, and the options that the criterion has."""
        known = ("name", *self.row.options)
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name in known}


def seeded(section: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return a section of conf/criterion whose seed, where it has one and gives none, is that of the run."""
    return dict(section) | ({"seed": seed} if section.get("seed", 0) is None else {})
