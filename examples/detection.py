"""A detector with a feature pyramid on shapes drawn by code: a task of one's own over maps of several levels."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import explorer

SIZE, KINDS, STRIDES = 32, 3, (4, 8)


def shapes(count, size=SIZE, seed=0):
    """Return noisy images [n, 1, size, size] of one shape, and kind, centre and radius [n, 4]."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    images = 0.2 * torch.randn(count, 1, size, size, generator=generator)
    targets = torch.zeros(count, 4)
    for image, target in zip(images, targets, strict=True):
        kind, radius = (int(torch.randint(*ends, (1,), generator=generator)) for ends in ((0, KINDS), (3, 10)))
        cy, cx = torch.randint(radius, size - radius, (2,), generator=generator)
        dy, dx = y - cy, x - cx
        square = (dy.abs() <= radius) & (dx.abs() <= radius)
        image[0] += (dy**2 + dx**2 <= radius**2, square, square & (2 * dx.abs() <= dy + radius))[kind]
        target[:] = torch.stack([torch.tensor(kind), cy, cx, torch.tensor(radius)])
    return TensorDataset(images, targets)


def stage(inputs, outputs, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())


class Detector(nn.Module):
    """Returns a class map and a box map of every level."""

    def __init__(self, width=12):
        super().__init__()
        self.stem = nn.Sequential(stage(1, width, 2), stage(width, 2 * width, 2))
        self.deep = nn.Sequential(stage(2 * width, 4 * width, 2), stage(4 * width, 4 * width))
        self.lateral = nn.ModuleList(nn.Conv2d(inputs, 2 * width, 1) for inputs in (2 * width, 4 * width))
        self.smooth = nn.ModuleList(stage(2 * width, 2 * width) for _ in STRIDES)
        # shared by the levels
        self.classes, self.boxes = nn.Conv2d(2 * width, KINDS + 1, 1), nn.Conv2d(2 * width, 3, 1)

    def forward(self, x):
        fine = self.stem(x)
        deep = self.lateral[1](self.deep(fine))
        fine = self.lateral[0](fine) + F.interpolate(deep, scale_factor=2.0)
        levels = [smooth(level) for smooth, level in zip(self.smooth, (fine, deep), strict=True)]
        return {"classes": [self.classes(level) for level in levels], "boxes": [self.boxes(level) for level in levels]}


def assigned(maps, targets):
    """Return of every level the class of each cell, where shapes are, and what their boxes should say."""
    found = []
    for level, (stride, logits) in enumerate(zip(STRIDES, maps["classes"], strict=True)):
        mine = ((targets[:, 3] > 6) == level).nonzero().flatten()
        row, column = (targets[mine, 1:3] / stride).long().unbind(1)
        classes = torch.full((len(targets), *logits.shape[2:]), KINDS, device=targets.device)
        classes[mine, row, column] = targets[mine, 0].long()
        boxes = torch.cat([targets[mine, 1:3] / stride - torch.stack([row, column], 1), targets[mine, 3:] / 8], 1)
        found.append((classes, (mine, row, column), boxes))
    return found


def loss(maps, targets):
    total = 0.0
    for logits, boxes, (classes, (image, row, column), wanted) in zip(
        maps["classes"], maps["boxes"], assigned(maps, targets), strict=True
    ):
        total = total + F.cross_entropy(logits, classes, reduction="sum") / len(targets)
        total = total + F.smooth_l1_loss(boxes[image, :, row, column], wanted, reduction="sum") / len(targets)
    return total


def boxes_of(maps):
    """Return for each image the kind, centre and radius of its surest cell, [n, 4]."""
    found = []
    for stride, logits, boxes in zip(STRIDES, maps["classes"], maps["boxes"], strict=True):
        sure, kind = logits.softmax(1)[:, :KINDS].max(1)
        place = sure.flatten(1).argmax(1)
        row, column = place // logits.size(3), place % logits.size(3)
        dy, dx, radius = boxes.flatten(2)[torch.arange(len(place)), :, place].unbind(1)
        kind, sure = (part.flatten(1).gather(1, place[:, None])[:, 0] for part in (kind, sure))
        found.append(torch.stack([sure, kind, (row + dy) * stride, (column + dx) * stride, radius * 8], 1))
    every = torch.stack(found, 1)
    return every[torch.arange(len(every)), every[:, :, 0].argmax(1), 1:]


def missed(maps, targets):
    """Return for each image 1 where the kind is wrong, or the boxes' intersection over union is below a half."""
    found = boxes_of(maps)
    corners = [(one[:, 1:3] - one[:, 3:], one[:, 1:3] + one[:, 3:]) for one in (found, targets)]
    (low, high), (wanted_low, wanted_high) = corners
    both = (torch.minimum(high, wanted_high) - torch.maximum(low, wanted_low)).clamp(min=0).prod(1)
    union = (high - low).clamp(min=0).prod(1) + (wanted_high - wanted_low).prod(1) - both
    return ((found[:, 0] != targets[:, 0]) | (both / union < 0.5)).float()


def task():
    # who is blind finds no shape, and gives every class the same score everywhere
    blind = {"classes": [torch.zeros(1, KINDS + 1, SIZE // s, SIZE // s) for s in STRIDES]}
    blind["boxes"] = [torch.zeros(1, 3, SIZE // s, SIZE // s) for s in STRIDES]
    some = torch.tensor([[0, SIZE / 2, SIZE / 2, 6]])
    return explorer.Task(
        loss,
        missed,
        "missed shapes",
        "%",
        higher_is_better=False,
        trivial=1.0,
        trivial_loss=float(loss(blind, some)),
        prediction=dict,
    )


def train(model, batches, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, epochs * len(batches))
    model.train()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def main(epochs=30, trials=16, images=512, onnx=True):
    torch.manual_seed(0)
    train_loader = DataLoader(shapes(images), 32, shuffle=True)
    val_loader = DataLoader(shapes(images // 2, seed=1), 32)
    model = train(Detector(), train_loader, epochs)

    given = {"task": task(), "space": "filter", "trials": trials, "seed": 0, "calibration_batches": 4}
    studies = {
        name: explorer.explore(model, train_loader, val_loader, evaluator={"name": name, "racing": True}, **given)
        for name in ("inherit", "reconstruct")
    }
    for name, study in studies.items():
        print(name, study.frontier[["trial", "error", "error_se", "flops_ratio"]].to_string(index=False), sep="\n")

    best = studies["reconstruct"].best(flops=0.6)
    small = best.build()
    best.save("small-detector", onnx=onnx)
    x = next(iter(val_loader))[0]
    again = explorer.load("small-detector", model=Detector())
    print("the same outputs:", torch.allclose(boxes_of(again(x)), boxes_of(small(x)), atol=1e-4))
    return studies


if __name__ == "__main__":
    main()
