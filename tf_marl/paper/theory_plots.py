"""The plots of the laboratory study of the paper's theorems. Every function draws a table and computes nothing else."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import figure, ticker

from tf_marl.paper.figures import ALGORITHMS
from tf_marl.plots import STYLES, colors, panels

_TITLES = ALGORITHMS | {"happo": "HAPPO"}


def exact_updates(table: pd.DataFrame, quantity: str, label: str, limit: bool = False) -> figure.Figure:
    """Draws a quantity of exact updates against the clip range or alpha.

    The figure has a row of plots for each rule and a column for each algorithm.

    Args:
        table: a row for each `num_agents`, `algorithm`, `rule` and `value` of the rule, with the quantity. An infinite
            value means no clipping.
        quantity: the column to draw.
        label: label of the vertical axis.
        limit: whether to draw the line quantity = alpha, for the rules that are to keep the quantity below alpha.
    """
    algorithms = table.algorithm.unique()
    rules = {
        "fixed": "clip range epsilon",
        "per_agent": "alpha, for a clip range of alpha / N",
        "per_sqrt_agents": "alpha, for a clip range of about 2 alpha / sqrt(N)",
        "backtrack": "alpha, by backtracking, nothing clipped",
    }
    drawing, plots = panels(len(rules), len(algorithms), sharex=True, sharey=True)
    no_clipping = 4.0  # its place on the horizontal axis
    for plot, (rule, algorithm) in zip(plots, itertools.product(rules, algorithms), strict=True):
        groups = table[(table.rule == rule) & (table.algorithm == algorithm)].groupby("num_agents")
        for (num_agents, rows), style, color in zip(groups, STYLES, colors(len(groups)), strict=False):
            rows = rows.sort_values("value")
            x = rows.value.replace(np.inf, no_clipping)
            plot.plot(x, rows[quantity], "o", linestyle=style, color=color, markersize=4, label=f"N = {num_agents}")
        if limit and rule != "fixed":
            alphas = sorted(table[table.rule == rule].value.unique())
            plot.plot(alphas, alphas, color="tab:red", linewidth=1, label="alpha")
        plot.set(title=_TITLES[algorithm], xlabel=rules[rule], xscale="log")
        plot.set_xticks([0.01, 0.03, 0.1, 0.3, 1.0, no_clipping], ["0.01", "0.03", "0.1", "0.3", "1", "none"])
        plot.tick_params(labelbottom=True)
        plot.minorticks_off()
        plot.yaxis.set_major_locator(ticker.MaxNLocator(steps=[1, 2, 5, 10]))
        plot.yaxis.set_major_formatter("{x:g}" if limit else "{x:.0%}")
    for plot in plots[:: len(algorithms)]:
        plot.set_ylabel(label)
    plots[-1].legend(fontsize="small")
    return drawing


def exact_curves(curves: pd.DataFrame, rules: Mapping[tuple[str, float], str]) -> figure.Figure:
    """Draws the true return after every update, as the mean over learners.

    The figure has a row of plots for each task and a column for each number of agents.

    Args:
        curves: the table `curves` of one algorithm: a row for each `task`, `num_agents`, `rule`, `value` and `update`,
            with the return `eta`, which is times 1 - gamma.
        rules: the rules to draw, as pairs (rule, value), with their labels.
    """
    tasks, teams = list(curves.task.unique()), sorted(curves.num_agents.unique())
    drawing, plots = panels(len(tasks), len(teams), sharex=True)
    for plot, (task, num_agents) in zip(plots, itertools.product(tasks, teams), strict=True):
        for ((rule, value), label), style, color in zip(rules.items(), STYLES, colors(len(rules)), strict=False):
            rows = curves[(curves.task == task) & (curves.num_agents == num_agents)]
            rows = rows[(rows.rule == rule) & (rows.value == value)]
            plot.plot(rows["update"], rows.eta, linestyle=style, color=color, label=label)
        plot.set(title=f"{task}, N = {num_agents}", xlabel="updates")
    plots[0].set_ylabel("return times 1 - gamma")
    plots[0].legend(fontsize="small")
    return drawing
