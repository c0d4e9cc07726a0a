"""Binding: a space file meets a network, and becomes axes."""

from __future__ import annotations

from collections.abc import Sequence

from spaces.axis import Axis, Choice
from spaces.errors import PruningError
from spaces.gemm import Gemm
from spaces.granularity import Pattern
from spaces.layers import Layer
from spaces.network import Network
from spaces.space_file import PARTS, Entry, SpaceFile
from spaces.units import FixedBlock, FixedChannels

__all__ = ["bind"]


def bind(network: Network, file: SpaceFile) -> tuple[tuple[Axis, ...], tuple[tuple[str, str], ...]]:
    """Return the axes that a space file makes of a network, and (name or glob, reason) of its matches in vain.

    Raises
    ------
    PruningError
        If the globs of a list match nothing, two writers of a unit are given different choices, a layer that is
        named cannot have a granularity, or no axis results.
    """
    binding = _Binding(network, file)
    makers = {"channels": binding.channels, "weights": binding.weights, "blocks": binding.blocks}
    axes = [axis for part in PARTS if getattr(file, part) for axis in makers[part]()]
    if not axes:
        # the output is always among them: another reason is the one to know
        reasons = {reason: name for name, reason in reversed(binding.skipped)}
        told = [f"{name}: {reason}" for reason, name in reversed(reasons.items())]
        why = "; ".join(told[:3]) + (f"; {len(told) - 3} more" if told[3:] else "") or binding.reason()
        raise PruningError(f"space: network {network.name!r} has nothing to prune ({why})")
    return tuple(axes), tuple(dict.fromkeys([*binding.skipped, *binding.unused()]))


class _Binding:
    """Makes axes, and notes which entries were used and which of their matches were in vain."""

    def __init__(self, network: Network, file: SpaceFile) -> None:
        self.network = network
        self.file = file
        self.skipped: list[tuple[str, str]] = []
        self._used: set[tuple[str, int]] = set()

    def channels(self) -> list[Axis]:
        axes = []
        for unit in self.network.units:
            chosen = {writer: entry for writer in unit.writers if (entry := self._entry("channels", writer))}
            offered = {writer: Axis.of(unit, entry.choices) for writer, entry in chosen.items()}  # type: ignore[arg-type]
            if len(set(offered.values())) > 1:
                one, other = list(chosen)[:2]
                raise PruningError(
                    f"space.channels: {one!r} and {other!r} write one unit but are given different choices"
                )
            axes += list(offered.values())[:1]
        self._skip("channels", self.network.fixed)
        if self.network.units:
            self._refuse_unmatched("channels", "units", [unit.name for unit in self.network.units])
        return axes

    def weights(self) -> list[Axis]:
        axes = []
        for layer in self.network.layers:
            if (entry := self._entry("weights", layer.name)) is not None:
                choices = self._patterns(layer, entry)
                if any(choice is not None for choice in choices):
                    axes.append(Axis("weights", layer.name, choices))
        self._refuse_unmatched("weights", "layers", [layer.name for layer in self.network.layers])
        return axes

    def blocks(self) -> list[Axis]:
        axes = []
        for block in self.network.blocks:
            if (entry := self._entry("blocks", block.name)) is not None:
                kept = sorted((int(choice) for choice in entry.choices), reverse=True)  # type: ignore[arg-type]
                axes.append(Axis("blocks", block.name, tuple(kept)))
        self._skip("blocks", self.network.fixed_blocks)
        if self.network.blocks or self.network.fixed_blocks:
            self._refuse_unmatched("blocks", "blocks", [block.name for block in self.network.blocks])
        return axes

    def reason(self) -> str:
        """Return why no entry makes a choice, where nothing was skipped."""
        if self.file.channels and not self.network.units:
            return _first_reason(self.network)
        return "the choices keep everything"

    def unused(self) -> list[tuple[str, str]]:
        """Return the globs that decided nothing."""
        return [
            (f"{part}: {entry.match}", "it matches nothing that no entry before it matches")
            for part in PARTS
            for place, entry in enumerate(getattr(self.file, part))
            if (part, place) not in self._used
        ]

    def _entry(self, part: str, name: str) -> Entry | None:
        place = self.file.first(part, name)
        if place is None:
            return None
        self._used.add((part, place))
        return getattr(self.file, part)[place]

    def _skip(self, part: str, fixed: Sequence[FixedChannels | FixedBlock]) -> None:
        self.skipped += [
            (f"{part}: {one.name}", one.reason) for one in fixed if self._entry(part, one.name) is not None
        ]

    def _patterns(self, layer: Layer, entry: Entry) -> tuple[Choice, ...]:
        """Return the different patterns of an entry that the layer can have, kind by kind, the dense weight first."""
        gemm = Gemm.of(self.network, layer)
        found: dict[Pattern | None, Pattern | None] = {}
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
            found.setdefault(pattern and gemm.clamped(pattern), pattern)
        patterns = list(found.values())
        kinds = list(dict.fromkeys(pattern.kind for pattern in patterns if pattern is not None))
        return tuple(sorted(patterns, key=lambda p: (-1, 0.0) if p is None else (kinds.index(p.kind), -p.ratio)))

    def _refuse_unmatched(self, part: str, what: str, names: list[str]) -> None:
        if not any(part == used for used, _ in self._used):
            globs = ", ".join(entry.match for entry in getattr(self.file, part))
            more = f" and {len(names) - 12} more" if len(names) > 12 else ""
            raise PruningError(f"space.{part}: {globs!r} matches none of the {what} {', '.join(names[:12])}{more}")


def _first_reason(network: Network) -> str:
    return f"{network.fixed[0].name}: {network.fixed[0].reason}" if network.fixed else "no layer writes channels"
