"""What all plots share. They are readable in grey: what colours tell, line styles tell too."""

import pathlib

import numpy as np
from matplotlib import axes, colormaps, figure, rc_context

STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
MARKERS = "osDv^<>"
# How the joint policy's total variation is measured, see `diagnostics`, and what plots call that.
JOINT_TVS = {
    "joint_tv_sum": "sum bound (the paper's)",
    "joint_tv_product": "product bound",
    "joint_tv": "joint TV itself",
}


def panels(rows: int, columns: int, **options) -> tuple[figure.Figure, list[axes.Axes]]:
    """An empty figure, and its plots, row by row. Args: options, of matplotlib's `subplots`."""
    drawing = figure.Figure(figsize=(1 + 4 * columns, 1 + 3.2 * rows), layout="constrained")
    plots = drawing.subplots(rows, columns, squeeze=False, **options).ravel()
    for plot in plots:
        plot.grid(color="0.9")
        plot.spines[["top", "right"]].set_visible(False)
    return drawing, list(plots)


def colors(count: int) -> np.ndarray:
    """As many, from dark to light: [count, 4]."""
    return colormaps["viridis"](np.linspace(0.0, 0.85, count))


def grey(stressed: bool) -> str:
    """Black if stressed, else lighter."""
    return "0" if stressed else "0.45"


def write(drawing: figure.Figure, folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    """As pixels and as vectors: `name.png`, `name.svg`."""
    paths = [folder / f"{name}.{suffix}" for suffix in ("png", "svg")]
    with rc_context({"svg.hashsalt": name}):  # equal plots are equal files
        for path in paths:
            drawing.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths
