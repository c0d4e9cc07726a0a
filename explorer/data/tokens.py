"""Tokens for language models: windows of one length, cut out of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.data.corpus import Corpus, read_corpus
from explorer.data.split import Data, Split, fingerprint
from explorer.utils.checks import checked_number
from spaces.errors import PruningError

__all__ = ["IGNORED", "load_tokens"]

IGNORED = -100
"""The target of a token that is read and not predicted."""

_SPLIT_SEED = 0
# windows that overlap are cut together, so that those of two splits share no token
_TOGETHER = 8


def load_tokens(
    path: str | Path | None = None,
    hub: str | None = None,
    *,
    tokenizer: str | None = None,
    test_path: str | Path | None = None,
    length: int = 256,
    stride: int | None = None,
    train: int | None = None,
    validation: float = 0.1,
    test: int | None = None,
    seed: int = 0,
) -> Data:
    """Return texts as sequences of token ids, as causal language models take them: ``input_ids``.

    Targets are the same ids, which the task shifts; of windows that overlap those before the last `stride` are
    `IGNORED`. No token is in two of the splits.

    Parameters
    ----------
    path, hub, tokenizer
        As `explorer.data.corpus.read_corpus` takes them.
    test_path
        Text of test where it lies elsewhere: a file or folder.
    length
        Tokens a sequence.
    stride
        From the begin of a sequence to that of the next: below `length` they overlap, and the last `stride` tokens of
        each are predicted. None for `length`.
    train, test
        Sequences at most; None for all. Those of train are drawn, those of a test text are its first.
    validation
        Sequences to carve out of train where there is no validation text beside it: a count, or a share below 1.
        Test is carved equally where there is no text for it.
    seed
        Which sequences validation is made of; test is the same for all seeds.

    Raises
    ------
    PruningError
        One line that starts with ``data`` or the key of an argument, such as ``data.length``.
    """
    checked_number("data.length", length, least=2)
    checked_number("data.stride", stride, least=1, optional=True)
    for key, value in {"train": train, "test": test}.items():
        checked_number(f"data.{key}", value, least=1, optional=True)
    checked_number("data.seed", seed, least=0)
    found = dict(read_corpus(path, hub, tokenizer, key="data.path", without=test_path))
    if test_path is not None:
        if path is not None and Path(path).expanduser().resolve() == Path(test_path).expanduser().resolve():
            raise PruningError(f"data.test_path: {str(test_path)!r} is data.path too, needed is another text")
        other = found.pop("test", [])
        found = found or {"train": other}
        apart = read_corpus(test_path, None, tokenizer, key="data.test_path")
        found["test"] = [stream for streams in apart.values() for stream in streams]
    cut = _Cut(length, length if stride is None else stride)
    parts, notes = _parts(found, cut, validation=validation, seed=seed)
    limits = (train, None, test)
    splits = [cut.split(windows[:limit]) for windows, limit in zip(parts, limits, strict=True)]
    return Data(
        name=str(hub) if path is None else Path(path).stem,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        classes=None,
        mean=(),
        std=(),
        identity=fingerprint(*splits),
        notes=notes,
    )


class _Cut:
    """Cuts streams of tokens into windows."""

    def __init__(self, length: int, stride: int) -> None:
        self.length, self.stride = length, stride

    def windows(self, streams: Sequence[Tensor], key: str) -> Tensor:
        """Return all windows in order, [n, length]."""
        return self.stretches(streams, 1, self.stride, key).flatten(0, 1)

    def apart(self, streams: Sequence[Tensor], key: str) -> Tensor:
        """Return stretches that share no token, each of windows that may: [n, windows, length]."""
        together = 1 if self.stride >= self.length else _TOGETHER
        return self.stretches(streams, together, max(self.stride, self._span(together)), key)

    def stretches(self, streams: Sequence[Tensor], together: int, step: int, key: str) -> Tensor:
        """Return stretches of so many windows that begin every `step` tokens."""
        span = self._span(together)
        found = [
            stream.unfold(0, span, step).unfold(1, self.length, self.stride)
            for stream in streams
            if len(stream) >= span
        ]
        if not found:
            longest = max((len(stream) for stream in streams), default=0)
            raise PruningError(
                f"{key}: its longest text has {longest:,} tokens, needed are {span:,} at data.length={self.length}"
            )
        return torch.cat(found)

    def split(self, windows: Tensor) -> Split:
        """Return windows with their targets."""
        targets = windows.clone()
        targets[:, : max(0, self.length - self.stride)] = IGNORED
        return Split({"input_ids": windows.contiguous()}, targets)

    def _span(self, together: int) -> int:
        return (together - 1) * self.stride + self.length


def _parts(corpus: Corpus, cut: _Cut, *, validation: Any, seed: int) -> tuple[list[Tensor], tuple[str, ...]]:
    """Return the windows of train, validation and test, the first two shuffled, and what was not as expected."""
    notes = []
    # without a text named so, what there is is trained on
    source = next(name for name in ("train", "validation", "test") if name in corpus)
    if source != "train":
        notes.append(f"there is no text of train: that of {source} is used")
    # the fixed seed first: test and the order of train do not move with the seed
    fixed = torch.Generator().manual_seed(_SPLIT_SEED)
    own = {
        name: cut.windows(corpus[name], key)
        for name, key in (("validation", "data.path"), ("test", "data.test_path"))
        if name in corpus and name != source
    }
    if "validation" in own:
        own["validation"] = own["validation"][torch.randperm(len(own["validation"]), generator=fixed)]
    if len(own) == 2:
        windows = cut.windows(corpus[source], "data.path")
        return [windows[torch.randperm(len(windows), generator=fixed)], own["validation"], own["test"]], tuple(notes)
    rest = cut.apart(corpus[source], "data.path")
    rest = rest[torch.randperm(len(rest), generator=fixed)]
    total, carved = len(rest), {}
    drawn = {"test": fixed, "validation": torch.Generator().manual_seed(seed)}
    for name, generator in drawn.items():
        if name in own:
            continue
        count = _count(validation, total * rest.shape[1])
        chosen = math.ceil(count / rest.shape[1])
        if chosen >= len(rest):
            raise PruningError(
                f"data.path: its text of {source} makes {total * rest.shape[1]} sequences of {cut.length} tokens, too "
                f"few for data.validation={validation} and others to train on"
            )
        order = torch.randperm(len(rest), generator=generator)
        carved[name], rest = rest[order[:chosen]].flatten(0, 1)[:count], rest[order[chosen:]]
        if name == "test":
            notes.append(f"there is no text of test: {count} sequences of {source} are used as test")
    order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    return [rest[order].flatten(0, 1), *((own | carved)[name] for name in ("validation", "test"))], tuple(notes)


def _count(validation: Any, total: int) -> int:
    """Return how many sequences of `total` to carve out."""
    number = isinstance(validation, int | float) and not isinstance(validation, bool)
    if not number or validation <= 0 or (validation >= 1 and validation != int(validation)):
        raise PruningError(f"data.validation: {validation!r}, allowed is a share below 1 or a count of sequences")
    return int(validation) if validation >= 1 else max(1, math.floor(validation * total + 0.5))
