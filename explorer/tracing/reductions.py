"""The operators that run over channels as a whole, and so over the kept ones only once some are gone.

A norm, a softmax or a mean over a pruned dimension is defined over what is kept. The sliced network has nothing else;
for the masked one, which has all channels, see `explorer.tracing.verification.kept_only`.
"""

# ruff: noqa: SIM905 - long lists of names read better as text
from __future__ import annotations

__all__ = ["ALONG", "COUNTED_AS", "LAYER_NORMS", "PRODUCTS", "REDUCING", "RESTRICTED"]

ALONG = frozenset("_log_softmax _safe_softmax _softmax cumprod cumsum logcumsumexp".split())
"""Operators along one dimension, of the same result for kept entries if only these are there; the shape stays."""

REDUCING = frozenset(
    """
    all amax amin any count_nonzero linalg_vector_norm logsumexp max mean median min nanmedian nansum norm prod std
    std_mean sum var var_mean
    """.split()
)
"""Operators that reduce dimensions, of the same result if what is not kept is not there."""

LAYER_NORMS = frozenset(["_fused_rms_norm", "native_layer_norm"])
"""Norms over the last dimensions."""

PRODUCTS = frozenset(["bmm"])
"""Products [n, rows, entries] x [n, entries, columns] that sum over channels."""

RESTRICTED = ALONG | REDUCING | LAYER_NORMS | PRODUCTS | {"native_batch_norm", "native_group_norm"}
"""All of them; the batch norm is that which standardises a weight's rows.

A run of one is known by its module, its name and how often it ran there before.
"""

COUNTED_AS = {"_fused_rms_norm": "mean"}
"""What an operator of some devices is on others: an RMS norm is a mean over the same dimensions."""
