"""Fingerprints: what tells tensors, modules and functions apart, and is the same in every process."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

__all__ = ["fingerprint"]

# of objects in objects: a metric may hold anything
_DEPTH = 4
_PLAIN = (bool, int, float, complex, str, type(None))


def fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits that differ where any of the parts does.

    Parameters
    ----------
    parts
        Numbers, texts, arrays and tensors, in lists, tuples, sets, dataclasses and mappings of any depth. Tensors enter
        with their type, shape and contents, wherever they lie; the order of mappings and sets does not matter.
        Functions enter with their code, their defaults, the values they hold and those functions and plain values of
        their own file that they name; what they call elsewhere enters by its name only. Modules
        enter with their classes' code, their tensors and their plain attributes, but not their mode; any other object
        with what it says of itself, its class and its attributes.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1})
    True
    """
    digest = hashlib.sha256()
    for piece in _pieces(parts, 0):
        # with its length, so that no two lists of pieces make the same bytes
        digest.update(len(piece).to_bytes(8, "big"))
        digest.update(piece)
    return digest.hexdigest()[:16]


def _pieces(value: Any, depth: int) -> Iterator[bytes]:
    if isinstance(value, _PLAIN):
        yield repr(value).encode()
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, Mapping):
        yield b"mapping"
        for key, part in sorted(value.items(), key=lambda pair: str(pair[0])):
            yield repr(key).encode()
            yield from _pieces(part, depth)
    elif isinstance(value, list | tuple):
        yield f"sequence {len(value)}".encode()
        for part in value:
            yield from _pieces(part, depth)
    elif isinstance(value, set | frozenset):
        yield b"set"
        yield from sorted(fingerprint(part).encode() for part in value)
    elif hasattr(value, "untyped_storage"):
        yield f"{value.dtype} {list(value.shape)}".encode()
        yield _contents(value)
    elif hasattr(value, "tobytes"):
        yield f"{value.dtype} {list(value.shape)}".encode()
        yield value.tobytes()
    elif isinstance(value, CodeType):
        yield value.co_code
        yield from _pieces([value.co_names, value.co_varnames, value.co_consts], depth)
    elif isinstance(value, FunctionType):
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        held += [part for _, part in sorted(_neighbours(value).items())]
        yield from _pieces([value.__module__, value.__code__, value.__defaults__, value.__kwdefaults__], depth)
        yield from _objects(held, depth)
    elif isinstance(value, MethodType):
        yield from _pieces(value.__func__, depth)
        yield from _objects([value.__self__], depth)
    elif hasattr(value, "named_modules") and hasattr(value, "named_parameters"):
        yield from _module(value, depth)
    elif is_dataclass(value) and not isinstance(value, type):
        yield type(value).__qualname__.encode()
        for field in fields(value):
            yield field.name.encode()
            yield from _objects([getattr(value, field.name)], depth)
    else:
        yield from _object(value, depth)


def _objects(values: list[Any], depth: int) -> Iterator[bytes]:
    """Yield the pieces of what another value holds; deep inside, what it says of itself."""
    for value in values:
        yield from _pieces(value, depth + 1) if depth < _DEPTH else [_named(value)]


def _neighbours(function: FunctionType) -> dict[str, Any]:
    """Return the functions and plain values of a function's own file that it names."""
    there = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    return {
        name: value
        for name, value in there.items()
        if isinstance(value, _PLAIN) or (isinstance(value, FunctionType) and value.__module__ == function.__module__)
    }


def _object(value: Any, depth: int) -> Iterator[bytes]:
    yield _named(type(value))
    yield _named(value)
    if isinstance(value, type | ModuleType | BuiltinFunctionType):
        return
    for function in _functions(type(value)):
        yield from _pieces(function.__code__, depth)
    for name, part in sorted(getattr(value, "__dict__", {}).items()):
        yield str(name).encode()
        yield from _objects([part], depth)


def _module(module: Any, depth: int) -> Iterator[bytes]:
    """Yield the pieces of a torch module."""
    yield _named(module)
    seen: set[type] = set()
    for name, part in module.named_modules():
        kind = type(part)
        yield f"{name} {kind.__module__}.{kind.__qualname__}".encode()
        if kind not in seen:
            seen.add(kind)
            for function in _functions(kind):
                yield from _pieces(function.__code__, depth)
        own = {key: value for key, value in vars(part).items() if key != "training" and isinstance(value, _PLAIN)}
        yield from _pieces(own, depth)
    yield from _pieces({**dict(module.named_parameters()), **dict(module.named_buffers())}, depth)


def _functions(kind: type) -> Iterator[FunctionType]:
    """Yield the functions of a class and of the classes it is made from; libraries change with their versions only."""
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] not in ("builtins", "torch", "torchvision", "timm", "transformers"):
            yield from (value for _, value in sorted(vars(base).items()) if isinstance(value, FunctionType))


def _named(value: Any) -> bytes:
    """Return what a value says of itself, without addresses, which are other ones in every process."""
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(value)).encode()


def _contents(tensor: Any) -> bytes:
    """Return a tensor's entries as bytes."""
    import torch

    # numpy knows no bfloat16
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
