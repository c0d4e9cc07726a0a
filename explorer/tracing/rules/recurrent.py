"""Recurrent layers: one hidden width for all gates, layers and directions, which torch keeps as one number."""

from __future__ import annotations

from torch import nn

from explorer.tracing.graph import Graph

__all__ = ["tie_states"]


def tie_states(model: nn.Module, graph: Graph) -> None:
    """Tie what a recurrent layer remembers to the gates that make it, of all its layers and directions.

    A state that the layer begins with is zero and belongs to no channel, so that one step ties nothing.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for module in model.modules():
        if not isinstance(module, nn.RNNBase | nn.RNNCellBase):
            continue
        own = {place: names[id(weight)] for place, weight in module.named_parameters(recurse=False)}
        ran = {place: name for place, name in own.items() if (name, 1) in graph.blocks}
        steps = [name for place, name in ran.items() if place.startswith("weight_hh")]
        states = [graph.blocks[name, 1].nodes for name in steps]
        for name, state in zip(steps, states, strict=True):
            graph.tie(states[0], state)
            if not getattr(module, "proj_size", 0):
                graph.tie(state, graph.blocks[name, 0].nodes.reshape(-1, len(state)))
        for name in (name for place, name in ran.items() if place.startswith("weight_hr")):
            for dim in (0, 1):
                graph.fix(graph.blocks[name, dim].nodes, "torch cannot run an LSTM that is as wide as its projection")
