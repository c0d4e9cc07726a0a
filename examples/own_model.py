"""A model of one's own from training to a frontier and an exported sub-network, on scikit-learn's digits."""

from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import explorer


class Net(nn.Sequential):
    def __init__(self):
        stages = [
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise([1, 16, 32, 32])
        ]
        super().__init__(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def train(model, batches, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


def main(epochs=8, trials=24):
    torch.manual_seed(0)
    inputs, labels = load_digits(return_X_y=True)
    digits = TensorDataset(torch.as_tensor(inputs).float().view(-1, 1, 8, 8) / 16, torch.as_tensor(labels))
    fitting, rating = random_split(digits, [1400, 397])
    train_loader, val_loader = DataLoader(fitting, 64, shuffle=True), DataLoader(rating, 200)

    model = train(Net(), train_loader, epochs)
    study = explorer.explore(model, train_loader, val_loader, space="filter", trials=trials, seed=0)
    print(study.frontier[["trial", "error", "flops_ratio", "params_ratio"]].to_string(index=False))

    best = study.best(flops=0.5)
    small = train(best.build(), train_loader, 2)
    best.save("small", module=small)
    again = explorer.load("small", model=Net())
    x = torch.stack([digits[i][0] for i in range(8)])
    print("the same outputs:", torch.allclose(again(x), small(x), atol=1e-6))
    return study


if __name__ == "__main__":
    main()
