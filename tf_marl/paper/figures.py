"""Tables in, plots out: nothing here trains. Plots are readable in grey: what colours tell, line styles tell too."""

import itertools
import pathlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import axes, colormaps, figure, rc_context, ticker
from scipy import stats

from tf_marl.experiments import statistics

NO_CLIPPING = 10.0  # the clip range that the paper's data calls none
EPOCHS_COMPARED = (10, 50, 99)
QUANTITIES = {
    "joint_tv_sum": "sum bound (the paper's)",
    "joint_tv_product": "product bound",
    "joint_tv": "joint TV itself",
}

# What figures 2 to 8 show of a run: metrics, and their axes' labels.
METRICS = {
    "won": ("eval/battle_won_mean", "share of greedy battles won"),
    "return": ("eval/return_mean", "return of greedy battles"),
    "sum": ("trust_region/joint_tv_sum_max", "sum bound (the paper's)"),
    "product": ("trust_region/joint_tv_product_max", "product bound"),
    "joint": ("trust_region/joint_tv_max", "joint TV, Monte Carlo"),
}
ALGORITHMS = {"ippo": "IPPO", "mappo": "MAPPO", "jr_ppo": "joint-ratio PPO"}
POINTS = 30  # of a curve at most: what lies between two is averaged

_PERCENTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)
_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
_MARKERS = "osDv^<>"


def write(drawing: figure.Figure, folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    """As pixels and as vectors: `name.png`, `name.svg`."""
    paths = [folder / f"{name}.{suffix}" for suffix in ("png", "svg")]
    with rc_context({"svg.hashsalt": name}):  # equal plots are equal files
        for path in paths:
            drawing.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def published() -> pd.DataFrame:
    """What the paper's data says of figure 1, at the learning rate of its experiments; means over its seeds."""
    text = resources.files("tf_marl").joinpath("data/figure_1_published.csv")
    with text.open(encoding="utf-8") as file:
        table = pd.read_csv(file, comment="#")
    return table[table.actor_learning_rate == 5e-4]


def published_win_rates() -> pd.DataFrame:
    """What the authors' plots say: IPPO after 2 million env steps of the real game, by map and rule."""
    with resources.files("tf_marl").joinpath("data/win_rates_published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, comment="#", dtype={"rule": str}, keep_default_na=False)


def clip_range(rule: str) -> float | None:
    """The fixed clip range that a rule of `launch.runs` stands for; None if it stands for another rule."""
    try:
        return NO_CLIPPING if rule == "none" else float(rule)
    except ValueError:
        return None


def trust_region(updates: pd.DataFrame, title: str) -> figure.Figure:
    """A run's trust region over training.

    Args:
        updates: a row per update: `env_steps` and the metrics `trust_region/alpha`, `trust_region/joint_tv_max`,
            `trust_region/joint_tv_product_max`, `trust_region/joint_tv_sum_max`, `trust_region/agent_tv_max`.
        title: of the plot.
    """
    drawing, [plot] = _panels(1, 1)
    names = {
        "joint_tv_sum_max": "sum bound",
        "joint_tv_product_max": "product bound",
        "joint_tv_max": "joint TV",
        "agent_tv_max": "one agent's TV",
    }
    for (name, label), style in zip(names.items(), _STYLES, strict=False):
        column = updates[f"trust_region/{name}"]
        smooth = column.rolling(max(len(column) // 50, 1), min_periods=1).max()
        plot.plot(updates.env_steps, smooth, linestyle=style, color=_grey(name == "joint_tv_max"), label=label)
    plot.plot(updates.env_steps, updates["trust_region/alpha"], color="tab:red", linewidth=1, label="alpha")
    plot.set(xlabel="env steps", ylabel="total variation, largest over states", yscale="log")
    plot.set_title(title, parse_math=False)  # a run's name is no formula
    plot.xaxis.set_major_formatter("{x:,.0f}")
    plot.yaxis.set_major_formatter("{x:g}")
    plot.yaxis.set_minor_formatter("")
    plot.legend(fontsize="small")
    return drawing


def epochs(history: Mapping[str, np.ndarray], title: str) -> figure.Figure:
    """One update epoch by epoch: the distribution of each quantity over states, as percentiles.

    Args:
        history: of `diagnostics.Full.distribution`, [epochs + 1, 101] for each quantity.
        title: of the plot.
    """
    names = {"agent_tv": "one agent's TV"} | QUANTITIES
    drawing, plots = _panels(1, len(names), sharey=True)
    for plot, (name, label) in zip(plots, names.items(), strict=True):
        for percentile, style in zip((100, 99, 90, 50), _STYLES, strict=False):
            color = _grey(percentile == 100)
            plot.plot(history[name][:, percentile], linestyle=style, color=color, label=_percentile(percentile))
        plot.set(xlabel="epochs of the update", title=label)
        plot.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    plots[0].set_ylabel("total variation")
    plots[0].legend(fontsize="small")
    drawing.suptitle(title, parse_math=False)
    return drawing


def epochs_table(history: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The same as a table: a row per epoch; some percentiles of each distribution, and the scalars as they are."""
    columns = {}
    for name, values in history.items():
        if values.ndim == 1:
            columns[name] = values
        else:
            columns |= {f"{name}_p{percentile}": values[:, percentile] for percentile in _PERCENTILES}
    return pd.DataFrame(columns).rename_axis("epoch")


def figure_1a(table: pd.DataFrame) -> figure.Figure:
    """Ratios by epoch, a panel for each clip range. Args: table, as `launch.figure` makes it, here of one map."""
    clips = sorted(table.clip_epsilon.unique())
    drawing, plots = _panels(2, -(-len(clips) // 2), sharex=True)
    theirs = published()
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
        if clip < NO_CLIPPING:
            for edge in (1 - clip, 1 + clip):
                plot.axhline(edge, color="tab:red", linewidth=1, linestyle=":")
        plot.set(yscale="log", title=_clip(clip))
        low, high = plot.get_ylim()
        ticks = (0.001, 0.01, 0.1, 1, 10) if high > 5 else (0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1, 1.2, 1.5, 2, 3, 4)
        plot.set_yticks([tick for tick in ticks if low <= tick <= high])
        plot.yaxis.set_major_formatter("{x:g}")
        plot.minorticks_off()
    for plot in plots[: len(clips)]:
        plot.set(xlabel="epoch", ylabel="ratio, least and largest")
    plots[0].legend(fontsize="small")
    drawing.suptitle(f"Figure 1a: ratios in the first update, {table['map'].iloc[0]}; dotted: the clip range")
    return drawing


def figure_1b(percentiles: pd.DataFrame) -> figure.Figure:
    """Distribution of one agent's total variation, by clip range and epoch. Args: percentiles, of one map."""
    drawing, plots = _panels(1, len(EPOCHS_COMPARED), sharey=True)
    theirs = published()
    for plot, epoch in zip(plots, EPOCHS_COMPARED, strict=True):
        rows = percentiles[(percentiles.epoch == epoch) & (percentiles.quantity == "agent_tv")]
        for (clip, ours), style, color in zip(rows.groupby("clip_epsilon"), _STYLES, _colors(6), strict=False):
            _cdf(plot, ours, style, color, _clip(clip))
            match = theirs[
                (theirs["map"] == ours["map"].iloc[0]) & (theirs.clip_epsilon == clip) & (theirs.epoch == epoch)
            ]
            plot.plot(match.max_agent_tv_mean, [1.0] * len(match), "v", color=color, clip_on=False)
        plot.set(xlabel="one agent's total variation", title=f"epoch {epoch}", xscale="log", xlim=(1e-3, 1))
    plots[0].set_ylabel("share of decisions")
    plots[0].legend(fontsize="small")
    drawing.suptitle(f"Figure 1b: {percentiles['map'].iloc[0]}; triangles: the published largest, mean over seeds")
    return drawing


def figure_1c(percentiles: pd.DataFrame, table: pd.DataFrame) -> figure.Figure:
    """Distribution of the joint total variation by number of agents, and its largest against that number.

    Args: percentiles, table: of one clip range.
    """
    epoch = EPOCHS_COMPARED[-1]
    drawing, plots = _panels(1, len(QUANTITIES) + 1)
    theirs = published()
    clip = table.clip_epsilon.iloc[0]
    theirs = theirs[(theirs.clip_epsilon == clip) & (theirs.epoch == epoch)]
    for plot, (name, label) in zip(plots, QUANTITIES.items(), strict=False):
        rows = percentiles[(percentiles.epoch == epoch) & (percentiles.quantity == name)]
        groups = rows.groupby(["num_agents", "map"])
        for ((num_agents, map_name), ours), style, color in zip(groups, _STYLES, _colors(6), strict=False):
            _cdf(plot, ours, style, color, f"{num_agents}: {map_name}")
            if name == "joint_tv_sum":
                match = theirs[theirs["map"] == map_name].max_joint_tv_sum_mean
                plot.plot(match, [1.0] * len(match), "v", color=color, clip_on=False)
        plot.set(xlabel=f"total variation: {label}", ylabel="share of states", title=label)
    plots[0].legend(fontsize="small", title="agents")
    for (name, label), marker, style in zip(QUANTITIES.items(), "sDo", _STYLES, strict=False):
        fit = linear_fit(table, name, epoch)
        plots[-1].plot(
            fit.num_agents, fit.largest, marker, color=_grey(name == "joint_tv"), label=f"{label}: {fit.text}"
        )
        ends = np.array([1, 11])
        plots[-1].plot(ends, fit.intercept + fit.slope * ends, style, color=_grey(name == "joint_tv"), linewidth=1)
    plots[-1].plot(theirs.num_agents, theirs.max_joint_tv_sum_mean, "v", color="tab:blue", label="published sum")
    room = 1.5 * theirs.max_joint_tv_sum_mean.max()  # for the legend
    plots[-1].set(xlabel="agents N", ylabel="largest over states, mean over seeds", title="against N", ylim=(0, room))
    plots[-1].legend(fontsize="x-small")
    drawing.suptitle(f"Figure 1c: {_clip(clip)}, epoch {epoch}; triangles: the published largest sum, mean over seeds")
    return drawing


def figure_1d(percentiles: pd.DataFrame) -> figure.Figure:
    """Distribution of the joint total variation by epoch. Args: percentiles, of one map and one clip range."""
    drawing, plots = _panels(1, len(QUANTITIES), sharex=True, sharey=True)
    theirs = published()
    map_name, clip = percentiles["map"].iloc[0], percentiles.clip_epsilon.iloc[0]
    theirs = theirs[(theirs["map"] == map_name) & (theirs.clip_epsilon == clip)]
    for plot, (name, label) in zip(plots, QUANTITIES.items(), strict=True):
        groups = percentiles[percentiles.quantity == name].groupby("epoch")
        for (epoch, ours), style, color in zip(groups, itertools.cycle(_STYLES), _colors(len(groups)), strict=False):
            _cdf(plot, ours, style, color, f"epoch {epoch}")
            if name == "joint_tv_sum":
                match = theirs[theirs.epoch == epoch].max_joint_tv_sum_mean
                plot.plot(match, [1.0] * len(match), "v", color=color, clip_on=False)
        plot.set(xlabel=f"total variation: {label}", title=label)
    plots[0].set_ylabel("share of states")
    plots[-1].legend(fontsize="small")
    drawing.suptitle(f"Figure 1d: {map_name}, {_clip(clip)}; triangles: the published largest sum, mean over seeds")
    return drawing


def learning_curves(curves: pd.DataFrame, rows: Sequence[str], columns: str, lines: str, title: str) -> figure.Figure:
    """Runs over training: means over seeds, with 95% bootstrap intervals as bands where there are several.

    A panel for each metric and each value on the axis `columns`, with a curve for each value on the axis `lines`. Where
    columns are maps, a last one is the interquartile mean over the runs of all that were trained for as long; its
    intervals are stratified by map. Open marks at the right are published win rates.

    Args:
        curves: `curves.csv` of `launch.runs.Tables`, or some of it.
        rows: of `METRICS`.
        columns, lines: of `algorithm`, `map` and `rule`.
        title: of the whole.
    """
    panels = sorted(curves[columns].unique(), key=lambda value: _order(curves, columns, value))
    values = sorted(curves[lines].unique(), key=lambda value: _order(curves, lines, value))
    looks = dict(zip(values, zip(itertools.cycle(_STYLES), _colors(len(values)), _MARKERS, strict=False), strict=False))
    lengths = curves.groupby(columns).env_steps.max()
    long = lengths[lengths >= 0.9 * lengths.max()].index
    inside = [curves[curves[columns] == panel] for panel in panels]
    titles = [_panel_title(curves, columns, panel) for panel in panels]
    if together := columns == "map" and len(long) > 1:
        inside.append(curves[curves["map"].isin(long)])
        titles.append(f"{len(long)} maps together: interquartile mean")
    drawing, plots = _panels(len(rows), len(inside), sharey="row", sharex="col")
    for plot, (row, column) in zip(plots, itertools.product(rows, range(len(inside))), strict=True):
        metric, all_maps = METRICS[row][0], together and column == len(panels)
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
    """What rules do to updates as the team grows: a panel a metric of the trust region, and one of the return.

    Points are means over updates and seeds (of the return: of the last evaluations), bars 95% bootstrap intervals.

    Args: curves, as for `learning_curves`, of one algorithm; title.
    """
    names = ["sum", "product", "joint", "return"]
    drawing, plots = _panels(1, len(names))
    rules = sorted(curves.rule.unique(), key=lambda rule: _order(curves, "rule", rule))
    for plot, name in zip(plots, names, strict=True):
        metric, label = METRICS[name]
        for i, (rule, color) in enumerate(zip(rules, _colors(len(rules)), strict=True)):
            runs = curves[curves.rule == rule].dropna(subset=[metric]).sort_values("env_steps")
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
                linestyle=_STYLES[i],
                color=color,
                marker=_MARKERS[i],
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


def exact_updates(table: pd.DataFrame, quantity: str, label: str, limit: bool = False) -> figure.Figure:
    """A quantity of exact updates against the clip range or alpha; a row for each rule, a column for each algorithm.

    Args:
        table: a row for each `num_agents`, `algorithm`, `rule` and its `value`, with the quantity; an infinite value is
            no clipping.
        quantity: the column.
        label: of the vertical axis.
        limit: whether to draw alpha itself, where a rule is to hold the quantity below it.
    """
    algorithms = {name: ALGORITHMS[name] for name in table.algorithm.unique()}
    rules = {
        "fixed": "clip range epsilon",
        "per_agent": "alpha, for a clip range of alpha / N",
        "backtrack": "alpha, by backtracking, nothing clipped",
    }
    drawing, plots = _panels(len(rules), len(algorithms), sharex=True, sharey=True)
    no_clipping = 4.0  # where it stands on the axis
    for plot, (rule, algorithm) in zip(plots, itertools.product(rules, algorithms), strict=True):
        groups = table[(table.rule == rule) & (table.algorithm == algorithm)].groupby("num_agents")
        for (num_agents, rows), style, color in zip(groups, _STYLES, _colors(len(groups)), strict=False):
            rows = rows.sort_values("value")
            x = rows.value.replace(np.inf, no_clipping)
            plot.plot(x, rows[quantity], "o", linestyle=style, color=color, markersize=4, label=f"N = {num_agents}")
        if limit and rule != "fixed":
            alphas = sorted(table[table.rule == rule].value.unique())
            plot.plot(alphas, alphas, color="tab:red", linewidth=1, label="alpha")
        plot.set(title=algorithms[algorithm], xlabel=rules[rule], xscale="log")
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
    """The true return after every update, mean over learners; a row for each task, a column for each number of agents.

    Args:
        curves: of one algorithm, a row for each `task`, `num_agents`, `rule`, `value` and `update`, with the return
            `eta`.
        rules: those to draw, (rule, value), and their labels.
    """
    tasks, teams = list(curves.task.unique()), sorted(curves.num_agents.unique())
    drawing, plots = _panels(len(tasks), len(teams), sharex=True)
    for plot, (task, num_agents) in zip(plots, itertools.product(tasks, teams), strict=True):
        for ((rule, value), label), style, color in zip(rules.items(), _STYLES, _colors(len(rules)), strict=False):
            rows = curves[(curves.task == task) & (curves.num_agents == num_agents)]
            rows = rows[(rows.rule == rule) & (rows.value == value)]
            plot.plot(rows["update"], rows.eta, linestyle=style, color=color, label=label)
        plot.set(title=f"{task}, N = {num_agents}", xlabel="updates")
    plots[0].set_ylabel("return times 1 - gamma")
    plots[0].legend(fontsize="small")
    return drawing


class LinearFit:
    """The largest of a quantity against the number of agents, means over seeds, and a straight line through it."""

    def __init__(self, num_agents: Sequence[int], largest: Sequence[float]):
        self.num_agents, self.largest = num_agents, largest
        line = stats.linregress(num_agents, largest)
        self.slope, self.intercept, self.r_squared = line.slope, line.intercept, line.rvalue**2
        self.text = f"slope {self.slope:.4f}, R² {self.r_squared:.2f}"


def beside_the_game(table: pd.DataFrame) -> figure.Figure:
    """Win rates and final rewards of scripted teams, ours against StarCraft II's: a point for each script on each map.

    Args: table, as `calibration.compare` makes it.
    """
    drawing, plots = _panels(1, 2)
    ends = {
        "won": (np.abs(table[["won_low", "won_high"]].sub(table.won, axis=0)).T.to_numpy(), "battles won"),
        "reward": (table.reward_std, "final reward"),
    }
    scripts = list(dict.fromkeys(table.script))
    for plot, (name, (spread, label)) in zip(plots, ends.items(), strict=True):
        plot.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        plot.errorbar(table[name], table[f"our_{name}"], xerr=spread, fmt="none", ecolor="0.85", zorder=1)
        for script, color, marker in zip(scripts, _colors(len(scripts)), _MARKERS, strict=False):
            rows = table[table.script == script]
            plot.plot(rows[name], rows[f"our_{name}"], marker, color=color, label=script)
        plot.set(xlabel=f"{label}, StarCraft II", ylabel=f"{label}, ours")
    for row in table[table.difference.abs() > 0.1].itertuples():
        place = row.reward, row.our_reward
        plots[1].annotate(row.map, place, fontsize=7, xytext=(5, -9), textcoords="offset points")
    plots[1].legend(fontsize=8)
    return drawing


def linear_fit(table: pd.DataFrame, quantity: str, epoch: int) -> LinearFit:
    """Args: table, of one clip range; quantity, of `QUANTITIES`; epoch."""
    means = table[table.epoch == epoch].groupby("num_agents")[f"{quantity}_max"].mean()
    return LinearFit(list(means.index), list(means))


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Ours over published, of the largest total variations: a row for each map, clip range and epoch they both have."""
    names = {"agent_tv_max": "max_agent_tv_mean", "joint_tv_sum_max": "max_joint_tv_sum_mean"}
    keys = ["map", "num_agents", "clip_epsilon", "epoch"]
    ours = table[table.epoch.isin(EPOCHS_COMPARED)].groupby(keys)[list(names)].mean()
    both = ours.join(published().set_index(keys)[list(names.values())], how="inner")
    for our_name, their_name in names.items():
        both[our_name.replace("_max", "_ratio")] = both[our_name] / both[their_name]
    return both.reset_index().sort_values(["num_agents", "clip_epsilon", "epoch"])


def _panels(rows: int, columns: int, **options) -> tuple[figure.Figure, list[axes.Axes]]:
    drawing = figure.Figure(figsize=(1 + 4 * columns, 1 + 3.2 * rows), layout="constrained")
    plots = drawing.subplots(rows, columns, squeeze=False, **options).ravel()
    for plot in plots:
        plot.grid(color="0.9")
        plot.spines[["top", "right"]].set_visible(False)
    return drawing, list(plots)


def _cdf(plot: axes.Axes, rows: pd.DataFrame, style: object, color: object, label: str) -> None:
    """Percentiles as a curve: the mean over seeds. Args: rows, with columns p0 to p100."""
    columns = [name for name in rows.columns if name[0] == "p" and name[1:].isdigit()]
    shares = [int(name[1:]) / 100 for name in columns]
    plot.plot(rows[columns].mean(), shares, linestyle=style, color=color, label=label)


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
    """One curve with its band."""
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
    """The published win rate of such runs, at the right edge."""
    first = runs.iloc[0]
    theirs = published_win_rates()
    algorithm = first.algorithm.rsplit("/", 1)[-1]
    match = theirs[(theirs.algorithm == algorithm) & (theirs["map"] == first["map"]) & (theirs.rule == first.rule)]
    where: dict[str, Any] = {"transform": plot.get_yaxis_transform(), "clip_on": False, "linestyle": ""}
    for won in match.battle_won_mean:
        plot.plot([0.97], [won], marker=marker, color=color, markersize=7, markerfacecolor="none", **where)
        plot.plot([], [], "o", color="0.4", markerfacecolor="none", label="open: published, real game, 2M env steps")


def _order(curves: pd.DataFrame, axis: str, value: str) -> tuple:
    """Maps by size, rules by clip range, and what is neither by name."""
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


def _colors(count: int) -> np.ndarray:
    return colormaps["viridis"](np.linspace(0.0, 0.85, count))  # from dark to light


def _grey(stressed: bool) -> str:
    return "0" if stressed else "0.45"


def _clip(clip: float) -> str:
    return "no clipping" if clip >= NO_CLIPPING else f"clip {clip:g}"


def _percentile(percentile: int) -> str:
    return "largest" if percentile == 100 else f"{percentile}% are below"
