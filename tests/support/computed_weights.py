"""Hand-made networks whose weights are computed from parameters, that tracing is tested on."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.support.small_models import IMG, Case, conv


class _ByBatchNorm(nn.Conv2d):
    """Its rows are standardised by a batch norm of the flattened weight, with a gain a row, as timm does it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
        self.gain = nn.Parameter(torch.rand(outputs, 1, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        gain = (self.gain * 0.3).view(-1)
        weight = F.batch_norm(rows, None, None, weight=gain, training=True, momentum=0.0, eps=1e-6)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias, padding=self.padding, groups=self.groups)


class _ByView(nn.Conv2d):
    """Its rows are standardised by statistics of the flattened weight."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.view(self.weight.size(0), -1)
        weight = self.weight - rows.mean(1).view(-1, 1, 1, 1)
        weight = weight / (rows.std(1).view(-1, 1, 1, 1) + 1e-5)
        return F.conv2d(x, weight, self.bias, padding=self.padding, groups=self.groups)


class _ScaledRows(nn.Conv2d):
    """Its flattened rows are divided by their lengths."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.view(self.weight.size(0), -1)
        rows = rows / rows.norm(dim=1, keepdim=True)
        return F.conv2d(x, rows.view(self.weight.shape), self.bias, self.stride, self.padding)


class _SortedRows(nn.Conv2d):
    """Its flattened rows are computed with in a way that nobody follows."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.view(self.weight.size(0), -1).sort(1).values
        return F.conv2d(x, rows.view(self.weight.shape), self.bias, self.stride, self.padding)


def _deprecated(wrap: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    def wrapped(layer: nn.Module) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            wrap(layer)
        # as after a run without gradients: what has a history cannot be copied
        layer.weight = layer.weight.detach()
        return layer

    return wrapped


_WRAPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm": parametrizations.weight_norm,
    "weight norm of the whole": lambda layer: parametrizations.weight_norm(layer, dim=None),
    "weight norm by a hook": _deprecated(torch.nn.utils.weight_norm),
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm by a hook": torch.nn.utils.spectral_norm,
}
_UNITS = [("0", 8, 1, 1), ("2", 6, 1, 1)]


def _three(layer: Callable[[int, int], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(layer(3, 8), nn.ReLU(), layer(8, 6), layer(6, 2))


COMPUTED: dict[str, Case] = {
    **{name: Case(_three(lambda i, o, wrap=wrap: wrap(conv(i, o))), IMG, _UNITS) for name, wrap in _WRAPS.items()},
    **{
        f"{name} of transposed convolutions": Case(
            lambda wrap=wrap: nn.Sequential(
                wrap(nn.ConvTranspose2d(3, 8, 2, 2)), wrap(nn.ConvTranspose2d(8, 6, 2, 2)), conv(6, 2)
            ),
            IMG,
            [("0", 8, 1, 1), ("1", 6, 1, 1)],
        )
        for name, wrap in _WRAPS.items()
    },
    "standardised by batch norm": Case(_three(lambda i, o: _ByBatchNorm(i, o, 3)), IMG, _UNITS),
    # wide, since a row of one entry has no variance
    "1x1 standardised by batch norm": Case(
        lambda: nn.Sequential(_ByBatchNorm(3, 48, 1), nn.ReLU(), _ByBatchNorm(48, 48, 1), conv(48, 2)),
        IMG,
        [("0", 48, 1, 1), ("2", 48, 1, 1)],
    ),
    **{
        f"grouped, {name}": Case(
            lambda make=make: nn.Sequential(conv(3, 8), make(), nn.ReLU(), conv(12, 2)),
            IMG,
            [("0", 8, 1, 2), ("1", 12, 1, 2)] if name == "normed" else [("0", 8, 2, 1), ("1", 12, 1, 2)],
        )
        for name, make in {
            "standardised by batch norm": lambda: _ByBatchNorm(8, 12, 3, groups=2),
            "standardised by views": lambda: _ByView(8, 12, 3, padding=1, groups=2),
            "normed": lambda: parametrizations.weight_norm(conv(8, 12, groups=2)),
            "spectral norm": lambda: parametrizations.spectral_norm(conv(8, 12, groups=2)),
        }.items()
    },
    "standardised by views": Case(_three(lambda i, o: _ByView(i, o, 3, padding=1)), IMG, _UNITS),
    "rows of length one": Case(_three(lambda i, o: _ScaledRows(i, o, 3, padding=1)), IMG, _UNITS),
    "sorted rows": Case(
        lambda: nn.Sequential(conv(3, 8), _SortedRows(8, 6, 3, padding=1), conv(6, 2)), IMG, [], {"0": "", "1": ""}
    ),
}
