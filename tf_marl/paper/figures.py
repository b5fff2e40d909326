"""The plots of the paper's figures 1 to 8 and of our figure alpha. Every function draws tables, and none trains."""

import itertools
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import axes, figure
from scipy import stats

from tf_marl.experiments import statistics
from tf_marl.experiments.sweep import clip_range
from tf_marl.paper import published
from tf_marl.plots import JOINT_TVS, MARKERS, STYLES, colors, grey, panels

# The metrics that figures 2 to 8 show of a run, and the labels of their axes.
METRICS = {
    "won": ("eval/battle_won_mean", "share of greedy battles won"),
    "return": ("eval/return_mean", "return of greedy battles"),
    "sum": ("trust_region/joint_tv_sum_max", "sum bound (the paper's)"),
    "product": ("trust_region/joint_tv_product_max", "product bound"),
    "hellinger": ("trust_region/joint_tv_hellinger_max", "Hellinger bound"),
    "joint": ("trust_region/joint_tv_max", "joint TV, Monte Carlo"),
}
ALGORITHMS = {"ippo": "IPPO", "mappo": "MAPPO", "jr_ppo": "joint-ratio PPO"}
POINTS = 30  # largest number of points of a curve; each averages the updates around it
_RATIO_TICKS = {  # ticks of an axis of ratios whose ends differ by less than a factor
    4.0: (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5, 1.7, 2),
    200.0: (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10),
    np.inf: (0.0001, 0.001, 0.01, 0.1, 1, 10, 100),
}


def figure_1a(table: pd.DataFrame) -> figure.Figure:
    """Draws the smallest and the largest ratio at every epoch of the first update, with a panel for each clip range.

    Args:
        table: rows of one map from figure 1's table `table` (`figure_1.open_tables`).
    """
    clips = sorted(table.clip_epsilon.unique())
    drawing, plots = panels(2, -(-len(clips) // 2), sharex=True)
    theirs = published.first_updates()
    for plot, clip in itertools.zip_longest(plots, clips):
        if clip is None:
            plot.axis("off")
            continue
        ours = table[table.clip_epsilon == clip].groupby("epoch")
        for name in ("ratio_max", "ratio_min"):
            column = ours[name]
            plot.fill_between(column.mean().index, column.min(), column.max(), color="0.8")
            plot.plot(
                column.mean(), color="0", label="ours: mean and range over seeds" if name == "ratio_max" else None
            )
            match = theirs[(theirs["map"] == table["map"].iloc[0]) & (theirs.clip_epsilon == clip)]
            if len(match):
                label = "published mean" if name == "ratio_max" else None
                plot.plot(match.epoch, match[f"{name}_mean"], "--", color="tab:blue", label=label)
        if clip < published.NO_CLIPPING:
            for edge in (1 - clip, 1 + clip):
                plot.axhline(edge, color="tab:red", linewidth=1, linestyle=":")
        plot.set(yscale="log", title=_clip(clip))
        low, high = plot.get_ylim()
        ticks = next(ticks for most, ticks in _RATIO_TICKS.items() if high / low < most)
        plot.set_yticks([tick for tick in ticks if low <= tick <= high])
        plot.yaxis.set_major_formatter("{x:g}")
        plot.minorticks_off()
    for plot in plots[: len(clips)]:
        plot.set(xlabel="epoch", ylabel="ratio, least and largest")
    plots[0].legend(fontsize="small")
    drawing.suptitle(f"Figure 1a: ratios in the first update, {table['map'].iloc[0]}; dotted: the clip range")
    return drawing


def figure_1b(percentiles: pd.DataFrame) -> figure.Figure:
    """Draws the distribution of one agent's total variation, a panel for each epoch and a curve for each clip range.

    Args:
        percentiles: rows of one map from figure 1's table `percentiles` (`figure_1.open_tables`).
    """
    drawing, plots = panels(1, len(published.EPOCHS_COMPARED), sharey=True)
    theirs = published.first_updates()
    for plot, epoch in zip(plots, published.EPOCHS_COMPARED, strict=True):
        rows = percentiles[(percentiles.epoch == epoch) & (percentiles.quantity == "agent_tv")]
        for (clip, ours), style, color in zip(rows.groupby("clip_epsilon"), STYLES, colors(6), strict=False):
            _cdf(plot, ours, style, color, _clip(clip))
            match = theirs[
                (theirs["map"] == ours["map"].iloc[0]) & (theirs.clip_epsilon == clip) & (theirs.epoch == epoch)
            ]
            _mark_largest(plot, match.max_agent_tv_mean, color)
        plot.set(xlabel="one agent's total variation", title=f"epoch {epoch}", xscale="log", xlim=(1e-3, 1))
    plots[0].set_ylabel("share of decisions")
    plots[0].legend(fontsize="small")
    drawing.suptitle(f"Figure 1b: {percentiles['map'].iloc[0]}; triangles: the published largest, mean over seeds")
    return drawing


def figure_1c(percentiles: pd.DataFrame, table: pd.DataFrame) -> figure.Figure:
    """Draws the distribution of the joint total variation by number of agents, and how its largest value grows.

    Args:
        percentiles: rows of one clip range from figure 1's table `percentiles` (`figure_1.open_tables`).
        table: rows of the same clip range from figure 1's table `table`.
    """
    epoch = published.EPOCHS_COMPARED[-1]
    shown = measured(percentiles)
    drawing, plots = panels(1, len(shown) + 1)
    theirs = published.first_updates()
    clip = table.clip_epsilon.iloc[0]
    theirs = theirs[(theirs.clip_epsilon == clip) & (theirs.epoch == epoch)]
    for plot, (name, label) in zip(plots, shown.items(), strict=False):
        rows = percentiles[(percentiles.epoch == epoch) & (percentiles.quantity == name)]
        groups = rows.groupby(["num_agents", "map"])
        for ((num_agents, map_name), ours), style, color in zip(groups, STYLES, colors(6), strict=False):
            _cdf(plot, ours, style, color, f"{num_agents}: {map_name}")
            if name == "joint_tv_sum":
                match = theirs[theirs["map"] == map_name].max_joint_tv_sum_mean
                _mark_largest(plot, match, color)
        plot.set(xlabel=f"total variation: {label}", ylabel="share of states", title=label)
        plot.locator_params(axis="x", nbins=5)
    plots[0].legend(fontsize="small", title="agents")
    for (name, label), marker, style in zip(shown.items(), "sDPo", STYLES, strict=False):
        fit = linear_fit(table, name, epoch)
        plots[-1].plot(
            fit.num_agents, fit.largest, marker, color=grey(name == "joint_tv"), label=f"{label}: {fit.text}"
        )
        ends = np.array([1, 11])
        plots[-1].plot(ends, fit.intercept + fit.slope * ends, style, color=grey(name == "joint_tv"), linewidth=1)
    plots[-1].plot(theirs.num_agents, theirs.max_joint_tv_sum_mean, "v", color="tab:blue", label="published sum")
    room = 1.5 * theirs.max_joint_tv_sum_mean.max()  # for the legend
    plots[-1].set(xlabel="agents N", ylabel="largest over states, mean over seeds", title="against N", ylim=(0, room))
    plots[-1].legend(fontsize="x-small")
    drawing.suptitle(f"Figure 1c: {_clip(clip)}, epoch {epoch}; triangles: the published largest sum, mean over seeds")
    return drawing


def figure_1d(percentiles: pd.DataFrame) -> figure.Figure:
    """Draws the distribution of the joint total variation, with a curve for each epoch.

    Args:
        percentiles: rows of one map and one clip range from figure 1's table `percentiles` (`figure_1.open_tables`).
    """
    shown = measured(percentiles)
    drawing, plots = panels(1, len(shown), sharex=True, sharey=True)
    theirs = published.first_updates()
    map_name, clip = percentiles["map"].iloc[0], percentiles.clip_epsilon.iloc[0]
    theirs = theirs[(theirs["map"] == map_name) & (theirs.clip_epsilon == clip)]
    for plot, (name, label) in zip(plots, shown.items(), strict=True):
        groups = percentiles[percentiles.quantity == name].groupby("epoch")
        for (epoch, ours), style, color in zip(groups, itertools.cycle(STYLES), colors(len(groups)), strict=False):
            _cdf(plot, ours, style, color, f"epoch {epoch}")
            if name == "joint_tv_sum":
                match = theirs[theirs.epoch == epoch].max_joint_tv_sum_mean
                _mark_largest(plot, match, color)
        plot.set(xlabel=f"total variation: {label}", title=label)
    plots[0].set_ylabel("share of states")
    plots[-1].legend(fontsize="small")
    drawing.suptitle(f"Figure 1d: {map_name}, {_clip(clip)}; triangles: the published largest sum, mean over seeds")
    return drawing


def measured(percentiles: pd.DataFrame) -> dict[str, str]:
    """Returns those measures of `tf_marl.plots.JOINT_TVS` that a table has for all its updates; old tables lack some.

    Args:
        percentiles: rows of figure 1's table `percentiles` (`figure_1.open_tables`).
    """
    count = percentiles.quantity.value_counts()
    return {name: label for name, label in JOINT_TVS.items() if count.get(name) == count.max()}


def recorded(curves: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Returns those of some metrics that a table has; runs of old versions lack some.

    Args:
        curves: rows of the table `curves` (`sweep.open_tables`).
        names: names of metrics, keys of `METRICS`.
    """
    return [name for name in names if METRICS[name][0] in curves and curves[METRICS[name][0]].notna().any()]


def learning_curves(curves: pd.DataFrame, rows: Sequence[str], columns: str, lines: str, title: str) -> figure.Figure:
    """Draws metrics over training, as means over seeds with 95% bootstrap intervals where there are several seeds.

    There is a row of plots for each metric, a column for each value on one axis of the sweep, and a curve for each
    value on another. If the columns are maps, a last column shows the interquartile mean over the runs on all maps that
    were trained for the same number of env steps; its intervals are stratified by map. Open marks at the right edge are
    published win rates.

    Args:
        curves: rows of the table `curves` (`sweep.open_tables`).
        rows: names of metrics, keys of `METRICS`; those that the table lacks are left out.
        columns: axis of the columns: `algorithm`, `map` or `rule`.
        lines: axis of the curves: `algorithm`, `map` or `rule`.
        title: title of the figure.
    """
    shown = sorted(curves[columns].unique(), key=lambda value: _order(curves, columns, value))
    values = sorted(curves[lines].unique(), key=lambda value: _order(curves, lines, value))
    looks = dict(zip(values, zip(itertools.cycle(STYLES), colors(len(values)), MARKERS, strict=False), strict=False))
    lengths = curves.groupby(columns).env_steps.max()
    long = lengths[lengths >= 0.9 * lengths.max()].index
    inside = [curves[curves[columns] == panel] for panel in shown]
    titles = [_panel_title(curves, columns, panel) for panel in shown]
    if together := columns == "map" and len(long) > 1:
        inside.append(curves[curves["map"].isin(long)])
        titles.append(f"{len(long)} maps together: interquartile mean")
    rows = recorded(curves, rows)
    drawing, plots = panels(len(rows), len(inside), sharey="row", sharex="col")
    for plot, (row, column) in zip(plots, itertools.product(rows, range(len(inside))), strict=True):
        metric, all_maps = METRICS[row][0], together and column == len(shown)
        for value in values:
            runs = inside[column]
            runs = runs[runs[lines] == value].dropna(subset=[metric])
            if runs.empty or (all_maps and runs["map"].nunique() < len(long)):
                continue
            statistic = statistics.interquartile_mean if all_maps else statistics.mean
            style, color, marker = looks[value]
            _learning_curve(plot, runs, metric, statistic, style, color, marker, _name(lines, value))
            if row == "won" and not all_maps:
                _mark_published(plot, runs, color, marker)
    for row, first in zip(rows, range(0, len(plots), len(inside)), strict=True):
        plots[first].set_ylabel(METRICS[row][1])
        plots[first].set_ylim(bottom=-0.03 if row == "won" else 0, top=1.03 if row == "won" else None)
    for plot, name in zip(plots, titles, strict=False):
        plot.set_title(name)
    for plot in plots[-len(inside) :]:
        plot.set_xlabel("env steps")
        plot.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k")
    handles = {label: line for plot in plots for line, label in zip(*plot.get_legend_handles_labels(), strict=True)}
    order = {_name(lines, value): i for i, value in enumerate([*values])}
    labels = sorted(handles, key=lambda label: order.get(label, len(order)))
    drawing.legend([handles[label] for label in labels], labels, loc="outside lower center", ncols=2 * len(inside))
    drawing.suptitle(textwrap.fill(title, 40 * len(inside)))
    return drawing


def by_team_size(curves: pd.DataFrame, title: str) -> figure.Figure:
    """Draws how far updates move the policy against the number of agents, with a curve for each rule of the clip range.

    There is a panel for each measure of the joint total variation that the table has, and one for the return. Points
    are means over updates and seeds, for the return over the last evaluation of each seed; bars are 95% bootstrap
    intervals.

    Args:
        curves: rows of one algorithm from the table `curves` (`sweep.open_tables`).
        title: title of the figure.
    """
    names = [*recorded(curves, ["sum", "product", "hellinger", "joint"]), "return"]
    drawing, plots = panels(1, len(names))
    rules = sorted(curves.rule.unique(), key=lambda rule: _order(curves, "rule", rule))
    for plot, name in zip(plots, names, strict=True):
        metric, label = METRICS[name]
        for i, (rule, color) in enumerate(zip(rules, colors(len(rules)), strict=True)):
            runs = curves[curves.rule == rule].dropna(subset=[metric]).sort_values("env_steps")
            if runs.empty:
                continue
            per_run = runs.groupby(["num_agents", "seed"])[metric]
            values = per_run.last() if name == "return" else per_run.mean()
            found = {n: statistics.estimate(statistics.mean, [of_n]) for n, of_n in values.groupby("num_agents")}
            middle = np.array([one.value for one in found.values()])
            ends = np.array([[one.value - one.low, one.high - one.value] for one in found.values()]).T
            x = np.array(list(found)) * (1 + 0.02 * (i - (len(rules) - 1) / 2))  # side by side
            plot.errorbar(
                x,
                middle,
                np.nan_to_num(ends),
                linestyle=STYLES[i],
                color=color,
                marker=MARKERS[i],
                markersize=5,
                capsize=2,
                label=_name("rule", rule),
            )
        plot.set(xscale="log", xlabel="agents N", title=label)
        sizes = sorted(curves.num_agents.unique())
        plot.set_xticks(sizes, [str(n) for n in sizes])
        plot.minorticks_off()
        plot.set_ylim(bottom=0)
    plots[0].set_ylabel("total variation, largest over states")
    plots[-1].set_ylabel("return at the end")
    plots[0].legend(fontsize="small")
    drawing.suptitle(title)
    return drawing


class LinearFit:
    """Holds the largest value of a quantity by number of agents, and the straight line through it by least squares."""

    def __init__(self, num_agents: Sequence[int], largest: Sequence[float]):
        """Fits the line.

        Args:
            num_agents: numbers of agents N.
            largest: the largest value for each of them, as a mean over seeds.
        """
        self.num_agents, self.largest = num_agents, largest
        line = stats.linregress(num_agents, largest)
        self.slope, self.intercept, self.r_squared = line.slope, line.intercept, line.rvalue**2
        self.text = f"slope {self.slope:.4f}, R² {self.r_squared:.2f}"


def linear_fit(table: pd.DataFrame, quantity: str, epoch: int) -> LinearFit:
    """Fits a straight line to the largest value of a quantity against the number of agents.

    Args:
        table: rows of one clip range from figure 1's table `table` (`figure_1.open_tables`).
        quantity: a measure of the joint total variation, a key of `tf_marl.plots.JOINT_TVS`.
        epoch: epoch of the first update.
    """
    means = table[table.epoch == epoch].groupby("num_agents")[f"{quantity}_max"].mean()
    return LinearFit(list(means.index), list(means))


def _cdf(plot: axes.Axes, rows: pd.DataFrame, style: object, color: object, label: str) -> None:
    """Draws a distribution from its percentiles, columns such as `p50`, as means over the rows."""
    columns = [name for name in rows.columns if name[0] == "p" and name[1:].isdigit()]
    shares = [int(name[1:]) / 100 for name in columns]
    plot.plot(rows[columns].mean(), shares, linestyle=style, color=color, label=label)


def _mark_largest(plot: axes.Axes, largest: pd.Series, color: object) -> None:
    """Marks a published largest value by a triangle at share 1, where a distribution ends."""
    if len(largest):  # an empty line that is not clipped would take room in the layout
        plot.plot(largest, [1.0] * len(largest), "v", color=color, clip_on=False)


def _learning_curve(
    plot: axes.Axes,
    runs: pd.DataFrame,
    metric: str,
    statistic: Callable[..., Any],
    style: object,
    color: object,
    marker: str,
    label: str,
) -> None:
    """Draws the statistic of some runs over training, with its interval as a band."""
    measured = runs.groupby(["algorithm", "map", "rule", "seed"]).size().median()
    width = max(runs.env_steps.max() / min(measured, POINTS), 1)
    interval = (runs.env_steps / width).round().clip(lower=1) * width
    cells = runs.groupby([interval, "map", "rule", "algorithm", "seed"])[metric].mean()
    points = []
    for steps, at in cells.groupby(level=0):
        settings = [values.to_numpy() for _, values in at.groupby(level=[1, 2, 3])]
        points.append((steps, *statistics.estimate(statistic, settings)))
    x, middle, low, high = np.array(points).T
    plot.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    every = max(len(x) // 6, 1)
    plot.plot(x, middle, linestyle=style, color=color, marker=marker, markersize=4, markevery=every, label=label)


def _mark_published(plot: axes.Axes, runs: pd.DataFrame, color: object, marker: str) -> None:
    """Marks the published win rate of such runs, if there is one, at the right edge."""
    first = runs.iloc[0]
    theirs = published.win_rates()
    algorithm = first.algorithm.rsplit("/", 1)[-1]
    match = theirs[(theirs.algorithm == algorithm) & (theirs["map"] == first["map"]) & (theirs.rule == first.rule)]
    where: dict[str, Any] = {"transform": plot.get_yaxis_transform(), "clip_on": False, "linestyle": ""}
    for won in match.battle_won_mean:
        plot.plot([0.97], [won], marker=marker, color=color, markersize=7, markerfacecolor="none", **where)
        plot.plot([], [], "o", color="0.4", markerfacecolor="none", label="open: published, real game, 2M env steps")


def _order(curves: pd.DataFrame, axis: str, value: str) -> tuple:
    """Returns a sort key: maps go by their numbers of agents, rules by clip range, other values by name."""
    if axis == "map":
        return (curves[curves["map"] == value].num_agents.iloc[0], value)
    if axis == "rule":
        clip = clip_range(value)
        return (clip is None, clip or 0.0, value)
    return (value,)


def _name(axis: str, value: str) -> str:
    if axis == "rule":
        clip = clip_range(value)
        return value if clip is None else _clip(clip)
    if axis == "algorithm":
        return ALGORITHMS.get(value.rsplit("/", 1)[-1], value)
    return value


def _panel_title(curves: pd.DataFrame, axis: str, value: str) -> str:
    if axis == "map":
        return f"{value}, N = {curves[curves['map'] == value].num_agents.iloc[0]}"
    return _name(axis, value)


def _clip(clip: float) -> str:
    return "no clipping" if clip >= published.NO_CLIPPING else f"clip {clip:g}"
