"""Binding: a space file meets a network, and becomes axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from spaces.axis import Axis, Choice, realised
from spaces.errors import PruningError
from spaces.gemm import Gemm
from spaces.granularity import Pattern
from spaces.network import Network
from spaces.space_file import PARTS, Entry, SpaceFile
from spaces.ties import check_homes, check_ties, tie_of
from spaces.units import FixedBlock, FixedChannels

__all__ = ["bind"]


def bind(network: Network, file: SpaceFile) -> tuple[tuple[Axis, ...], tuple[tuple[str, str], ...]]:
    """Return the axes that a space file makes of a network, and (name or glob, reason) of its matches in vain.

    Raises
    ------
    PruningError
        If the globs of a list or a tie match nothing, two writers of a unit or what is tied are given different
        choices, a tie lies in several blocks that can be dropped, a layer that is named cannot have a granularity, or
        no axis results.
    """
    check_ties(file.tie, network)
    binding = _Binding(network, file)
    makers = {"channels": binding.channels, "weights": binding.weights, "blocks": binding.blocks}
    axes = [axis for part in PARTS if getattr(file, part) for axis in makers[part]()]
    if not axes:
        # the output is always among them: another reason is the one to know
        reasons = {reason: name for name, reason in reversed(binding.skipped)}
        told = [f"{name}: {reason}" for reason, name in reversed(reasons.items())]
        why = "; ".join(told[:3]) + (f"; {len(told) - 3} more" if told[3:] else "") or binding.reason()
        raise PruningError(f"space: network {network.name!r} has nothing to prune ({why})")
    check_homes(network, axes)
    return tuple(axes), tuple(dict.fromkeys([*binding.skipped, *binding.unused()]))


@dataclass(frozen=True)
class _Made:
    """The axis of one unit or weight, what it was made of, and the glob that ties it, if one does."""

    axis: Axis
    entry: Entry
    glob: str | None


class _Binding:
    """Makes axes, and notes which entries were used and which of their matches were in vain."""

    def __init__(self, network: Network, file: SpaceFile) -> None:
        self.network = network
        self.file = file
        self.skipped: list[tuple[str, str]] = []
        self._used: set[tuple[str, int]] = set()
        self._tied: set[str] = set()

    def channels(self) -> list[Axis]:
        made = []
        for unit in self.network.units:
            chosen = {writer: entry for writer in unit.writers if (entry := self._entry("channels", writer))}
            offered = {writer: Axis.of(unit, entry.choices, self.file.divisor) for writer, entry in chosen.items()}  # type: ignore[arg-type]
            if len(set(offered.values())) > 1:
                one, other = list(chosen)[:2]
                raise PruningError(
                    f"space.channels: {one!r} and {other!r} write one unit but are given different choices"
                )
            for writer, axis in list(offered.items())[:1]:
                made.append(_Made(axis, chosen[writer], tie_of(self.file.tie, unit.writers)))
        self._skip("channels", self.network.fixed)
        if self.network.units:
            self._refuse_unmatched("channels", "units", [unit.name for unit in self.network.units])
        return self._with_ties("channels", made, self._widths)

    def weights(self) -> list[Axis]:
        made = []
        for layer in self.network.layers:
            if (entry := self._entry("weights", layer.name)) is not None:
                choices = _sorted(dict.fromkeys(self._patterns(layer.name, entry).values()))
                if any(choice is not None for choice in choices):
                    axis = Axis("weights", layer.name, choices)
                    made.append(_Made(axis, entry, tie_of(self.file.tie, [layer.name])))
        self._refuse_unmatched("weights", "layers", [layer.name for layer in self.network.layers])
        return self._with_ties("weights", made, self._patterns)

    def blocks(self) -> list[Axis]:
        axes = []
        for block in self.network.droppable:
            if (entry := self._entry("blocks", block.name, half=block.adds)) is not None:
                kept = sorted((int(choice) for choice in entry.choices), reverse=True)  # type: ignore[arg-type]
                axes.append(Axis("blocks", block.name, tuple(kept)))
        self._skip("blocks", self.network.fixed_blocks)
        if self.network.blocks or self.network.fixed_blocks:
            self._refuse_unmatched("blocks", "blocks", [block.name for block in self.network.blocks])
        return axes

    def _with_ties(
        self, part: str, made: Sequence[_Made], offered: Callable[[str, Entry], Mapping[Choice, Choice]]
    ) -> list[Axis]:
        """Return the axes, those of one glob as one axis at the place of the first.

        `offered` gives by what is asked for what a unit or layer realises; what one of them cannot have is no choice.
        """
        axes: dict[str, Axis] = {}
        for one in made:
            mates = [other for other in made if one.glob is not None and other.glob == one.glob]
            if len(mates) < 2:
                axes[f"axis {one.axis.name}"] = one.axis
                continue
            for other in mates:
                if other.entry.choices != one.entry.choices:
                    raise PruningError(
                        f"space.tie: {one.glob!r} ties {one.axis.name!r} and {other.axis.name!r}, which are given "
                        f"different choices in space.{part}"
                    )
            if f"tie {one.glob}" not in axes:
                kept = {other.axis.name: offered(other.axis.name, other.entry) for other in mates}
                asked = [choice for choice in one.entry.choices if all(choice in mine for mine in kept.values())]
                ordered = sorted(asked, reverse=True) if part == "channels" else asked  # type: ignore[type-var]
                members = {name: [mine[choice] for choice in ordered] for name, mine in kept.items()}
                tied = Axis.tied(part, str(one.glob), ordered, members)
                places = {choice: place for place, choice in enumerate(tied.choices)}
                axes[f"tie {one.glob}"] = tied.only([places[choice] for choice in _sorted(tied.choices)])
                self._tied.add(str(one.glob))
        return list(axes.values())

    def _widths(self, name: str, entry: Entry) -> dict[Choice, Choice]:
        """Return by each ratio asked for the one that a unit realises."""
        unit = self.network.unit[name]
        return {ratio: realised(unit, float(ratio), self.file.divisor) for ratio in entry.choices}  # type: ignore[arg-type]

    def reason(self) -> str:
        """Return why no entry makes a choice, where nothing was skipped."""
        if self.file.channels and not self.network.units:
            return _first_reason(self.network)
        return "the choices keep everything"

    def unused(self) -> list[tuple[str, str]]:
        """Return the globs that decided nothing, and a divisor of nothing."""
        told = [(f"tie: {glob}", "it ties no two choices") for glob in self.file.tie if glob not in self._tied]
        if self.file.divisor > 1 and not self.file.channels:
            told.append(("divisor", "the space slices no channels"))
        return told + [
            (f"{part}: {entry.match}", "it matches nothing that no entry before it matches")
            for part in PARTS
            for place, entry in enumerate(getattr(self.file, part))
            if (part, place) not in self._used
        ]

    def _entry(self, part: str, name: str, *, half: bool = False) -> Entry | None:
        place = self.file.first(part, name, half=half)
        if place is None:
            return None
        self._used.add((part, place))
        return getattr(self.file, part)[place]

    def _skip(self, part: str, fixed: Sequence[FixedChannels | FixedBlock]) -> None:
        self.skipped += [
            (f"{part}: {one.name}", one.reason) for one in fixed if self._entry(part, one.name) is not None
        ]

    def _patterns(self, name: str, entry: Entry) -> dict[Choice, Choice]:
        """Return by each pattern of an entry that a layer can have the one it realises, None for the dense weight."""
        layer = self.network.layer[name]
        gemm = Gemm.of(self.network, layer)
        found: dict[Pattern | None, Pattern | None] = {}
        made: dict[Choice, Choice] = {}
        for choice in entry.choices:
            pattern = choice if isinstance(choice, Pattern) else None
            if pattern is not None:
                reason = gemm.refuses(pattern.granularity)
                if reason is not None and entry.exact:
                    raise PruningError(f"space.weights: {layer.name} cannot have {pattern.granularity}: {reason}")
                if reason is not None:
                    self.skipped.append((f"{layer.name}: {pattern.granularity}", reason))
                    continue
                pattern = gemm.canonical(pattern)
                if pattern is None:
                    self.skipped.append((f"{layer.name}: {choice}", "so small a layer would stay whole"))
            # of sizes beyond the layer's the first spelling stands for all
            made[choice] = found.setdefault(pattern and gemm.clamped(pattern), pattern)
        return made

    def _refuse_unmatched(self, part: str, what: str, names: list[str]) -> None:
        if not any(part == used for used, _ in self._used):
            globs = ", ".join(entry.match for entry in getattr(self.file, part))
            more = f" and {len(names) - 12} more" if len(names) > 12 else ""
            raise PruningError(f"space.{part}: {globs!r} matches none of the {what} {', '.join(names[:12])}{more}")


def _sorted(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    """Return patterns kind by kind with descending ratios, the dense weight first; ratios descending."""
    listed = list(choices)
    kinds = list(dict.fromkeys(choice.kind for choice in listed if isinstance(choice, Pattern)))

    def order(choice: Choice) -> tuple[int, float]:
        if isinstance(choice, Pattern):
            return kinds.index(choice.kind), -choice.ratio
        return -1, 0.0 if choice is None else -choice

    return tuple(sorted(listed, key=order))


def _first_reason(network: Network) -> str:
    return f"{network.fixed[0].name}: {network.fixed[0].reason}" if network.fixed else "no layer writes channels"
