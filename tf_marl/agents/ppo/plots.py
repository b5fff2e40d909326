"""Plots show how far the updates of a PPO run moved the policy; they are drawn from tables."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import figure, ticker

from tf_marl import plots

_PERCENTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)


def trust_region(updates: pd.DataFrame, title: str) -> figure.Figure:
    """Draws how far each update of a run moved the policy, over env steps.

    Args:
        updates: a row per update, with columns `env_steps`, `trust_region/alpha`, `trust_region/joint_tv_max`,
            `trust_region/joint_tv_product_max`, `trust_region/joint_tv_sum_max` and `trust_region/agent_tv_max`.
        title: of the plot.
    """
    drawing, [plot] = plots.panels(1, 1)
    names = {
        "joint_tv_sum_max": "sum bound",
        "joint_tv_product_max": "product bound",
        "joint_tv_max": "joint TV",
        "agent_tv_max": "one agent's TV",
    }
    for (name, label), style in zip(names.items(), plots.STYLES, strict=False):
        column = updates[f"trust_region/{name}"]
        smooth = column.rolling(max(len(column) // 50, 1), min_periods=1).max()
        plot.plot(updates.env_steps, smooth, linestyle=style, color=plots.grey(name == "joint_tv_max"), label=label)
    plot.plot(updates.env_steps, updates["trust_region/alpha"], color="tab:red", linewidth=1, label="alpha")
    plot.set(xlabel="env steps", ylabel="total variation, largest over states", yscale="log")
    plot.set_title(title, parse_math=False)  # a run's name may hold a $ and is not a formula
    plot.xaxis.set_major_formatter("{x:,.0f}")
    plot.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))  # a run may stay within a power of ten
    plot.yaxis.set_major_formatter("{x:g}")
    plot.yaxis.set_minor_formatter("")
    plot.legend(fontsize="small")
    return drawing


def epochs(history: Mapping[str, np.ndarray], title: str) -> figure.Figure:
    """Draws one update epoch by epoch: percentiles over states of each measure of total variation.

    Args:
        history: arrays [epochs + 1, 101], the percentiles 0 to 100 before each epoch and after the last, by the names
            `agent_tv`, `joint_tv_sum`, `joint_tv_product` and `joint_tv`.
        title: of the plot.
    """
    names = {"agent_tv": "one agent's TV"} | plots.JOINT_TVS
    drawing, panels = plots.panels(1, len(names), sharey=True)
    for plot, (name, label) in zip(panels, names.items(), strict=True):
        for percentile, style in zip((100, 99, 90, 50), plots.STYLES, strict=False):
            color = plots.grey(percentile == 100)
            plot.plot(history[name][:, percentile], linestyle=style, color=color, label=_percentile(percentile))
        plot.set(xlabel="epochs of the update", title=label)
        plot.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    panels[0].set_ylabel("total variation")
    panels[0].legend(fontsize="small")
    drawing.suptitle(title, parse_math=False)
    return drawing


def epochs_table(history: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Makes a table of one update: a row per epoch, with percentiles of each distribution and the scalars.

    Args:
        history: arrays by name: [epochs + 1, 101], percentiles 0 to 100, or [epochs + 1], scalars.
    Returns:
        A table whose columns are `NAME_p0`, `NAME_p1`, `NAME_p5` to `NAME_p100` for distributions and `NAME` for
        scalars.
    """
    columns = {}
    for name, values in history.items():
        if values.ndim == 1:
            columns[name] = values
        else:
            columns |= {f"{name}_p{percentile}": values[:, percentile] for percentile in _PERCENTILES}
    return pd.DataFrame(columns).rename_axis("epoch")


def _percentile(percentile: int) -> str:
    return "largest" if percentile == 100 else f"{percentile}% are below"
