"""A network without the units and blocks that failed the check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from explorer.tracing.verification.sifting import Item
from spaces import ChannelUnit, Dim, FixedBlock, FixedChannels, Network, Span

__all__ = ["with_fixed"]


def with_fixed(network: Network, bad: Mapping[Item, str]) -> Network:
    """Return the network with the units and blocks in `bad` fixed for these reasons."""
    if not bad:
        return network
    units = {item.name for item in bad if isinstance(item, ChannelUnit)}

    def dim(old: Dim) -> Dim:
        if old.units.isdisjoint(units):
            return old
        spans = tuple(Span(None, 0, span.entries) if span.unit in units else span for span in old.spans)
        if all(span.unit is None for span in spans):
            return Dim((Span(None, 0, old.length),), reads=old.reads)
        return replace(old, spans=spans)

    fixed = [FixedChannels(unit.name, unit.channels, bad[unit]) for unit in network.units if unit in bad]
    fixed_blocks = [FixedBlock(block.name, bad[block]) for block in network.droppable if block in bad]
    return replace(
        network,
        units=tuple(unit for unit in network.units if unit not in bad),
        fixed=(*network.fixed, *fixed),
        tensors=tuple(replace(t, dims=tuple(map(dim, t.dims))) for t in network.tensors),
        caches=tuple(replace(held, dims=tuple(map(dim, held.dims))) for held in network.caches),
        leaves=tuple(replace(leaf, reads=dim(leaf.reads), writes=dim(leaf.writes)) for leaf in network.leaves),
        products=tuple(replace(product, dims=tuple(map(dim, product.dims))) for product in network.products),
        reductions=tuple(entry for old in network.reductions if (entry := replace(old, dim=dim(old.dim))).dim.units),
        sizes=tuple(size for old in network.sizes if (size := replace(old, dim=dim(old.dim))).dim.units),
        blocks=tuple(block for block in network.blocks if block not in bad),
        halves=tuple(half for half in network.halves if half not in bad),
        fixed_blocks=(*network.fixed_blocks, *fixed_blocks),
    )
