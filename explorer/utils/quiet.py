"""Quiet: what other libraries say about themselves while they work for us."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

__all__ = ["quiet"]

# loggers with handlers of their own, which redirected streams do not silence
_LOGGERS = ("torch", "torch.export", "torch.onnx", "onnxscript", "onnx_ir", "openvino", "transformers")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings, log lines and prints of exporters and libraries; what they raise comes through."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
