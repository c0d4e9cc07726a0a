"""Fingerprints: what tells tensors, and the functions and objects of users, apart in every process."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["definition", "fingerprint"]


def fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits that differ where any of the parts does.

    Parameters
    ----------
    parts
        Numbers, texts, arrays and tensors, in lists, tuples, dataclasses and mappings of any depth. Tensors enter with
        their type, shape and contents, wherever they lie. The order of mappings does not matter, and anything else
        enters by what it says of itself.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1})
    True
    """
    digest = hashlib.sha256()
    for piece in _pieces(parts):
        # with its length, so that no two lists of pieces make the same bytes
        digest.update(len(piece).to_bytes(8, "big"))
        digest.update(piece)
    return digest.hexdigest()[:16]


def definition(value: Any) -> str:
    """Return a text that differs where what a function or an object does differs, and is the same in every process.

    Parameters
    ----------
    value
        A function enters with its code, its defaults and the values it holds, anything else with what it says of
        itself and its attributes. What a function calls enters by its name only.
    """
    parts = [type(value), getattr(value, "__module__", None), value]
    code = getattr(value, "__code__", None)
    if code is None:
        parts.append(getattr(value, "__dict__", None))
    else:
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        parts += [code.co_code, code.co_consts, code.co_names, value.__defaults__, value.__kwdefaults__, held]
    return _without_addresses(repr(parts))


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        yield b"mapping"
        for key, part in sorted(value.items(), key=lambda pair: str(pair[0])):
            yield repr(key).encode()
            yield from _pieces(part)
    elif isinstance(value, list | tuple):
        yield f"sequence {len(value)}".encode()
        for part in value:
            yield from _pieces(part)
    elif is_dataclass(value) and not isinstance(value, type):
        yield type(value).__qualname__.encode()
        for field in fields(value):
            yield field.name.encode()
            yield from _pieces(getattr(value, field.name))
    elif hasattr(value, "untyped_storage"):
        yield f"{value.dtype} {list(value.shape)}".encode()
        yield _contents(value)
    elif hasattr(value, "tobytes"):
        yield f"{value.dtype} {list(value.shape)}".encode()
        yield value.tobytes()
    elif isinstance(value, bytes):
        yield value
    else:
        yield _without_addresses(repr(value)).encode()


def _without_addresses(text: str) -> str:
    """Return a text without addresses, which are other ones in every process."""
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", text)


def _contents(tensor: Any) -> bytes:
    """Return a tensor's entries as bytes."""
    import torch

    # numpy knows no bfloat16
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
