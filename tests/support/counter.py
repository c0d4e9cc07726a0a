"""A counter of multiply-adds that refuses operators of which it does not know whether they multiply."""

# ruff: noqa: SIM905 - long lists of names read better as text
from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FREE = frozenset(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _embedding_bag _embedding_bag_forward_only _fft_c2c _fft_c2r _fft_r2c
    _fused_rms_norm _local_scalar_dense _log_softmax _native_batch_norm_legit _native_batch_norm_legit_no_training
    _nested_tensor_from_mask_left_aligned _prelu_kernel _reshape_alias _safe_softmax _softmax _to_copy _unique2
    _unsafe_index _unsafe_index_put _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa _weight_norm_interface
    adaptive_avg_pool1d adaptive_max_pool2d adaptive_max_pool3d affine_grid_generator alias all amax amin aminmax any
    arange argmax argmin argsort as_strided avg_pool1d avg_pool2d avg_pool3d bernoulli bincount bucketize cat
    channel_shuffle clone col2im constant_pad_nd contiguous copy copy_ count_nonzero cummax cummin cumprod cumsum
    detach diagonal_copy dropout embedding embedding_renorm empty empty_like empty_permuted empty_strided equal expand
    exponential eye fill flip full full_like gather glu grid_sampler_2d grid_sampler_3d hardswish histc im2col index
    index_add index_copy index_fill index_put index_reduce index_select is_pinned isin kthvalue lift_fresh linalg_qr
    linalg_vector_norm linspace logcumsumexp logsumexp masked_fill masked_scatter masked_select max max_pool2d
    max_pool2d_with_indices max_pool3d_with_indices mean median meshgrid min multinomial native_batch_norm
    native_dropout native_group_norm native_layer_norm new_empty new_empty_strided new_full new_ones new_zeros nonzero
    norm normal ones ones_like pixel_shuffle pixel_unshuffle prod put qr rand randint randn randn_like rand_like random
    randperm reflection_pad1d reflection_pad2d repeat repeat_interleave replication_pad1d replication_pad2d reshape
    resize roll rsqrt scalar_tensor scatter scatter_add scatter_reduce searchsorted segment_reduce slice_scatter sort
    squeeze stack std std_mean sum take topk transpose tril tril_indices triu triu_indices unfold uniform
    unique_consecutive unique_dim unsafe_split upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d var var_mean view view_as_complex
    view_as_real view_copy where zero zeros zeros_like
    """.split()
)
"""Operators that add, compare, move or decompose and are no products; the list is not explorer's."""


class Counter(TorchDispatchMode):
    """Counts the multiply-adds of what runs under it."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.total += made(func, args, kwargs or {}, out)
        return out


def made(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> int:
    """Return the multiply-adds of one operation."""
    name = func.overloadpacket.__name__
    if name in ("mm", "_int_mm"):
        return args[0].numel() * args[1].size(1)
    if name in ("addmm", "_addmm_activation", "addmm_"):
        return args[1].numel() * args[2].size(1)
    if name in ("bmm",):
        return args[0].numel() * args[1].size(2)
    if name in ("baddbmm", "baddbmm_"):
        return args[1].numel() * args[2].size(2)
    if name in ("mv", "dot", "vdot"):
        return args[0].numel()
    if name == "addmv":
        return args[1].numel()
    if name == "convolution":
        source, weight, transposed = args[0], args[1], args[6]
        # every weight meets every position of what is larger: of the output, or of what was strided up
        return weight.numel() * (source if transposed else out)[0, 0].numel() * source.size(0)
    if name == "_trilinear":
        shapes = []
        for source, added in zip(args[:3], args[3:6], strict=True):
            for dim in added:
                source = source.unsqueeze(dim)
            shapes.append(source.shape)
        return prod(torch.broadcast_shapes(*shapes))
    if name in ("_grouped_mm", "grouped_mm_fallback"):
        offsets = kwargs["offs"] if "offs" in kwargs else args[2]
        return min(len(args[0]), int(offsets[-1])) * args[1].size(1) * args[1].size(2)
    if name.startswith("_scaled_dot_product"):
        query, key, value = args[:3]
        return query[..., 0].numel() * key.size(-2) * (query.size(-1) + value.size(-1))
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    known = torch.Tag.pointwise in func.tags or func.is_view or name in FREE or name.removesuffix("_") in FREE
    if not known and any(tensor.is_floating_point() and tensor.dim() for tensor in given):
        raise NotImplementedError(f"does {func} multiply?")
    return 0
