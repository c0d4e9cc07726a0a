"""Sizes that modules keep as numbers, and how they are made to agree with sliced tensors.

Torch's own layers are a table from class to update. Of a user's modules the attributes are known by name.
"""

# ruff: noqa: SIM905 - long lists of names read better as text
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from explorer.pruning.surgery.stand_ins import Skip, SmallerAttention
from explorer.pruning.surgery.window_attention import WINDOWED, window_attention
from spaces import Dim, Network, Span

__all__ = ["SizeAttribute", "size_attributes", "update_of"]

_COUNTS = frozenset(
    """
    h head_num heads n_head n_heads n_kv_head n_kv_heads nhead nheads num_attention_heads num_head num_heads
    num_key_value_heads num_kv_heads
    """.split()
)
_WIDTHS = frozenset(
    """
    all_head_size attn_dim channels d_model dim embed_dim embedding_dim hidden_dim hidden_size inner_dim inner_size
    n_embd normalized_shape num_channels num_features out_channels shape split_size
    """.split()
)
# of a user's own class: the dimension of its own weight that an attribute is the length of
_OF_WEIGHT = {
    "embedding_dim": 1,
    "in_features": 1,
    "nf": 1,
    "normalized_shape": 0,
    "num_channels": 0,
    "num_features": 0,
    "nx": 0,
    "out_features": 0,
}


@dataclass(frozen=True)
class SizeAttribute:
    """An attribute of a module that is proportional to what is kept of a dimension: its value with all of it."""

    module: nn.Module
    attribute: str
    dim: Dim
    value: int | tuple[int, ...] | list[int]
    place: int | None = None

    def of(self, kept: int, now: Any) -> int | tuple[int, ...] | list[int]:
        """Return the value when so many entries of the dimension are kept, and it is `now`."""
        if self.place is not None:
            numbers = [*now[: self.place], kept, *now[self.place + 1 :]]
            return tuple(numbers) if isinstance(now, tuple) else numbers
        if isinstance(self.value, tuple):
            return tuple(kept if value == self.dim.length else value for value in self.value)
        assert isinstance(self.value, int)
        return self.value * kept // self.dim.length


def size_attributes(model: nn.Module, network: Network) -> list[SizeAttribute]:
    """Return the attributes that count heads or channels: of well-known names, and those that tracing found.

    In a module that multiplies activations, and in those around the layers of the unit that is multiplied, a count
    is a multiple of the heads that can be pruned, and a width is what one of the unit's tensors has. In any other
    module a width is a dimension of a tensor of its own, of what it runs over as a whole, or of the layers in it.
    """
    found = [size for unit, places in _attention(network).items() for size in _heads(model, network, unit, places)]
    known = {(id(size.module), size.attribute) for size in found}
    found += [size for size in _widths(model, network) if (id(size.module), size.attribute) not in known]
    known = {(id(size.module), size.attribute) for size in found}
    return found + [size for size in _given(model, network) if (id(size.module), size.attribute) not in known]


def _given(model: nn.Module, network: Network) -> Iterator[SizeAttribute]:
    """Yield the attributes that the network says are lengths."""
    for size in network.sizes:
        module = model.get_submodule(size.module)
        if size.attribute in vars(module):
            yield SizeAttribute(module, size.attribute, size.dim, vars(module)[size.attribute], size.place)


def _attention(network: Network) -> dict[str, set[str]]:
    """Return the units that activations are multiplied in, and the modules that may know how many heads there are."""
    places: dict[str, set[str]] = {}
    for product in network.products:
        for unit in {unit for dim in product.dims for unit in dim.units}:
            layers = network.unit[unit].writers
            places.setdefault(unit, {layer.rpartition(".")[0] for layer in layers}).add(product.name)
    return places


def _heads(model: nn.Module, network: Network, unit: str, places: set[str]) -> Iterator[SizeAttribute]:
    heads = network.unit[unit].atoms
    dims = (dim for tensor in network.tensors for dim in tensor.dims)
    widths = {dim.length for dim in dims if dim.units == {unit}}
    for place in sorted(places):
        module = model.get_submodule(place)
        if type(module) is nn.MultiheadAttention:
            continue
        for attribute, value in vars(module).items():
            counted = attribute in _COUNTS and type(value) is int and value % heads == 0
            if counted or (attribute in _WIDTHS and value in widths):
                yield SizeAttribute(module, attribute, Dim((Span(unit, 0, heads),)), value)


def _widths(model: nn.Module, network: Network) -> Iterator[SizeAttribute]:
    """Yield the widths of modules that torch does not know, or that have no tensor to tell them by."""
    own, below = _dims_by_module(network)
    multiplying = {product.name for product in network.products}
    for name, module in model.named_modules():
        weight = network.tensor.get(f"{name}.weight" if name else "weight")
        known = weight is not None and type(module).__module__.startswith("torch.nn.")
        known = known or isinstance(module, nn.RNNBase | nn.RNNCellBase)
        if known or name in multiplying or not own.get(name, below.get(name)):
            continue
        for attribute, value in vars(module).items():
            if weight is not None and attribute == "out_channels" and isinstance(module, nn.modules.conv._ConvNd):
                # read off the weight
                dims = []
            elif weight is not None and _OF_WEIGHT.get(attribute, 9) < len(weight.dims):
                dims = [weight.dims[_OF_WEIGHT[attribute]]]
            else:
                dims = [*own.get(name, ()), *below.get(name, ())] if attribute in _WIDTHS else []
            lengths = [n for n in value if n != 1] if type(value) is tuple else [value]
            dim = next((dim for dim in dims if dim.units and lengths == [dim.length]), None)
            if dim is not None:
                yield SizeAttribute(module, attribute, dim, value)


def _dims_by_module(network: Network) -> tuple[dict[str, list[Dim]], dict[str, list[Dim]]]:
    """Return the dimensions, of which some can be pruned, by the module they are in and by the one it is in."""
    own: dict[str, list[Dim]] = {}
    below: dict[str, list[Dim]] = {}
    for reduction in network.reductions:
        own.setdefault(reduction.module, []).append(reduction.dim)
    for tensor in network.tensors:
        dims = [dim for dim in tensor.dims if dim.units and dim.groups == 1]
        module = tensor.name.rpartition(".")[0]
        if dims:
            own.setdefault(module, []).extend(dims)
            below.setdefault(module.rpartition(".")[0], []).extend(dims)
    return own, below


def update_of(module: nn.Module) -> Callable[[Any], None] | None:
    """Return the function that makes the size attributes of a sliced copy agree with its tensors, if there is one."""
    kind = type(module)
    if f"{kind.__module__}.{kind.__qualname__}" in WINDOWED:
        return window_attention
    return next((update for kind, update in _UPDATES.items() if isinstance(module, kind)), None)


# in the updates numbers are written past Module.__setattr__, which asks of each whether it is a parameter


def _norm(module: Any) -> None:
    tensors = module._parameters.get("weight"), module._buffers.get("running_mean")
    known = next((tensor for tensor in tensors if tensor is not None), None)
    if known is not None:
        vars(module)["num_features"] = len(known)


def _linear(module: Any) -> None:
    if (weight := module._parameters.get("weight")) is not None:
        vars(module).update(out_features=weight.size(0), in_features=weight.size(1))


def _prelu(module: Any) -> None:
    if (weight := module._parameters.get("weight")) is not None:
        vars(module)["num_parameters"] = len(weight)


def _embedding(module: Any) -> None:
    if (weight := module._parameters.get("weight")) is not None:
        vars(module)["embedding_dim"] = weight.size(1)


def _convolution(module: Any) -> None:
    weight, sizes = module._parameters.get("weight"), vars(module)
    if weight is None:
        return
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    if module.groups > 1 and module.groups == module.in_channels:
        # depthwise: filters for each channel it reads
        per_channel = module.out_channels // module.in_channels
        channels = weight.size(0) if transposed else weight.size(0) // per_channel
        sizes.update(groups=channels, in_channels=channels, out_channels=channels * per_channel)
        return
    written, read = (1, 0) if transposed else (0, 1)
    sizes["out_channels"] = weight.size(written) * (module.groups if transposed else 1)
    sizes["in_channels"] = weight.size(read) * (1 if transposed else module.groups)


def _multihead_attention(module: Any) -> None:
    """Let a module whose heads and inputs can have any width take the place of torch's, which has one width."""
    first = module.in_proj_weight if module.in_proj_weight is not None else module.q_proj_weight
    heads, width = module.out_proj.weight.size(1) // module.head_dim, first.size(1)
    if type(module) is nn.MultiheadAttention and (heads, width) != (module.num_heads, module.embed_dim):
        module.__class__ = SmallerAttention
        # the last is what torch's layers ask before they give these tensors to a fused kernel
        vars(module).update(num_heads=heads, embed_dim=width, _qkv_same_embed_dim=False)


def _encoder(module: Any) -> None:
    if any(isinstance(part, SmallerAttention | Skip) for part in module.modules()):
        # made for the fused kernel
        vars(module)["use_nested_tensor"] = False


def _shape(module: Any) -> None:
    if (weight := module._parameters.get("weight")) is not None:
        vars(module)["normalized_shape"] = tuple(weight.shape)


def _recurrent(module: Any) -> None:
    """Take the widths from the first layer; all layers and directions have the same."""
    tensors = {name.removesuffix("_l0"): tensor for name, tensor in module._parameters.items()}
    # an LSTM with a projection has a state of another width, and keeps both
    places = {"input_size": "weight_ih"} | ({} if "weight_hr" in tensors else {"hidden_size": "weight_hh"})
    vars(module).update({size: tensors[place].size(1) for size, place in places.items() if place in tensors})


def _group_norm(module: Any) -> None:
    weight, numbers = module._parameters.get("weight"), vars(module)
    if weight is not None:
        if module.num_groups == module.num_channels:
            # every channel is its own group
            numbers["num_groups"] = len(weight)
        numbers["num_channels"] = len(weight)


_UPDATES: dict[type[nn.Module], Callable[[Any], None]] = {
    nn.modules.conv._ConvNd: _convolution,
    nn.Linear: _linear,
    nn.modules.batchnorm._NormBase: _norm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _shape,
    nn.RMSNorm: _shape,
    nn.PReLU: _prelu,
    nn.Embedding: _embedding,
    nn.MultiheadAttention: _multihead_attention,
    nn.TransformerEncoder: _encoder,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent,
}
