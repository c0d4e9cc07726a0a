"""Multiply-adds of one executed operation.

Torch's own counter has no formula for some operators that multiply, and takes them for free. They have one here; of
any other operator that is given a parameter it must be known that it multiplies nothing.
"""

# ruff: noqa: SIM905 - long lists of names read better as text
from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from explorer.tracing.calls import Call

__all__ = ["multiplies_nothing", "multiply_adds"]


def multiply_adds(call: Call) -> int:
    """Return the multiply-adds of a matrix product, convolution or fused attention; 0 for anything else."""
    own = _FORMULAS.get(call.name)
    if own is not None:
        return own(call)
    count = flop_registry.get(call.func.overloadpacket)
    if count is not None:
        return int(count(*call.args, **call.kwargs, out_val=call.out)) // 2
    if "scaled_dot_product" in call.name and "backward" not in call.name:
        return int(sdpa_flop_count(*(call[name].shape for name in ("query", "key", "value")))) // 2
    return 0


def multiplies_nothing(call: Call) -> bool:
    """Tell whether an operator that made no multiply-adds has a formula or is known to make no products of sums."""
    known = call.name in _FORMULAS or call.func.overloadpacket in flop_registry
    return known or torch.Tag.pointwise in call.func.tags or call.func.is_view or call.name.removesuffix("_") in _FREE


def _routed(call: Call) -> int:
    """Return what rows make that are each multiplied with one matrix of several, by `offs`."""
    first, second = (call[name] for name in _GROUPED[call.name])
    rows = first.size(-2) if first.dim() == 3 else len(first)
    offsets = call["offs"]
    if offsets is not None and first.dim() == 2 and second.dim() == 3 and offsets.numel():
        # rows behind the last group are not multiplied
        rows = min(rows, int(offsets[-1]))
    if first.dim() == second.dim() == 3:
        rows *= first.size(0)
    return rows * first.size(-1) * second.size(-1)


def _vector(call: Call) -> int:
    names = {argument.name for argument in call.func._schema.arguments}
    return int(call["mat" if "mat" in names else "self"].numel())


def _bilinear(call: Call) -> int:
    shapes = []
    for number in (1, 2, 3):
        shape = list(call[f"i{number}"].shape)
        for dim in call[f"expand{number}"]:
            shape.insert(dim, 1)
        shapes.append(shape)
    return prod(torch.broadcast_shapes(*shapes))


_GROUPED = {"_grouped_mm": ("self", "mat2"), "grouped_mm_fallback": ("input", "weight")}
_FORMULAS: dict[str, Callable[[Call], int]] = {
    **dict.fromkeys(_GROUPED, _routed),
    **dict.fromkeys(("addmv", "dot", "mv", "vdot"), _vector),
    "_addmm_activation": lambda call: call["mat1"].numel() * call["mat2"].size(-1),
    "_int_mm": lambda call: call["self"].numel() * call["mat2"].size(-1),
    "_trilinear": _bilinear,
    "addbmm": lambda call: call["batch1"].numel() * call["batch2"].size(-1),
    "linear": lambda call: call["input"].numel() * call["weight"].size(0),
    "mkldnn_linear": lambda call: call["input"].numel() * call["weight"].size(0),
}
_FREE = frozenset(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _conj_physical _embedding_bag _embedding_bag_forward_only _fft_c2c
    _fft_c2r _fft_r2c _fused_rms_norm _log_softmax _native_batch_norm_legit _native_batch_norm_legit_no_training
    _prelu_kernel _resize_output_ _safe_softmax _softmax _to_copy _unique2 _unsafe_index _unsafe_index_put
    _unsafe_masked_index _unsafe_view _weight_norm_interface all amax amin any arange argmax argmin argsort as_strided
    avg_pool2d bernoulli bincount bucketize cat clone constant_pad_nd copy copy_ count_nonzero cudnn_batch_norm cummax
    cummin cumprod cumsum detach embedding embedding_renorm empty_like equal fill flip full_like gather glu
    grid_sampler_2d grid_sampler_3d hardswish histc im2col index index_add index_copy index_fill index_put index_reduce
    index_select is_same_size isin item kthvalue lift_fresh linalg_vector_norm linspace _local_scalar_dense
    logcumsumexp logsumexp masked_fill masked_scatter masked_select max mean median min miopen_batch_norm multinomial
    native_batch_norm native_dropout native_group_norm native_layer_norm new_empty new_empty_strided new_full new_ones
    new_zeros nonzero norm normal ones_like pixel_shuffle pixel_unshuffle prod put rand_like randn_like
    reflection_pad1d reflection_pad2d repeat repeat_interleave replication_pad1d replication_pad2d reshape resize roll
    rot90 scatter scatter_add scatter_reduce searchsorted segment_reduce slice_scatter sort stack std std_mean sum take
    topk tril triu trunc unfold unfold_copy unique_consecutive unique_dim upsample_bicubic2d upsample_bilinear2d
    upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d var var_mean
    view_as_complex view_as_real where zero zeros_like
    """.split()
)
