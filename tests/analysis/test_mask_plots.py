"""Pictures of masks: the numbers that are drawn are those of the masks, and every panel says what it shows."""

from __future__ import annotations

from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
import torch
from hypothesis import given
from matplotlib.figure import Figure
from torch import Tensor

from explorer.analysis.plots import STATES, MaskPanel, draw_mask, mask_data, mask_figure, save
from explorer.pruning.patterns import Mask, pattern_mask
from spaces import Pattern
from tests.support.random_masks import layers, of, patterns


def arrays(mask: Mask) -> tuple[np.ndarray, np.ndarray | None]:
    return mask.keep.numpy(), None if mask.base is None else mask.base.numpy()


@given(layers(), patterns())
def test_what_is_drawn_is_the_mask(layer: tuple[Tensor, int], pattern: Pattern) -> None:
    scores, kernel = layer
    mask = pattern_mask(scores, pattern, kernel)
    data = torch.from_numpy(mask_data(*arrays(mask)))
    shown = data.unflatten(1, (len(scores), -1)).movedim(1, 0)
    base = mask.keep if mask.base is None else mask.base
    for number, expected in enumerate([~mask.keep & ~base, mask.keep & base, mask.keep & ~base, ~mask.keep & base]):
        assert torch.equal(shown == number, expected)


def test_the_colours_are_those_of_the_states() -> None:
    mask = Mask(torch.tensor([[[True, False, True, False]]]), torch.tensor([[[True, False, False, True]]]))
    ax = draw_mask(mask_data(*arrays(mask)), Figure().add_subplot())
    image = ax.images[0]
    drawn = [matplotlib.colors.to_hex(image.cmap(image.norm(value))).upper() for value in image.get_array()[0]]
    names = ["kept", "removed", "given back", "removed inside a tile"]
    assert drawn == [STATES[name] for name in names]


@pytest.mark.parametrize(
    ("shape", "kernel", "shown", "ticks"),
    [((18, 5), 9, (8, 4), [0, 2, 4, 6, 8]), ((6, 3), 1, (6, 3), [0, 6]), ((40, 9), 2, (8, 4), [0, 8])],
)
def test_a_window_shows_the_first_rows_and_columns(
    shape: tuple[int, int], kernel: int, shown: tuple[int, int], ticks: list[int]
) -> None:
    data = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape) % 4
    ax = draw_mask(data, Figure().add_subplot(), kernel=kernel, window=(8, 4))
    assert np.array_equal(ax.images[0].get_array(), data[: shown[0], : shown[1]])
    assert list(ax.get_yticks()) == ticks
    assert ax.get_ylim() == (shown[0], 0)


def test_panels_say_what_was_asked_and_what_came_of_it(tmp_path: Path) -> None:
    scores = torch.rand(2, 18, 5, generator=torch.Generator().manual_seed(0))
    asked = [of("block", height=4, width=2, ratio=0.3), of("element", ratio=0.3), of("tile_element", ratio=0.3)]
    panels = []
    for pattern in asked:
        keep, base = arrays(pattern_mask(scores, pattern, 9))
        panels.append(MaskPanel.of(keep, pattern, 9, base=base, layer="conv"))
    figure = mask_figure(panels, title="two groups", across=2)
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.axison]
    assert titles[0] == f"conv\nblock\nheight=4, width=2\nratio 0.3, realised {panels[0].keep.mean():.4f}"
    assert titles[1] == "conv\nelement\nratio 0.3, realised 0.3000"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["removed", "kept", "given back"]
    assert [path.suffix for path in save(figure, tmp_path / "masks")] == [".png", ".svg", ".pdf"]


def test_a_single_panel_is_a_figure_too() -> None:
    keep = np.ones((1, 1, 1), dtype=bool)
    assert len(mask_figure([MaskPanel(keep, 1.0, "dense")]).axes) == 1
