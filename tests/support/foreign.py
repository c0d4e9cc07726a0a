"""Torchvision and timm beside a torch without their compiled operators, in tests only."""

from __future__ import annotations

import importlib.util

import torch

LIBRARIES = ("torchvision", "timm", "transformers")


def missing(library: str) -> bool:
    """Tell whether a library is not installed."""
    return importlib.util.find_spec(library) is None


def declare_operators() -> torch.library.Library | None:
    """Declare the two operators that torchvision asks for when it is imported; keep what is returned."""
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
