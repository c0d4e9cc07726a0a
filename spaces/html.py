"""What notebooks show of a network: a plain table of HTML."""

from __future__ import annotations

from html import escape

from spaces.cost import dense_costs
from spaces.network import Network

__all__ = ["network_html"]


def network_html(network: Network) -> str:
    """Return a network as HTML: its costs, and a row a layer with its weight and the units that it writes and reads."""
    costs = dense_costs(network)
    head = (
        f"{network.name}: {costs['flops']:,} multiply-adds, {costs['params']:,} parameters, "
        f"{len(network.units)} channel units, {len(network.blocks)} blocks that can be dropped"
    )
    rows = []
    for layer in network.layers:
        writes, *reads = network.tensor[layer.weight].dims
        size = " x ".join(str(dim.length) for dim in network.tensor[layer.weight].dims)
        read = sorted(frozenset[str]().union(*(dim.units for dim in reads)))
        rows.append([layer.name, layer.kind, size, ", ".join(sorted(writes.units)), ", ".join(read)])
    heads = ["layer", "kind", "weight", "writes unit", "reads units"]
    return f"<p>{escape(head)}</p>\n{_table(heads, rows)}"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = ["<table>", f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in heads)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])
