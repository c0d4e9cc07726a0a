"""The task of segmentation: mean IoU against a count of all pixels, its standard error, bad input."""

from __future__ import annotations

import logging
import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.data import Data, Split
from explorer.data.racing import Race
from explorer.data.segmentation import MeanIoU, segmentation
from explorer.evaluation.training.distillation import distance
from explorer.runs.config import Target
from explorer.runs.setup import load_task
from spaces import PruningError

CLASSES = 4
# of batches, which a mean over pixels does not ask for
WEIGHTS = torch.ones(1)


class Given(nn.Module):
    """Returns its input as logits, as torchvision's models do."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": x, "aux": x}


def made(count: int = 10, size: int = 6, seed: int = 0, missing: int | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (count, size, size), generator=generator)
    if missing is not None:
        targets[targets == missing] = 0
    logits = F.one_hot(targets, CLASSES).permute(0, 3, 1, 2) + 0.8 * torch.randn(
        count, CLASSES, size, size, generator=generator
    )
    targets[torch.rand(targets.shape, generator=generator) < 0.2] = 255
    return logits, targets


def counted(logits: Tensor, targets: Tensor) -> float:
    """Return the mean IoU by sets of pixels."""
    kept = targets != 255
    predicted, labels = logits.argmax(1)[kept], targets[kept]
    ratios = [
        int(((predicted == c) & (labels == c)).sum()) / int(((predicted == c) | (labels == c)).sum())
        for c in range(CLASSES)
        if (labels == c).any()
    ]
    return sum(ratios) / len(ratios)


@pytest.mark.parametrize("missing", [None, 2])
@pytest.mark.parametrize("size", [1, 3, 10])
def test_mean_iou_is_that_of_all_pixels_together(size: int, missing: int | None) -> None:
    logits, targets = made(missing=missing)
    targets[4] = 255
    batches = list(zip(logits.split(size), targets.split(size), strict=True))
    found = segmentation(CLASSES).evaluate(Given(), batches)
    assert found.error == pytest.approx(1 - counted(logits, targets), abs=1e-12)
    whole = segmentation(CLASSES).evaluate(Given(), [(logits, targets)])
    assert (found.error, found.error_se) == pytest.approx((whole.error, whole.error_se), abs=1e-12)


def test_mean_iou_by_hand() -> None:
    targets = torch.tensor([[[0, 0, 1, 255]]])
    logits = F.one_hot(torch.tensor([[[0, 1, 1, 2]]]), CLASSES).permute(0, 3, 1, 2).float()
    metric = MeanIoU()
    metric.add(logits, targets)
    # class 0: 1 of 2, class 1: 1 of 2; class 2 is predicted where nothing counts, class 3 nowhere
    value, error_se = metric.mean(WEIGHTS)
    assert value == 0.5
    assert math.isnan(error_se)
    metric = MeanIoU()
    metric.add(logits, torch.full_like(targets, 255))
    assert math.isnan(metric.mean(WEIGHTS)[0])


def test_a_class_that_is_only_predicted_is_left_out_but_costs_the_true_one() -> None:
    metric = MeanIoU()
    metric.add(F.one_hot(torch.tensor([[[0, 3]]]), CLASSES).permute(0, 3, 1, 2), torch.zeros(1, 1, 2).long())
    assert metric.mean(WEIGHTS)[0] == 0.5


def test_the_loss_is_that_of_pixels_that_count() -> None:
    logits, targets = made()
    task = segmentation(CLASSES)
    assert float(task.loss(logits, targets)) == pytest.approx(float(F.cross_entropy(logits, targets, ignore_index=255)))
    assert float(task.loss(logits, torch.full_like(targets, 255))) == 0


def test_pixel_accuracy_is_of_all_pixels_together() -> None:
    logits, targets = made()
    targets[0] = 255
    found = segmentation(CLASSES, "accuracy").evaluate(Given(), [(logits[:3], targets[:3]), (logits[3:], targets[3:])])
    kept = targets != 255
    assert found.error == pytest.approx(1 - float((logits.argmax(1) == targets)[kept].float().mean()), abs=1e-6)


def test_logits_of_a_lower_resolution_are_interpolated() -> None:
    logits, targets = made(size=4)[0], made(size=13)[1]
    whole = F.interpolate(logits, (13, 13), mode="bilinear", align_corners=False)
    task = segmentation(CLASSES)
    assert task.evaluate(Given(), [(logits, targets)]).error == task.evaluate(Given(), [(whole, targets)]).error
    assert torch.equal(task.loss(logits, targets), task.loss(whole, targets))


def test_the_trivial_predictor_gives_the_most_frequent_class() -> None:
    logits, targets = made(40)
    targets[targets == 1] = 3
    task = segmentation(CLASSES).referred(Given(), [(logits[:20], targets[:20])], [(logits[20:], targets[20:])])
    constant = torch.zeros_like(logits)
    constant[:, 3] = 1
    assert task.trivial == pytest.approx(1 - counted(constant[20:], targets[20:]), abs=1e-12)
    assert task.trivial_loss is not None
    assert task.label == "1 - mean IoU (%)"


def test_students_are_compared_by_the_classes_of_pixels() -> None:
    one, other = made()[0], made(seed=1)[0]
    found = distance(segmentation(CLASSES), one, other, temperature=1)
    pixels = [part.permute(0, 2, 3, 1).reshape(-1, CLASSES).log_softmax(1) for part in (one, other)]
    assert float(found) == pytest.approx(float(F.kl_div(*pixels, reduction="batchmean", log_target=True)), rel=1e-5)


def test_another_process_gets_the_task() -> None:
    logits, targets = made()
    again = pickle.loads(pickle.dumps(segmentation(CLASSES)))
    assert again.evaluate(Given(), [(logits, targets)]) == segmentation(CLASSES).evaluate(Given(), [(logits, targets)])


def test_intervals_of_the_standard_error_hold_the_mean_iou_of_many_images() -> None:
    generator = torch.Generator().manual_seed(0)
    count = 6000
    # images differ in how hard they are, and in which classes they show: pixels are not independent
    frequent = torch.rand(count, CLASSES, generator=generator) ** 2
    targets = torch.multinomial(frequent, 16, replacement=True, generator=generator).view(count, 4, 4)
    right = torch.rand(count, 4, 4, generator=generator) < torch.rand(count, 1, 1, generator=generator)
    predicted = torch.where(right, targets, torch.randint(CLASSES, targets.shape, generator=generator))
    logits = F.one_hot(predicted, CLASSES).permute(0, 3, 1, 2).float()

    def found(rows: Any) -> tuple[float, float]:
        metric = MeanIoU()
        metric.add(logits[rows], targets[rows])
        return metric.mean(WEIGHTS)

    truth = found(slice(None))[0]
    drawn = [found(torch.randint(count, (60,), generator=generator)) for _ in range(600)]
    inside = sum(abs(value - truth) < 1.96 * error_se for value, error_se in drawn) / len(drawn)
    # 95 % but for chance of 600 samples: four standard errors are 3.6 points
    assert 0.914 < inside < 0.986


BAD = {
    "a smaller size": (torch.zeros(2, 5, 7).long(), "targets [2, 5, 7]"),
    "a shorter batch": (torch.zeros(1, 6, 6).long(), "logits are [2, 4, 6, 6]"),
    "one number an image": (torch.zeros(2).long(), "targets [2]"),
    "floats": (torch.zeros(2, 6, 6), "torch.float32"),
    "a class too many": (torch.full((2, 6, 6), 4), "4"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_targets_are_told_in_one_line(name: str) -> None:
    targets, said = BAD[name]
    with pytest.raises(PruningError) as caught:
        segmentation(CLASSES).check(Given(), (made(2)[0], targets))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (torch.full((2, 3, 3), 255), "all pixels are ignored (255)"),
        (torch.zeros(2, 3, 3).long(), "all pixels are of class 0"),
        (torch.arange(9).view(1, 3, 3), "a label is 4, allowed are 0 to 3"),
        (torch.arange(9).view(1, 3, 3) - 6, "a label is -6"),
        (torch.zeros(2, 3, 3), "torch.float32"),
    ],
)
def test_validation_targets_that_tell_nothing_are_refused(targets: Tensor, said: str) -> None:
    with pytest.raises(PruningError, match=r"^[^\n]*$") as caught:
        segmentation(CLASSES).check_targets([(None, targets)])
    assert said in str(caught.value)


def test_classes_that_never_occur_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        segmentation(CLASSES).check_targets([(None, made(missing=2)[1])])
    assert "no pixel of validation is of class 2; the mean IoU is of the other 3" in caplog.text


def test_an_unknown_metric_is_told() -> None:
    with pytest.raises(PruningError, match=r"task\.metric"):
        segmentation(CLASSES, "dice")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"classes": 1}, "task.classes"),
        ({"ignore_label": "255"}, "task.ignore_label: '255'"),
        ({"ignore_label": 1.5}, "1.5"),
    ],
)
def test_numbers_that_are_none_are_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(PruningError, match=r"^[^\n]*$") as caught:
        segmentation(**{"classes": CLASSES, **given})
    assert said in str(caught.value)


def test_logits_of_fewer_classes_are_told() -> None:
    with pytest.raises(PruningError, match="needed are those of 9 classes"):
        segmentation(9).check(Given(), made(2))


def test_sides_that_pooling_rounded_are_interpolated() -> None:
    # 375 x 500 after two poolings, of which each drops the odd pixel
    targets = torch.zeros(1, 375, 500).long()
    targets[:, :, 250:] = 1
    segmentation(CLASSES).check(Given(), (torch.zeros(1, CLASSES, 93, 125), targets))


def test_a_race_waits_for_the_rarest_class() -> None:
    """A rare class that comes late may be what a network is good at: no candidate may end before it was seen."""
    logits, targets = made(200, missing=3)
    targets[-1, 0, 0] = 3
    logits[-1, :, 0, 0] = torch.tensor([0.0, 0.0, 0.0, 9.0])
    task = segmentation(CLASSES)
    batches = list(zip(logits.split(10), targets.split(10), strict=True))
    assert task.evaluate(Given(), batches, race=Race(bar=0.01, inputs=200)).n == 200
    common = [(x, torch.where(y == 3, 0, y)) for x, y in zip(*(part.split(10) for part in made(200)), strict=True)]
    assert segmentation(3).evaluate(Given(), [(x[:, :3], y) for x, y in common], race=Race(0.01, 200)).n < 200


def test_images_that_move_without_their_masks_are_refused() -> None:
    images, masks = torch.zeros(8, 1, 6, 6, dtype=torch.uint8), made(8)[1]
    parts = [Split(images, masks)] * 3
    data = Data("mine", *parts, classes=CLASSES, mean=(0.0,), std=(1.0,), identity="mine", flip=True)
    target = Target("segmentation", "explorer.data.segmentation.segmentation", {})
    with pytest.raises(PruningError, match="flip=True"):
        load_task(target, data)
    assert load_task(target, replace(data, flip=False)).name == "mean IoU"
