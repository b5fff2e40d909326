"""Shared parts of every plot: empty panels, colours, line styles, and how a drawing is written to a file.

Plots are readable in grey: line styles and markers repeat what colours tell.
"""

import io
import pathlib

import numpy as np
from matplotlib import axes, colormaps, figure
from PIL import Image

STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
MARKERS = "osDv^<>"
DPI = 110  # a panel of 4 inches is 440 pixels wide
# Measures of how far the joint policy moves (see `tf_marl.diagnostics`), and what plots call them.
JOINT_TVS = {
    "joint_tv_sum": "sum bound (the paper's)",
    "joint_tv_product": "product bound",
    "joint_tv_hellinger": "Hellinger bound",
    "joint_tv": "joint TV itself",
}


def panels(rows: int, columns: int, **options) -> tuple[figure.Figure, list[axes.Axes]]:
    """Creates a figure with a grid of empty plots.

    Args:
        rows: number of plots from top to bottom.
        columns: number of plots from left to right.
        **options: further arguments of matplotlib's `Figure.subplots`, such as `sharey=True`.

    Returns:
        The figure, and its `rows * columns` plots as a list, row by row.
    """
    drawing = figure.Figure(figsize=(1 + 4 * columns, 1 + 3.2 * rows))
    drawing.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)  # inches
    plots = drawing.subplots(rows, columns, squeeze=False, **options).ravel()
    for plot in plots:
        plot.grid(color="0.9")
        plot.spines[["top", "right"]].set_visible(False)
    return drawing, list(plots)


def colors(count: int) -> np.ndarray:
    """Returns `count` colours from dark to light, as RGBA values in [0, 1] of shape [count, 4]."""
    return colormaps["viridis"](np.linspace(0.0, 0.85, count))


def grey(stressed: bool) -> str:
    """Returns matplotlib's name for black if the line is to stand out, and for a lighter grey otherwise."""
    return "0" if stressed else "0.45"


def write(drawing: figure.Figure, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes a figure as a PNG file of at most 256 colours, which is a third of the size of one in full colour.

    Args:
        drawing: the figure.
        folder: an existing folder.
        name: the file's name without its ending.

    Returns:
        The path of the file.
    """
    pixels = io.BytesIO()
    drawing.savefig(pixels, dpi=DPI, format="png")
    path = folder / f"{name}.png"
    # A table of 256 colours is chosen for the picture; mixing two of them would blur thin lines.
    Image.open(pixels).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    return path
