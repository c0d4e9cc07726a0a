"""A corpus: texts or token ids in files, as streams of token ids by the split they belong to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from explorer.data.reading import read_hub
from explorer.data.text import text_column, tokenizer_of
from spaces.errors import PruningError, first_line

__all__ = ["Corpus", "read_corpus"]

_IDS = (".npy", ".safetensors", ".pt")
_TABLES: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".parquet": pd.read_parquet,
    ".csv": pd.read_csv,
    ".jsonl": partial(pd.read_json, lines=True),
}
_SUFFIXES = (".txt", *_TABLES, *_IDS)
# how names begin, of files and of a library's splits
_SPLITS = {"train": "train", "valid": "validation", "val": "validation", "dev": "validation", "test": "test"}

Corpus = Mapping[str, list[Tensor]]
"""Streams of token ids, int64 [n], by split: ``train``, ``validation``, ``test``."""


def read_corpus(
    path: str | Path | None, hub: str | None, tokenizer: str | None, *, key: str, without: str | Path | None = None
) -> Corpus:
    """Return the token ids of a corpus, by split; what names no split is train.

    Parameters
    ----------
    path
        A file, or a folder of files of one kind: .txt; .parquet, .csv or .jsonl with a column of texts; or token ids
        as .npy, .safetensors or .pt, a stream [n] or sequences [n, length]. Names that begin with train, valid,
        val, dev or test are of that split.
    hub
        Without a path: a data set of the hub.
    tokenizer
        A folder or a name on the hub; token ids need none.
    key
        The configuration key of the path.
    without
        A file of the folder that is left out.

    Raises
    ------
    PruningError
        One line that starts with the key, ``data`` or ``data.tokenizer``.
    """
    encode = _encoder(tokenizer)
    if path is None:
        if hub is None:
            raise PruningError(f"{key}: give a file or folder (data.path) or a name on the hub (data.hub)")
        splits = read_hub(hub).items()
        return _by_split((name, [_joined(split, split.features, "data", encode)]) for name, split in splits)
    files = _files(Path(path).expanduser(), key, without)
    if not files:
        raise PruningError(f"{key}: no files in {str(path)!r} ({', '.join(_SUFFIXES)})")
    return _by_split((file.stem, _streams(file, key, encode)) for file in files)


def _files(path: Path, key: str, without: str | Path | None) -> list[Path]:
    """Return the files of a corpus in the order of their names."""
    if not path.exists():
        raise PruningError(f"{key}: there is no file or folder {str(path)!r}")
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise PruningError(f"{key}: {path.name!r} has an unknown suffix, allowed are {', '.join(_SUFFIXES)}")
        return [path]
    left_out = None if without is None else Path(without).expanduser().resolve()
    return sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.resolve() != left_out)


def _by_split(named: Iterable[tuple[str, list[Tensor]]]) -> Corpus:
    found: dict[str, list[Tensor]] = {}
    for name, streams in named:
        split = next((split for start, split in _SPLITS.items() if name.lower().startswith(start)), "train")
        found.setdefault(split, []).extend(streams)
    return found


def _streams(file: Path, key: str, encode: Callable[[str], Tensor]) -> list[Tensor]:
    """Return the streams of one file."""
    if file.suffix in _IDS:
        return _ids(file, key)
    what = "a table" if file.suffix in _TABLES else "text"
    try:
        content: Any = _TABLES[file.suffix](file) if file.suffix in _TABLES else file.read_text(encoding="utf-8")
    except Exception as error:  # of several readers
        raise PruningError(f"{key}: {str(file)!r} can't be read as {what} ({first_line(error)[:200]})") from None
    return [encode(content) if isinstance(content, str) else _joined(content, content.columns, key, encode)]


def _joined(table: Any, columns: Collection[str], key: str, encode: Callable[[str], Tensor]) -> Tensor:
    """Return the texts of a table as one stream, an empty line between them."""
    return encode("\n\n".join(map(str, table[text_column(columns, key)])))


def _ids(file: Path, key: str) -> list[Tensor]:
    """Return the streams of a file of token ids."""
    try:
        found = _tensor(file)
    except Exception as error:  # of three readers
        raise PruningError(f"{key}: {str(file)!r} can't be read as token ids ({first_line(error)[:200]})") from None
    if found.is_floating_point() or found.dtype == torch.bool or found.dim() not in (1, 2) or not found.numel():
        raise PruningError(f"{key}: {str(file)!r} holds {found.dtype} {list(found.shape)}, allowed are whole numbers")
    if int(found.min()) < 0:
        raise PruningError(f"{key}: {str(file)!r} holds {int(found.min())}, allowed are token ids from 0 on")
    return list(found.long()) if found.dim() == 2 else [found.long()]


def _tensor(file: Path) -> Tensor:
    if file.suffix == ".npy":
        return torch.from_numpy(np.load(file, allow_pickle=False).astype(np.int64, casting="same_kind"))
    if file.suffix == ".pt":
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    else:
        from safetensors.torch import load_file

        content = load_file(file)
    if isinstance(content, Mapping):
        if len(content) != 1:
            raise ValueError(f"{len(content)} tensors, needed is one")
        content = next(iter(content.values()))
    if not isinstance(content, Tensor):
        raise ValueError(f"a {type(content).__name__}, needed is a tensor")
    return content


def _encoder(tokenizer: str | None) -> Callable[[str], Tensor]:
    """Return what makes a stream of a text; the tokenizer is read when it is first needed."""
    known: list[Any] = []

    def encode(text: str) -> Tensor:
        if tokenizer is None:
            raise PruningError("data.tokenizer: not given, and texts need one: a folder or a name on the hub")
        if not known:
            known.append(tokenizer_of(tokenizer))
        # marks of beginning and end belong to texts, of which windows are cut
        ids = known[0](text, add_special_tokens=False, verbose=False)["input_ids"]
        return torch.tensor(ids, dtype=torch.int64)

    return encode
