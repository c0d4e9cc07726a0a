"""Texts as token ids: which windows are cut, that splits share no token, and mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.data import Data, load_tokens
from explorer.data.tokens import IGNORED
from spaces import PruningError
from tests.support.language import text, tokenizer


def _ids(folder: Path, count: int, name: str = "ids.npy", begin: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    # every token tells its place
    np.save(folder / name, np.arange(begin, begin + count))
    return folder / name


def _rows(loaded: Data) -> list[torch.Tensor]:
    return [split.inputs["input_ids"] for split in (loaded.train, loaded.validation, loaded.test)]


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(2, 12),
    stride=st.integers(1, 16),
    seed=st.integers(0, 5),
    validation=st.sampled_from([0.1, 0.3, 3]),
)
def test_windows_are_cut_and_no_token_is_in_two_splits(
    length: int, stride: int, seed: int, validation: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = _ids(tmp_path_factory.mktemp("ids"), 3000)
    loaded = load_tokens(path, length=length, stride=stride, validation=validation, seed=seed)
    rows = _rows(loaded)
    for split, ids in zip((loaded.train, loaded.validation, loaded.test), rows, strict=True):
        assert (ids.diff(dim=1) == 1).all()
        assert len({tuple(row) for row in ids.tolist()}) == len(ids)
        read = max(0, length - stride)
        assert (split.targets[:, :read] == IGNORED).all()
        assert torch.equal(split.targets[:, read:], ids[:, read:])
    tokens = [set(ids.flatten().tolist()) for ids in rows]
    assert not tokens[0] & tokens[1]
    assert not tokens[0] & tokens[2]
    assert not tokens[1] & tokens[2]
    if validation >= 1:
        assert len(rows[1]) == len(rows[2]) == validation


def test_the_seed_moves_validation_and_not_test(tmp_path: Path) -> None:
    path = _ids(tmp_path, 400)
    one, same, other = (_rows(load_tokens(path, length=8, seed=seed)) for seed in (0, 0, 1))
    assert all(map(torch.equal, one, same))
    assert torch.equal(one[2], other[2])
    assert not torch.equal(one[1], other[1])


def test_texts_named_by_split_are_that_split(tmp_path: Path) -> None:
    for begin, name in enumerate(("train-0.npy", "train-1.npy", "valid.npy", "test.npy")):
        _ids(tmp_path, 100, name, 1000 * begin)
    train, validation, test = _rows(load_tokens(tmp_path, length=10, train=7, test=4))
    assert train.shape == (7, 10)
    assert set(train.flatten().tolist()) <= {*range(100), *range(1000, 1100)}
    assert sorted(validation.flatten().tolist()) == list(range(2000, 2100))
    # its first sequences, in order
    assert test.flatten().tolist() == list(range(3000, 3040))


def test_a_test_text_of_its_own_and_validation_text_to_train_on(tmp_path: Path) -> None:
    _ids(tmp_path, 100, "valid.npy")
    _ids(tmp_path, 50, "test.npy", 1000)
    loaded = load_tokens(tmp_path, length=10, validation=2)
    assert [len(ids) for ids in _rows(loaded)] == [8, 2, 5]
    assert loaded.notes == ("there is no text of train: that of validation is used",)
    apart = _ids(tmp_path / "apart", 20, "more.npy", 5000)
    assert _rows(load_tokens(tmp_path, test_path=apart, length=10, validation=2))[2].min() == 5000
    # a file of the folder itself is left out of it
    again = load_tokens(tmp_path, test_path=tmp_path / "test.npy", length=10, validation=2)
    assert again.test.inputs["input_ids"].flatten().tolist() == list(range(1000, 1050))
    with pytest.raises(PruningError, match=r"data\.test_path: .* is data\.path too"):
        load_tokens(apart, test_path=apart, length=4)


@pytest.mark.parametrize("kind", ["txt", "parquet", "csv", "jsonl"])
def test_texts_are_the_tokenizers_ids_with_an_empty_line_between_rows(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("transformers")
    words = tokenizer(tmp_path / "tokenizer")
    rows, path = [text(120, seed) for seed in range(3)], tmp_path / f"texts.{kind}"
    table = pd.DataFrame({"text": rows})
    write = {
        "txt": lambda: path.write_text("\n\n".join(rows)),
        "parquet": lambda: table.to_parquet(path),
        "csv": lambda: table.to_csv(path, index=False),
        "jsonl": lambda: table.to_json(path, orient="records", lines=True),
    }
    write[kind]()
    loaded = load_tokens(path, tokenizer=str(words), length=12, validation=5)
    found = torch.cat([ids.flatten() for ids in _rows(loaded)]).sort().values
    expected = torch.tensor([int(word[1:]) for word in " ".join(rows).split()]).sort().values
    assert torch.equal(found, expected)
    assert loaded.classes is None
    assert loaded.shape == (12,)


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_token_ids_of_other_files(tmp_path: Path, kind: str) -> None:
    from safetensors.torch import save_file

    path, ids = tmp_path / f"ids.{kind}", torch.arange(120, dtype=torch.int32).view(10, 12)
    torch.save(ids, path) if kind == "pt" else save_file({"ids": ids}, path)
    # no window reaches from one sequence into the next
    loaded = load_tokens(path, length=5, validation=2)
    assert all(not set(range(0, 120, 12)) & set(ids[:, 1:].flatten().tolist()) for ids in _rows(loaded))
    assert sum(map(len, _rows(loaded))) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1}, r"data\.length: 1, allowed is a whole number >= 2"),
        ({"stride": 0}, r"data\.stride: 0"),
        ({"train": 0}, r"data\.train: 0"),
        ({"test": 1.5}, r"data\.test: 1\.5"),
        ({"validation": 1.5}, r"data\.validation: 1\.5, allowed is a share"),
        ({"validation": 20}, r"data\.path: its text of train makes 20 sequences of 10 tokens, too few"),
        ({"length": 500}, r"data\.path: its longest text has 200 tokens, needed are 500 at data\.length=500"),
        ({"test_path": "nowhere"}, r"data\.test_path: there is no file or folder 'nowhere'"),
        ({"path": "nowhere"}, r"data\.path: there is no file or folder 'nowhere'"),
        ({"path": None}, r"data\.path: give a file or folder"),
    ],
)
def test_bad_options_are_one_line(tmp_path: Path, options: dict[str, object], message: str) -> None:
    given = {"path": _ids(tmp_path, 200), "length": 10} | options
    with pytest.raises(PruningError, match=message) as caught:
        load_tokens(**given)
    assert "\n" not in str(caught.value)


def _floats(path: Path) -> str:
    np.save(path / "ids.npy", np.zeros(50))
    return "can't be read as token ids"


def _negative(path: Path) -> str:
    np.save(path / "ids.npy", np.full(50, -1))
    return "holds -1, allowed are token ids from 0 on"


def _not_numpy(path: Path) -> str:
    (path / "ids.npy").write_bytes(b"no")
    return "can't be read as token ids"


def _two_tensors(path: Path) -> str:
    torch.save({"a": torch.zeros(9).long(), "b": torch.zeros(9).long()}, path / "ids.pt")
    return "2 tensors, needed is one"


def _no_text(path: Path) -> str:
    (path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    return "can't be read as text"


def _no_column(path: Path) -> str:
    (path / "a.csv").write_text("x,y\n1,2\n")
    return "no column of texts"


def _nothing(path: Path) -> str:
    (path / "a.md").write_text("a")
    return "no files in"


def _no_tokenizer(path: Path) -> str:
    (path / "a.txt").write_text("a b c")
    return "data.tokenizer: not given"


@pytest.mark.parametrize(
    "damage",
    [_floats, _negative, _not_numpy, _two_tensors, _no_text, _no_column, _nothing, _no_tokenizer],
)
def test_broken_files_are_one_line(tmp_path: Path, damage) -> None:
    message = damage(tmp_path)
    with pytest.raises(PruningError, match=message) as caught:
        load_tokens(tmp_path, length=4)
    assert str(caught.value).startswith("data.")
    assert "\n" not in str(caught.value)
