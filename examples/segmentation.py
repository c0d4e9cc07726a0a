"""A small U-Net on shapes drawn by code: from training to a frontier of mean IoU and an exported sub-network."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import explorer

CLASSES = 4


def shapes(count, size=32, seed=0):
    """Return noisy images [n, 1, size, size] and the classes of their pixels: 0, circle, square, triangle."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    masks = torch.zeros(count, size, size, dtype=torch.int64)
    for mask in masks:
        kind, radius = (int(torch.randint(*ends, (1,), generator=generator)) for ends in ((0, 3), (5, 11)))
        cy, cx = torch.randint(radius, size - radius, (2,), generator=generator)
        dy, dx = y - cy, x - cx
        square = (dy.abs() <= radius) & (dx.abs() <= radius)
        inside = (dy**2 + dx**2 <= radius**2, square, square & (2 * dx.abs() <= dy + radius))[kind]
        mask[inside] = kind + 1
    images = (masks[:, None] > 0) + 0.3 * torch.randn(count, 1, size, size, generator=generator)
    return TensorDataset(images, masks)


def stage(inputs, outputs):
    layers = [[nn.Conv2d(a, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()] for a in (inputs, outputs)]
    return nn.Sequential(*layers[0], *layers[1])


class UNet(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.down1, self.down2, self.bottom = stage(1, width), stage(width, 2 * width), stage(2 * width, 4 * width)
        self.up2, self.up1 = stage(6 * width, 2 * width), stage(3 * width, width)
        self.head = nn.Conv2d(width, CLASSES, 1)
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, x):
        first = self.down1(x)
        second = self.down2(self.pool(first))
        x = self.up2(torch.cat([second, self.grow(self.bottom(self.pool(second)))], 1))
        return {"out": self.head(self.up1(torch.cat([first, self.grow(x)], 1)))}


def train(model, batches, task, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, epochs * len(batches))
    model.train()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            task.loss(task.prediction(model(x)), y).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def main(epochs=12, trials=16, images=256, onnx=True):
    torch.manual_seed(0)
    task = explorer.segmentation(classes=CLASSES)
    train_loader = DataLoader(shapes(images), 32, shuffle=True)
    val_loader = DataLoader(shapes(images // 2, seed=1), 32)
    model = train(UNet(), train_loader, task, epochs)

    given = {"task": task, "space": "filter", "trials": trials, "seed": 0, "calibration_batches": 4}
    studies = {
        name: explorer.explore(model, train_loader, val_loader, evaluator={"name": name, "racing": True}, **given)
        for name in ("inherit", "reconstruct")
    }
    for name, study in studies.items():
        print(name, study.frontier[["trial", "error", "error_se", "flops_ratio"]].to_string(index=False), sep="\n")

    best = studies["reconstruct"].best(flops=0.6)
    small = best.build()
    best.save("small-unet", onnx=onnx)
    x = next(iter(val_loader))[0]
    again = explorer.load("small-unet", model=UNet())
    print("the same outputs:", torch.allclose(again(x)["out"], small(x)["out"], atol=1e-5))
    return studies


if __name__ == "__main__":
    main()
