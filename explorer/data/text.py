"""Any set of labelled texts that the `datasets` library reads, as token ids."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.data.parts import Part, read_parts
from explorer.data.split import Data, Split, fingerprint
from explorer.utils.gguf import gguf_options
from spaces.errors import PruningError, first_line

__all__ = ["load_text", "text_column", "tokenizer_of"]

_TEXT_NAMES = ("text", "sentence", "content", "review")


def load_text(
    path: str | Path | None = None,
    hub: str | None = None,
    *,
    tokenizer: str,
    length: int = 128,
    validation: float = 0.1,
    seed: int = 0,
) -> Data:
    """Return a set of labelled texts as what models of transformers take: ``input_ids`` and ``attention_mask``.

    Parameters
    ----------
    path
        A local folder of parquet, CSV or JSON files with a column of texts and one of labels. Nothing goes to the
        network.
    hub
        Without a path: a data set of the hub, such as ``stanfordnlp/imdb``.
    tokenizer
        A folder with a tokenizer's files, a GGUF file, or a name on the hub.
    length
        Tokens a text; longer ones are cut, shorter ones padded.
    validation, seed
        As in `load_images`.

    Raises
    ------
    PruningError
        One line starting with ``data``, ``data.path``, ``data.tokenizer``, ``data.length`` or ``data.validation``.
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise PruningError(f"data.length: {length!r}, allowed is a whole number >= 1")
    encode = tokenizer_of(tokenizer)
    found = read_parts(path, hub, validation=validation, max_gib=8.0, seed=seed)
    train, validated, test = (
        Split(_tokens(part, encode, length, found.key), torch.from_numpy(part.labels)) for part in found.parts
    )
    return Data(
        name=found.name,
        train=train,
        validation=validated,
        test=test,
        classes=found.classes,
        mean=(),
        std=(),
        identity=fingerprint(train, validated, test),
        crop=0,
        flip=False,
        notes=found.notes,
    )


def tokenizer_of(name: str) -> Any:
    """Return the tokenizer of a folder, of a GGUF file or of a name on the hub.

    Raises
    ------
    PruningError
        ``data.tokenizer: ...`` if there is none, or transformers is missing.
    """
    try:
        library = importlib.import_module("transformers")
    except ImportError:
        raise PruningError("data: texts need transformers, pip install transformers") from None
    place, options = gguf_options(name, "data.tokenizer")
    folder = Path(place).expanduser()
    if not folder.is_dir() and "/" not in name:
        raise PruningError(f"data.tokenizer: {name!r} is neither a folder that is there nor a name on the hub")
    local = folder.is_dir()
    try:
        return library.AutoTokenizer.from_pretrained(str(folder) if local else place, local_files_only=local, **options)
    except Exception as error:  # of several libraries
        line = first_line(error)[:200]
        raise PruningError(f"data.tokenizer: {name!r} can't be read ({type(error).__name__}: {line})") from None


def text_column(features: Collection[str], key: str) -> str:
    """Return which column of a data set holds texts.

    Raises
    ------
    PruningError
        If none is called as such columns are; the message starts with the key.
    """
    column = next((name for name in _TEXT_NAMES if name in features), None)
    if column is None:
        columns = ", ".join(features)
        raise PruningError(f"{key}: no column of texts ({', '.join(_TEXT_NAMES)}); the columns are {columns}")
    return column


def _tokens(part: Part, encode: Any, length: int, key: str) -> Mapping[str, Tensor]:
    texts = part.dataset.select(part.rows)[text_column(part.dataset.features, key)]
    tokens = encode(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
