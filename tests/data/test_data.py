"""Data: splits, batches, augmentation, reading of folders, and what is said about broken ones."""

from __future__ import annotations

import io
import re
import socket
from collections import UserDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

from explorer import data
from explorer.data.encoded import EncodedSplit
from explorer.data.split import Data, Split, fingerprint, stratified
from explorer.runs.config import compose
from spaces.errors import PruningError

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10-jpeg"


def _split(n: int = 10, channels: int = 3, size: int = 8) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(n) % 3)


def _png(rng: np.random.Generator, size: tuple[int, int] = (8, 8), *, grey: bool = False) -> bytes:
    pixels = rng.integers(0, 256, size[::-1] if grey else (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def _parquet(path: Path, images: list[bytes], labels: list[int], *, image: str = "img", label: str = "label") -> None:
    import datasets

    features = datasets.Features({label: datasets.Value("int64"), image: datasets.Image()})
    entries = [{"bytes": content, "path": None} for content in images]
    datasets.Dataset.from_dict({label: labels, image: entries}, features=features).to_parquet(path)


def _folder(path: Path, *, train: int = 30, test: int = 6) -> Path:
    rng = np.random.default_rng(0)
    for name, n in (("train", train), ("test", test)):
        if n:
            _parquet(path / f"{name}-0.parquet", [_png(rng) for _ in range(n)], [i % 3 for i in range(n)])
    return path


def _splits(loaded: data.Data) -> list[Split]:
    return [loaded.train, loaded.validation, loaded.test]


# splits


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_stratified_is_a_proportional_partition(labels: list[int], drawn: st.DataObject) -> None:
    count = drawn.draw(st.integers(0, len(labels)))
    values = np.array(labels)
    rest, chosen = stratified(values, count, generator=np.random.default_rng(0))
    assert len(chosen) == count
    assert sorted([*rest, *chosen]) == list(range(len(labels)))
    for label in set(labels):
        share = count * (values == label).mean()
        assert abs((values[chosen] == label).sum() - share) <= 1


def test_digits_are_three_disjoint_stratified_splits() -> None:
    digits, again = data.load_digits(), data.load_digits()
    sizes = [len(split) for split in _splits(digits)]
    assert sizes == [1000, 397, 400]
    assert digits.shape == (1, 8, 8)
    assert digits.classes == 10
    assert digits.identity == again.identity
    assert torch.equal(digits.test.inputs, again.test.inputs)
    images = torch.cat([split.inputs for split in _splits(digits)])
    assert len(images.flatten(1).unique(dim=0)) == 1797
    assert digits.train.targets.bincount().min() >= 95
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(2), "a split has 3 inputs and 2 targets, needed is one target an input"),
        ({"a": torch.zeros(2, 2), "b": torch.zeros(3)}, torch.zeros(2), "a split has 2, 3 inputs and 2 targets"),
        ({}, torch.zeros(2), "a split has no inputs and 2 targets"),
        ([[0.0]], torch.zeros(1), r"a split holds a float, allowed are tensors \[n, \.\.\.\]"),
        (torch.zeros(2, 2), [0, 1], "a split holds a list, allowed are tensors"),
        (torch.zeros(2, 2), torch.tensor(1), "a split holds a Tensor, allowed are tensors"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(inputs: object, targets: object, message: str) -> None:
    with pytest.raises(PruningError, match=f"^data: {message}"):
        Split(inputs, targets)  # type: ignore[arg-type]


def test_data_are_three_splits_that_hold_something() -> None:
    def made(**parts: object) -> Data:
        given = dict.fromkeys(("train", "validation", "test"), _split(4)) | parts
        return Data(name="mine", **given, classes=3, mean=(), std=(), identity="")  # type: ignore[arg-type]

    assert len(made().train) == 4
    with pytest.raises(PruningError, match="data: test is empty"):
        made(test=_split(0))
    with pytest.raises(PruningError, match=r"data: validation is a list, allowed is an explorer\.data\.Split"):
        made(validation=[1])


def test_fingerprint_sees_labels_images_and_sizes() -> None:
    split = _split()
    other_labels = Split(split.inputs, split.targets.flip(0))
    other_images = Split(255 - split.inputs, split.targets)
    prints = [fingerprint(s) for s in (split, other_labels, other_images, split.subset(range(9)))]
    assert len(set(prints)) == 4
    assert fingerprint(_split()) == prints[0]


# batches


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_batches_are_normalised_in_order_every_time(kind: torch.dtype) -> None:
    split = _split()
    if kind == torch.float32:
        split = Split(split.inputs / 255, split.targets)
    kept = split.inputs.clone()
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    batches = data.Batches(split, 4, mean=mean, std=std)
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert len(batches) == 3
    scaled = split.inputs / (255 if kind == torch.uint8 else 1)
    expected = (scaled - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    for _ in range(2):
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        torch.testing.assert_close(x, expected)
        assert torch.equal(y, split.targets)
    assert torch.equal(split.inputs, kept)


def test_augmented_images_are_shifted_or_mirrored_originals() -> None:
    split = _split(40)
    generator = torch.Generator().manual_seed(1)
    batches = data.Batches(split, 40, mean=(0, 0, 0), std=(1, 1, 1), generator=generator, crop=2, flip=True)
    ((x, y),) = batches
    x = (x * 255).round().byte()
    padded = torch.nn.functional.pad(split.inputs, (2, 2, 2, 2))
    mirrored = 0
    for image, label in zip(x, y, strict=True):
        found = [
            (n, flip)
            for n in range(40)
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
            if torch.equal(image.flip(2) if flip else image, padded[n, :, top : top + 8, left : left + 8])
        ]
        assert len(found) == 1
        assert split.targets[found[0][0]] == label
        mirrored += found[0][1]
    assert 8 <= mirrored <= 32


def test_augmented_without_crop_and_flip_only_shuffles() -> None:
    split = _split()
    generator = torch.Generator().manual_seed(0)
    batches = data.Batches(split, 4, mean=(0, 0, 0), std=(1, 1, 1), generator=generator, crop=0, flip=False)
    assert len(batches) == len(list(batches)) == 2
    whole = data.Batches(split, 99, mean=(0, 0, 0), std=(1, 1, 1), generator=generator, crop=0, flip=False)
    (first,), (second,) = list(whole), list(whole)
    assert not torch.equal(first[0], second[0])
    originals = {image.numpy().tobytes() for image in split.inputs}
    assert {image.numpy().tobytes() for image in (first[0] * 255).round().byte()} == originals


def test_augmented_depends_on_its_generator_alone() -> None:
    split = _split()
    draws = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        torch.rand(3)
        batches = data.Batches(split, 8, mean=[0] * 3, std=[1] * 3, generator=generator, crop=4, flip=True)
        draws.append(next(iter(batches))[0])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (0.5,)}, "model.mean: 1 values for images of 3 channels"),
        ({"std": (1.0, 1.0)}, "model.std: 2 values for images of 3 channels"),
        ({"std": (1.0, 0.0, 1.0)}, "model.std: [1.0, 0.0, 1.0] must be above 0"),
        ({"batch_size": 0}, "batch_size: 0 must be at least 1"),
    ],
)
def test_batches_check_their_options(change: dict[str, object], message: str) -> None:
    options = {"batch_size": 4, "mean": (0.5,) * 3, "std": (1.0,) * 3} | change
    with pytest.raises(PruningError, match=re.escape(message)):
        data.Batches(_split(), **options)  # type: ignore[arg-type]


def test_only_images_are_normalised() -> None:
    # as many features as values: they would be taken for channels, and broadcast to [3, n, 3]
    rows = Split(torch.randn(8, 3), torch.zeros(8))
    assert next(iter(data.Batches(rows, 4, mean=(), std=())))[0].shape == (4, 3)
    with pytest.raises(PruningError, match=r"model.mean: \[0.5, 0.5, 0.5\], allowed is null for inputs \[3\]"):
        data.Batches(rows, 4, mean=[0.5] * 3, std=[1.0] * 3)


# a user's own loaders


def test_draw_keeps_the_first_batches() -> None:
    split = _split()
    loader = DataLoader(list(zip(split.inputs.float(), split.targets.int(), strict=True)), batch_size=4)
    drawn = data.draw(loader, 2)
    assert [len(y) for _, y in drawn] == [4, 4]
    assert drawn[0][1].dtype == torch.int64
    assert len(data.draw(loader)) == len(data.draw(loader, 9)) == 3


@pytest.mark.parametrize(
    ("batch", "inputs"),
    [
        ({"a": torch.ones(2, 3), "b": None, "labels": torch.zeros(2)}, {"a": torch.ones(2, 3), "b": None}),
        (UserDict(a=torch.ones(2, 3), label=torch.zeros(2)), {"a": torch.ones(2, 3)}),
        ([[torch.ones(2, 3), torch.ones(2)], torch.zeros(2)], (torch.ones(2, 3), torch.ones(2))),
        ((torch.ones(2, 3), torch.ones(2), torch.zeros(2)), (torch.ones(2, 3), torch.ones(2))),
        (({"a": torch.ones(2, 3)}, torch.zeros(2)), {"a": torch.ones(2, 3)}),
    ],
)
def test_draw_understands_structures(batch: object, inputs: object) -> None:
    ((drawn, targets),) = data.draw([batch])
    torch.testing.assert_close(drawn, inputs, check_device=False)
    assert targets.tolist() == [0, 0]
    assert data.size_of(drawn) == 2
    assert data.size_of(data.head(drawn, 1)) == 1


class _Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(2), 1)] * 4)


def test_draw_reads_a_loader_without_length() -> None:
    assert len(data.draw(DataLoader(_Stream(), batch_size=2))) == 2


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (iter([]), "train_loader: an iterator (list_iterator) can be read only once"),
        ((x for x in [1]), "train_loader: an iterator (generator) can be read only once"),
        ([], "train_loader: yields no batch"),
        ([{"image": 1}], "train_loader: yields a mapping of image, needed is one of labels"),
        ([torch.zeros(2, 3)], "train_loader: yields Tensor, not pairs (inputs, targets)"),
        ([(torch.zeros(2, 3), [0, 1])], "inputs [2, 3] and targets none"),
        ([(torch.zeros(2, 3), torch.zeros(3))], "inputs [2, 3] and targets [3]"),
        ([(torch.zeros(2, 3), torch.zeros(3, 3), torch.zeros(2))], "inputs [2, 3], [3, 3] and targets [2]"),
        ([({"ids": torch.zeros(0, 3)}, torch.zeros(0))], "inputs [0, 3] and targets [0]"),
    ],
)
def test_draw_refuses(loader, message: str) -> None:
    with pytest.raises(PruningError, match=re.escape(message)):
        data.draw(loader, 2, key="train_loader")


# folders


def test_images_decoded_while_evaluating_can_be_trained_on(tmp_path: Path) -> None:
    split = data.load_images(path=_folder(tmp_path), validation=3).train
    with torch.inference_mode():
        images = split.inputs
    (images * torch.ones(1, requires_grad=True)).sum().backward()


def test_parquet_folder_is_read_lazily_and_exactly(tmp_path: Path) -> None:
    _folder(tmp_path)
    rng = np.random.default_rng(0)
    pixels = [np.asarray(Image.open(io.BytesIO(_png(rng)))).transpose(2, 0, 1) for _ in range(36)]
    loaded = data.load_images(path=tmp_path, validation=6)
    assert [len(s) for s in _splits(loaded)] == [24, 6, 6]
    assert (loaded.shape, loaded.classes, loaded.notes) == ((3, 8, 8), 3, ())
    assert loaded.validation.targets.bincount().tolist() == [2, 2, 2]
    assert isinstance(loaded.train, EncodedSplit)
    part = loaded.train.subset([3, 1])
    assert "images" not in vars(loaded.train)
    assert torch.equal(part.inputs, loaded.train.inputs[[3, 1]])
    assert torch.equal(loaded.train.subset(torch.tensor([3, 1])).inputs, part.inputs)
    assert np.array_equal(loaded.test.inputs.numpy(), np.stack(pixels[30:]))
    seen = {image.numpy().tobytes() for s in (loaded.train, loaded.validation) for image in s.inputs}
    assert seen == {image.tobytes() for image in pixels[:30]}


def test_identity_follows_content_and_carving(tmp_path: Path) -> None:
    _folder(tmp_path)
    identity = data.load_images(path=tmp_path).identity
    assert identity == data.load_images(path=tmp_path).identity
    assert identity != data.load_images(path=tmp_path, validation=7).identity
    assert identity != data.load_images(path=tmp_path, size=6).identity


def test_missing_test_split_is_carved_and_said(tmp_path: Path) -> None:
    loaded = data.load_images(path=_folder(tmp_path, test=0), validation=0.2)
    assert [len(s) for s in _splits(loaded)] == [18, 6, 6]
    assert "carved out of train" in loaded.notes[0]
    rows = [s.rows.tolist() for s in _splits(loaded)]  # type: ignore[attr-defined]
    assert sorted(row for part in rows for row in part) == list(range(30))


def test_a_validation_split_of_its_own_is_kept_or_becomes_the_test(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    _folder(tmp_path)
    _parquet(tmp_path / "validation-0.parquet", [_png(rng) for _ in range(4)], [0, 0, 1, 2])
    loaded = data.load_images(path=tmp_path)
    assert [len(s) for s in _splits(loaded)] == [30, 4, 6]
    assert loaded.notes == ()
    _parquet(tmp_path / "test-0.parquet", [_png(rng) for _ in range(5)], [-1] * 5)
    loaded = data.load_images(path=tmp_path)
    assert [len(s) for s in _splits(loaded)] == [27, 3, 4]
    assert loaded.notes[0] == "the test split has no labels and is not used"
    assert "validation is used as test" in loaded.notes[1]


def _image_folder(path: Path, *, odd: tuple[int, int] = (8, 8)) -> Path:
    rng = np.random.default_rng(0)
    for split, n in (("train", 10), ("test", 2)):
        for name in ("cat", "dog"):
            (path / split / name).mkdir(parents=True)
            for i in range(n):
                size = odd if (split, name, i) == ("train", "dog", 3) else (8, 8)
                (path / split / name / f"{i}.png").write_bytes(_png(rng, size, grey=True))
    return path


def test_image_folder(tmp_path: Path) -> None:
    loaded = data.load_images(path=_image_folder(tmp_path), validation=4)
    assert (loaded.shape, loaded.classes, len(loaded.train)) == ((1, 8, 8), 2, 16)
    assert loaded.test.targets.tolist() == [0, 0, 1, 1]


def test_images_of_different_sizes_need_a_size(tmp_path: Path) -> None:
    _image_folder(tmp_path, odd=(12, 10))
    with pytest.raises(PruningError, match=r"data\.size: images have different sizes"):
        data.load_images(path=tmp_path)
    loaded = data.load_images(path=tmp_path, size=6)
    assert loaded.train.inputs.shape[1:] == (1, 6, 6)


def test_nothing_local_goes_to_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(data.load_images(path=_folder(tmp_path), validation=3).train.inputs) == 27


def _decode_everything(path: Path) -> list[torch.Tensor]:
    return [split.inputs for split in _splits(data.load_images(path=path))]


def _truncate(path: Path) -> None:
    (path / "train-0.parquet").write_bytes((path / "train-0.parquet").read_bytes()[:500])


def _zero_the_middle(path: Path) -> None:
    content = bytearray((path / "train-0.parquet").read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    (path / "train-0.parquet").write_bytes(content)


def _no_labels(path: Path) -> None:
    _parquet(path / "train-0.parquet", [_png(np.random.default_rng(0))], [1], label="weight")


def _unlabelled(path: Path) -> None:
    _parquet(path / "train-0.parquet", [_png(np.random.default_rng(0))], [-1])


def _broken_image(path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [_png(rng) for _ in range(29)]
    _parquet(path / "train-0.parquet", [*images, images[0][:60]], [0] * 30)


def _not_an_image(path: Path) -> None:
    _parquet(path / "train-0.parquet", [b"hello"] * 30, [0] * 30)


def _csv(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()
    (path / "train.csv").write_text("a,b\n1,2\n")


def _empty(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "can't be read"),
        (_zero_the_middle, "can't be read"),
        (_no_labels, "no column of labels; the columns are weight, img"),
        (_unlabelled, "rows without a label"),
        (_broken_image, "image 29 can't be decoded"),
        (_not_an_image, "image 0 can't be opened"),
        (_csv, "no column of labels; the columns are a, b"),
        (_empty, "no parquet files or images"),
    ],
)
def test_broken_folders_are_one_line(tmp_path: Path, damage, message: str) -> None:
    damage(_folder(tmp_path, test=0))
    with pytest.raises(PruningError, match=message) as caught:
        _decode_everything(tmp_path)
    assert str(caught.value).startswith("data.path: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "data.path: give a folder"),
        ({"path": "/no/such/folder"}, "data.path: there is no folder '/no/such/folder'"),
        ({"path": "HERE", "validation": 30}, "data.validation: 30 is neither"),
        ({"path": "HERE", "validation": 0}, "data.validation: 0 is neither"),
        ({"path": "HERE", "validation": 2.5}, "data.validation: 2.5 is neither"),
        ({"path": "HERE", "size": 0}, "data.size: 0 is not"),
        ({"path": "HERE", "size": "big"}, "data.size: 'big' is not"),
        ({"path": "HERE", "validation": "many"}, "data.validation: 'many' is neither"),
        ({"path": "HERE", "validation": float("nan")}, "data.validation: nan is neither"),
        ({"path": "HERE", "size": 99, "max_gib": 1e-4}, "data.max_gib: the decoded images need"),
        ({"path": "HERE", "max_gib": 1e-6}, "data.max_gib: the files of"),
    ],
)
def test_bad_options_are_one_line(tmp_path: Path, options: dict[str, object], message: str) -> None:
    _folder(tmp_path)
    if options.get("path") == "HERE":
        options = {**options, "path": tmp_path}
    with pytest.raises(PruningError, match=re.escape(message)):
        data.load_images(**options)


def test_unknown_names() -> None:
    with pytest.raises(PruningError, match="data: 'cifar' is unknown, did you mean 'cifar10'"):
        compose(["data=cifar"])


def test_an_unreachable_hub_gets_one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    tries = []

    def fail(self: HfApi, name: str, **_: object) -> None:
        tries.append(name)
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(HfApi, "dataset_info", fail)
    with pytest.raises(PruningError, match=r"data: .*\(no route to host\); set data.path") as caught:
        data.load_cifar10()
    assert tries == ["uoft-cs/cifar10"]
    assert "\n" not in str(caught.value)


def test_another_set_is_not_taken_for_cifar10(tmp_path: Path) -> None:
    with pytest.raises(PruningError, match="are not CIFAR-10; use data=images"):
        data.load_cifar10(path=_folder(tmp_path), validation=3)


@pytest.mark.skipif(not CIFAR.is_dir(), reason="no shared data")
def test_cifar10_folder() -> None:
    cifar = data.load_cifar10(path=CIFAR)
    assert [len(s) for s in _splits(cifar)] == [45000, 5000, 10000]
    assert (cifar.shape, cifar.classes, cifar.crop, cifar.flip) == ((3, 32, 32), 10, 4, True)
    assert cifar.validation.targets.bincount().tolist() == [500] * 10
    first = cifar.train.subset(range(1000)).inputs.float() / 255
    assert torch.allclose(first.mean((0, 2, 3)), torch.tensor(cifar.mean), atol=0.02)
