"""A model becomes a Network, once: traced through the operations that really ran, and verified by slicing."""

from explorer.tracing.tracer import trace

__all__ = ["trace"]
