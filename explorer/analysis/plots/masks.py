"""Pictures of masks: the matrix of a layer's weight, dark where a pattern keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from explorer.analysis.plots.style import STYLE
from spaces import Pattern

__all__ = ["STATES", "MaskPanel", "draw_mask", "mask_data", "mask_figure"]

STATES = {"removed": "#F2F2F2", "kept": "#0B2A4A", "given back": "#D55E00", "removed inside a tile": "#9CC9E8"}
"""What an entry can be and its colour, in the order of the numbers of `mask_data`."""


@dataclass(frozen=True, eq=False)
class MaskPanel:
    """One panel of `mask_figure`.

    Parameters
    ----------
    keep
        True where an entry is kept: bool ``[groups, K, N]``.
    asked
        The ratio that was asked for.
    name, detail
        The layer or granularity, and its parameters: the first lines of the panel's title.
    kernel
        Kernel positions of the layer.
    base
        The tile mask that ``tile_element`` adds entries to and ``tile_vector`` thins out, else None.
    """

    keep: npt.NDArray[np.bool_]
    asked: float
    name: str
    detail: str = ""
    kernel: int = 1
    base: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls,
        keep: npt.NDArray[np.bool_],
        pattern: Pattern,
        kernel: int = 1,
        *,
        base: npt.NDArray[np.bool_] | None = None,
        layer: str = "",
    ) -> MaskPanel:
        """Return the panel of a pattern's mask, named after the granularity and, if given, the layer."""
        detail = ", ".join(f"{name}={value}" for name, value in pattern.parameters.items() if value != "layer")
        name = f"{layer}\n{pattern.granularity}" if layer else pattern.granularity
        return cls(keep, pattern.ratio, name, detail, kernel, base)

    @property
    def title(self) -> str:
        ratios = f"ratio {self.asked:.3g}, realised {self.keep.mean():.4f}"
        return "\n".join(line for line in (self.name, self.detail, ratios) if line)


def mask_data(keep: npt.NDArray[np.bool_], base: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.uint8]:
    """Return the state of every entry of a layer, numbered as in `STATES`: ``[K, groups * N]``, groups side by side.

    2 is an entry that ``tile_element`` kept outside its tiles, 3 one that ``tile_vector`` removed inside them.

    Parameters
    ----------
    keep, base
        As in `MaskPanel`.
    """
    tiles = keep if base is None else base
    states = keep.astype(np.uint8) + (keep & ~tiles) + 3 * (tiles & ~keep).astype(np.uint8)
    return np.moveaxis(states, 0, 1).reshape(keep.shape[1], -1)


def draw_mask(data: npt.NDArray[np.uint8], ax: Axes, *, kernel: int = 1, window: tuple[int, int] = (128, 64)) -> Axes:
    """Draw the first rows and columns of what `mask_data` prepared, `window` of them at most.

    Lines and ticks on the rows are where a kernel position begins.
    """
    K, columns = data.shape
    rows, wide = min(window[0], K), min(window[1], columns)
    # vmax: panels without some of the states have the same colours
    ax.imshow(
        data[:rows, :wide],
        cmap=ListedColormap(list(STATES.values())),
        vmin=0,
        vmax=len(STATES) - 1,
        interpolation="nearest",
        extent=(0, wide, rows, 0),
        aspect="auto",
    )
    positions = range(K // kernel, rows, K // kernel)
    for position in positions:
        ax.axhline(position, color="0.45", lw=0.5, ls="--")
    ax.set_yticks([0, *positions, rows])
    ax.set_xticks([0, wide])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_linewidth(0.5)
    ax.tick_params(length=2, width=0.5, labelsize=7)
    return ax


def mask_figure(
    panels: Sequence[MaskPanel], *, title: str = "", window: tuple[int, int] = (128, 64), across: int = 4
) -> Figure:
    """Return the figure of masks side by side: inputs from top to bottom, output channels from left to right.

    Parameters
    ----------
    panels
        The masks: one layer pruned in several ways, or the layers of one recipe.
    title
        What the figure shows.
    window
        Rows and columns shown of each mask at most, from the first ones on. A whole layer has more entries than
        a page has dots.
    across
        Panels in a row.
    """
    data = [mask_data(panel.keep, panel.base) for panel in panels]
    across = min(across, len(panels))
    down = -(-len(panels) // across)
    # about square entries, but no strips: the layers of a recipe differ in shape
    tall = max(min(window[0], len(matrix)) / min(window[1], matrix.shape[1]) for matrix in data)
    height = 1.35 * min(2.0, max(0.75, tall))
    with mpl.rc_context(STYLE | {"axes.grid": False, "axes.spines.top": True, "axes.spines.right": True}):
        figure = Figure(figsize=(max(4.4, 1.8 * across), down * (height + 0.55) + 0.6), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False)
        for ax, panel, matrix in zip(axes.flat, panels, data, strict=False):
            draw_mask(matrix, ax, kernel=panel.kernel, window=window)
            ax.set_title(panel.title, fontsize=7, loc="left")
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        for ax in axes[:, 0]:
            ax.set_ylabel("input (kernel position, channel)", fontsize=7)
        for ax in axes.flat[max(0, len(panels) - across) : len(panels)]:
            ax.set_xlabel("output channel", fontsize=7)
        present = np.unique(np.concatenate([np.unique(matrix) for matrix in data]))
        handles = [Patch(facecolor=list(STATES.values())[i], edgecolor="0.6", label=list(STATES)[i]) for i in present]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7)
        figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return figure
