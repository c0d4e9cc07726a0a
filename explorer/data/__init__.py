"""Data sets and batches: loaders, open to any user function that gives a `Data`."""

from explorer.data.batches import Batches
from explorer.data.digits import load_digits
from explorer.data.images import load_cifar10, load_images
from explorer.data.split import Data, Split, fingerprint
from explorer.data.structure import Batch, draw, head, moved, size_of
from explorer.data.text import load_text
from explorer.data.tokens import load_tokens

__all__ = [
    "Batch",
    "Batches",
    "Data",
    "Split",
    "draw",
    "fingerprint",
    "head",
    "load_cifar10",
    "load_digits",
    "load_images",
    "load_text",
    "load_tokens",
    "moved",
    "size_of",
]
