"""A sweep's training runs as the field reports them: per map, over all maps, as tables, plots and marl-eval's JSON.

Protocol of Gorsane et al. 2022 (arXiv:2209.10485), statistics of Agarwal et al. 2021 (arXiv:2108.13264): evaluations at
equal intervals, the best policy in fresh episodes (the absolute metric), interquartile means with stratified bootstrap
intervals, performance profiles, probability of improvement, and sample efficiency. The score of a run is the share of
battles that it wins.
"""

import functools
import itertools
import json
import pathlib
import shlex
from collections.abc import Iterable
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import figure

from tf_marl import tracking
from tf_marl.experiments import statistics
from tf_marl.experiments.statistics import Estimate, estimate
from tf_marl.experiments.sweep import Run
from tf_marl.experiments.tables import markdown
from tf_marl.plots import MARKERS, STYLES, colors, panels, write

WON, BEST_WON, RETURN = "eval/battle_won_mean", "best/battle_won_mean", "eval/return_mean"
LEVELS = (0.5, 0.8, 0.9)  # win rates whose first evaluation is told, in env steps
AGGREGATES = {
    "IQM": statistics.interquartile_mean,
    "median": statistics.median,
    "mean": statistics.mean,
    "optimality gap": statistics.optimality_gap,
}
_THRESHOLDS = np.linspace(0.0, 1.0, 21)  # of performance profiles
_SHARES = np.linspace(0.05, 1.0, 20)  # of each map's env steps, for sample efficiency over maps


def write_report(
    runs: pd.DataFrame, curves: pd.DataFrame, folder: pathlib.Path, scripted: pd.DataFrame | None = None
) -> list[pathlib.Path]:
    """Writes the report on training runs.

    Args:
        runs: rows of a sweep's table `runs` (`sweep.open_tables`).
        curves: the rows of its table `curves` that belong to them.
        folder: an existing folder, for `report.md`, `maps.csv` and `.tex`, `aggregates.csv` and `.tex`,
            `improvement.csv` and `.tex`, `marl_eval.json` and the plots.
        scripted: win rates of scripted teams, as `baselines` measures them: columns `map`, `policy` and
            `battle_won_mean`. None leaves them out.
    Returns:
        The paths of all files.
    Raises:
        ValueError: there are no runs.
    """
    if runs.empty:
        raise ValueError("there are no such runs")
    runs, curves = _labelled(runs), _labelled(curves)
    curves = curves[curves[WON].notna()]
    maps = of_maps(runs, curves, scripted)
    aggregates, improvement = over_maps(runs), pairs(runs)
    files = []
    for name, table in (("maps", maps), ("aggregates", aggregates), ("improvement", improvement)):
        files += [folder / f"{name}.csv", folder / f"{name}.tex"]
        table.to_csv(files[-2], index=False, float_format="%.4g")
        files[-1].write_text(table.drop(columns="command", errors="ignore").to_latex(index=False, float_format="%.3g"))
    drawings = {"learning_curves": _learning_curves(curves)}
    if len(_common_maps(runs)):
        drawings |= {"aggregates": _aggregates(aggregates), "profiles": _profiles(runs)}
        drawings |= {"sample_efficiency": _sample_efficiency(runs, curves)}
    if len(improvement):
        drawings["improvement"] = _improvement(improvement)
    files += [write(drawing, folder, name) for name, drawing in drawings.items()]
    files += [folder / "marl_eval.json", folder / "report.md"]
    files[-2].write_text(json.dumps(marl_eval(runs, curves), indent=1) + "\n")
    files[-1].write_text(_page(runs, maps, aggregates, improvement, drawings), "utf-8")
    return files


def published_win_rates() -> pd.Series:
    """Returns what the authors of MAPPO published of their IPPO and MAPPO in StarCraft II (Yu et al. 2022).

    Returns:
        Mean win rates by (map, algorithm); of recurrent and feed-forward networks the one that won more, at the
        largest number of env steps.
    """
    with resources.files("tf_marl").joinpath("data/win_rates_smac_published.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, comment="#").sort_values("env_steps")
    last = table.groupby(["map", "algorithm", "network"]).battle_won_mean.last()
    return last.groupby(["map", "algorithm"]).max()


def of_maps(runs: pd.DataFrame, curves: pd.DataFrame, scripted: pd.DataFrame | None = None) -> pd.DataFrame:
    """Computes what each algorithm's runs came to on each map.

    Args:
        runs: rows of the table `runs`, with the column `label`.
        curves: rows of the table `curves` at evaluations, with the column `label`.
        scripted: win rates of scripted teams, as `write_report` takes them.
    Returns:
        A row for each map and label: the last evaluation's win rate (median, interquartile mean and its interval) and
        return, the best policy's win rate in fresh episodes, the published win rate of that algorithm in StarCraft II
        and the best scripted team's here (nan if not known), env steps to some win rates (the median over runs, nan if
        fewer than half get there), number of seeds, env steps, minutes of training on the cores that a run had, and the
        command of the first run.
    """
    published = published_win_rates()
    by_script = pd.Series(dtype=float) if scripted is None else scripted.groupby("map").battle_won_mean.max()
    rows = []
    for (map_name, label), group in runs.groupby(["map", "label"], sort=False):
        won = estimate(statistics.interquartile_mean, [group[WON]])
        own = curves[(curves["map"] == map_name) & (curves.label == label)]
        reached = {f"steps_to_{level:g}": _steps_to(own, level, group.seed) for level in LEVELS}
        first = group.sort_values("seed").iloc[0]
        bindings = tuple(filter(None, str(first.settings).split("; "))) if pd.notna(first.settings) else ()
        run = Run(first.algorithm, first["map"], first.rule, int(first.seed), bindings)
        rows.append(
            {
                "map": map_name,
                "algorithm": label,
                "seeds": len(group),
                "env_steps": group.env_steps.median(),
                "won_median": group[WON].median(),
                "won_iqm": won.value,
                "won_low": won.low,
                "won_high": won.high,
                "best_won": group[BEST_WON].median() if BEST_WON in group else np.nan,
                "published": published.get((map_name, _base(first.algorithm)), np.nan),
                "scripted": by_script.get(map_name, np.nan),
                "return_median": group[RETURN].median(),
                **reached,
                "minutes": group.seconds.median() / 60.0,
                "command": "tf-marl train " + shlex.join(run.arguments()),
            }
        )
    return pd.DataFrame(rows)


def over_maps(runs: pd.DataFrame) -> pd.DataFrame:
    """Computes each algorithm's aggregate win rates over the maps that all algorithms have runs on.

    Args:
        runs: rows of the table `runs`, with the column `label`.
    Returns:
        A row for each label and aggregate, with the estimate and its 95% interval.
    """
    maps = _common_maps(runs)
    rows = [
        {"algorithm": label, "maps": len(maps), "statistic": name} | estimate(statistic, scores)._asdict()
        for label, scores in _scores(runs, maps).items()
        for name, statistic in AGGREGATES.items()
        if maps
    ]
    return pd.DataFrame(rows, columns=["algorithm", "maps", "statistic", *Estimate._fields])


def pairs(runs: pd.DataFrame) -> pd.DataFrame:
    """Computes how likely a run of one algorithm wins more than a run of another, for each pair of them.

    Args:
        runs: rows of the table `runs`, with the column `label`.
    Returns:
        A row for each pair, over the maps that both have runs on, with the probability and its 95% interval.
    """
    rows = []
    for first, second in itertools.combinations(dict.fromkeys(runs.label), 2):
        pair = runs[runs.label.isin([first, second])]
        maps = _common_maps(pair)
        if maps:
            scores = _scores(pair, maps)
            found = estimate(statistics.probability_of_improvement, [*scores[first], *scores[second]])
            rows.append({"first": first, "second": second, "maps": len(maps)} | found._asdict())
    return pd.DataFrame(rows, columns=["first", "second", "maps", *Estimate._fields])


def marl_eval(runs: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Any]:
    """Returns the evaluations in the layout that marl-eval reads.

    marl-eval has a list with an entry per episode; tables have the mean over an evaluation's episodes, so each list has
    that one entry. The seconds until an evaluation are those of the run in proportion to its env steps.

    Args:
        runs: rows of the table `runs`, with the column `label`.
        curves: rows of the table `curves` at evaluations, with the column `label`.
    Returns:
        {"smac": {map: {algorithm: {"seed_0": {"step_0": {...}, ..., "absolute_metrics": {...}}}}}}.
    """
    tasks: dict[str, Any] = {}
    for run in runs.to_dict("records"):
        own = curves[(curves["map"] == run["map"]) & (curves.label == run["label"]) & (curves.seed == run["seed"])]
        steps = {
            f"step_{i}": {
                "step_count": int(row["env_steps"]),
                "elapsed_time": run["seconds"] * row["env_steps"] / run["env_steps"],
                "battle_won": [row[WON]],
                "mean_episode_return": [row[RETURN]],
            }
            for i, row in enumerate(own.sort_values("env_steps").to_dict("records"))
        }
        if pd.notna(run.get(BEST_WON)):
            best = {"battle_won": [run[BEST_WON]], "mean_episode_return": [run["best/return_mean"]]}
            steps["absolute_metrics"] = best
        name = run["label"].replace(",", "")
        tasks.setdefault(run["map"], {}).setdefault(name, {})[f"seed_{run['seed']}"] = steps
    return {"smac": tasks}


def agreement(maps: pd.DataFrame) -> pd.DataFrame:
    """Compares median win rates with the published ones over maps.

    Args:
        maps: what `of_maps` returned.
    Returns:
        A row for each label with at least three maps whose published win rate is known: the number of these maps,
        Spearman's rank correlation `rank_correlation` (nan if one side is constant), and the mean of ours minus the
        published, `difference`.
    """
    rows = []
    for label, group in maps[maps.published.notna()].groupby("algorithm", sort=False):
        if len(group) >= 3:
            rho = group.won_median.rank().corr(group.published.rank())
            difference = (group.won_median - group.published).mean()
            rows.append({"algorithm": label, "maps": len(group), "rank_correlation": rho, "difference": difference})
    return pd.DataFrame(rows, columns=["algorithm", "maps", "rank_correlation", "difference"])


def _base(algorithm: str) -> str:
    """Returns the name of the published algorithm that a gin file's belongs to: ippo of paper/ippo and ippo_rnn."""
    return algorithm.removeprefix("paper/").removesuffix("_rnn")


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """Adds the column `label`: the algorithm, and the rule of its clip range if the table has several of it."""
    several = table.groupby("algorithm").rule.nunique() > 1
    name = table.algorithm.str.removeprefix("paper/")
    return table.assign(label=name.where(~table.algorithm.map(several), name + ", " + table.rule))


def _common_maps(runs: pd.DataFrame) -> list[str]:
    """Returns the maps that all labels have runs on."""
    labels = runs.groupby("map", sort=False).label.nunique()
    return list(labels[labels == runs.label.nunique()].index)


def _scores(runs: pd.DataFrame, maps: Iterable[str], metric: str = WON) -> dict[str, list[np.ndarray]]:
    """Returns the win rates of each label's runs, [runs] for each map."""
    return {
        label: [group[group["map"] == name][metric].to_numpy() for name in maps]
        for label, group in runs.groupby("label", sort=False)
    }


def _steps_to(curves: pd.DataFrame, level: float, seeds: pd.Series) -> float:
    first = curves[curves[WON] >= level].groupby("seed").env_steps.min().reindex(seeds)
    reached = np.median(first.fillna(np.inf))
    return float(reached) if np.isfinite(reached) else np.nan


# Plots


def _styled(names: Iterable[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    names = list(names)
    for name, color, style, marker in zip(
        names, colors(len(names)), itertools.cycle(STYLES), itertools.cycle(MARKERS), strict=False
    ):
        yield name, {"color": color, "linestyle": style, "marker": marker, "markersize": 4}


def _learning_curves(curves: pd.DataFrame) -> figure.Figure:
    maps = list(dict.fromkeys(curves["map"]))
    columns = min(4, len(maps))
    drawing, plots = panels(-(-len(maps) // columns), columns, sharey=True)
    for plot, name in itertools.zip_longest(plots, maps):
        if name is None:
            plot.axis("off")
            continue
        for label, style in _styled(dict.fromkeys(curves.label)):
            own = curves[(curves["map"] == name) & (curves.label == label)].sort_values("env_steps")
            if own.empty:
                continue
            own = own.assign(turn=own.groupby("seed").cumcount())
            turns = own.groupby("turn")
            steps, won = turns.env_steps.median() / 1e6, turns[WON]
            plot.plot(steps, won.median(), label=label, **style)
            plot.fill_between(steps, won.min(), won.max(), color=style["color"], alpha=0.15, linewidth=0)
        plot.set(title=name, xlabel="million env steps", ylabel="share of greedy battles won", ylim=(-0.03, 1.03))
    plots[0].legend(fontsize="small")
    drawing.suptitle("Learning curves: median and range over seeds")
    return drawing


def _aggregates(aggregates: pd.DataFrame) -> figure.Figure:
    names = list(AGGREGATES)
    drawing, plots = panels(1, len(names), sharey=True)
    labels = list(dict.fromkeys(aggregates.algorithm))
    for plot, name in zip(plots, names, strict=True):
        rows = aggregates[aggregates.statistic == name].set_index("algorithm").loc[labels]
        places = np.arange(len(labels))[::-1]
        plot.hlines(places, rows.low, rows.high, color="0.6", linewidth=4)
        plot.plot(rows.value, places, "k|", markersize=14)
        plot.set_yticks(places, labels)
        plot.set(title=name, xlabel="win rate" if name != "optimality gap" else "1 - win rate", xlim=(-0.02, 1.02))
    drawing.suptitle(f"Win rates over {aggregates.maps.iloc[0]} maps, with 95% intervals")
    return drawing


def _profiles(runs: pd.DataFrame) -> figure.Figure:
    drawing, (plot,) = panels(1, 1)
    for label, style in _styled(dict.fromkeys(runs.label)):
        scores = _scores(runs, _common_maps(runs))[label]
        found = [estimate(functools.partial(statistics.share_above, each), scores) for each in _THRESHOLDS]
        value, low, high = np.transpose(found)
        plot.plot(_THRESHOLDS, value, label=label, **style)
        plot.fill_between(_THRESHOLDS, low, high, color=style["color"], alpha=0.15, linewidth=0)
    plot.set(xlabel="win rate", ylabel="share of runs that win more", title="Performance profiles", ylim=(-0.03, 1.03))
    plot.legend(fontsize="small")
    return drawing


def _improvement(improvement: pd.DataFrame) -> figure.Figure:
    drawing, (plot,) = panels(1, 1)
    places = np.arange(len(improvement))[::-1]
    plot.hlines(places, improvement.low, improvement.high, color="0.6", linewidth=4)
    plot.plot(improvement.value, places, "k|", markersize=14)
    plot.axvline(0.5, color="tab:red", linewidth=1, linestyle=":")
    plot.set_yticks(places, [f"{row.first} > {row.second}" for row in improvement.itertuples()])
    plot.set(xlabel="probability", title="A run of the first wins more", xlim=(-0.02, 1.02))
    return drawing


def _sample_efficiency(runs: pd.DataFrame, curves: pd.DataFrame) -> figure.Figure:
    """Draws the interquartile mean over maps against the share of each map's env steps."""
    drawing, (plot,) = panels(1, 1)
    maps = _common_maps(runs)
    for label, style in _styled(dict.fromkeys(runs.label)):
        found = []
        for share in _SHARES:
            scores = []
            for name in maps:
                own = curves[(curves["map"] == name) & (curves.label == label)]
                done = own[own.env_steps <= share * own.groupby("seed").env_steps.transform("max")]
                last = done.sort_values("env_steps").groupby("seed")[WON].last()
                scores.append(last.reindex(own.seed.unique()).fillna(0.0).to_numpy())  # nothing is won before
            found.append(estimate(statistics.interquartile_mean, scores))
        value, low, high = np.transpose(found)
        plot.plot(_SHARES, value, label=label, **style)
        plot.fill_between(_SHARES, low, high, color=style["color"], alpha=0.15, linewidth=0)
    plot.set(xlabel="share of each map's env steps", ylabel="IQM of the win rate", title="Sample efficiency")
    plot.set_ylim(-0.03, 1.03)
    plot.legend(fontsize="small")
    return drawing


# The page


def _page(
    runs: pd.DataFrame,
    maps: pd.DataFrame,
    aggregates: pd.DataFrame,
    improvement: pd.DataFrame,
    drawings: Iterable[str],
) -> str:
    lines = [
        "# Training runs",
        "",
        f"`tf-marl report`: {len(runs)} runs, {runs.env_steps.sum():,.0f} env steps,"
        f" {runs.seconds.sum() / 3600:.1f} hours. Code of the runs: {', '.join(sorted(runs.git_commit.unique()))};"
        f" of this page: {tracking.git_commit()}.",
        "",
        "Won is the share of greedy battles won in the last evaluation: the median over seeds, the interquartile mean",
        "(IQM) with its 95% interval (stratified bootstrap). Best is the best policy's share in fresh episodes, the",
        "median over seeds. Published is StarCraft II's (Yu et al. 2022, the better of recurrent and feed-forward",
        "networks); scripted is the best scripted team's here. Steps to 80% is the median over seeds of the env steps",
        "at the first such evaluation.",
        "",
    ]
    titles = ["map", "algorithm", "seeds", "env steps", "won", "IQM", "best"]
    titles += ["published", "scripted", "return", "steps to 80%", "minutes"]
    rows = [
        [
            row["map"],
            row["algorithm"],
            row["seeds"],
            f"{row['env_steps']:,.0f}",
            _share(row["won_median"]),
            _interval(row["won_iqm"], row["won_low"], row["won_high"]),
            _share(row["best_won"]),
            _share(row["published"]),
            _share(row["scripted"]),
            f"{row['return_median']:.1f}",
            "" if np.isnan(row["steps_to_0.8"]) else f"{row['steps_to_0.8']:,.0f}",
            f"{row['minutes']:.1f}",
        ]
        for row in maps.to_dict("records")
    ]
    lines += [markdown(titles, rows), "", "`maps.csv` has the rest, with the command of each first run.", ""]
    if len(agrees := agreement(maps)):
        rows = [
            [row.algorithm, row.maps, _share(row.rank_correlation), f"{row.difference:+.2f}"]
            for row in agrees.itertuples()
        ]
        lines += [
            "## Beside published win rates",
            "",
            "Over maps: Spearman's rank correlation of ours, the median over",
        ]
        lines += ["seeds, with the published ones, and the mean of ours minus theirs.", ""]
        lines += [markdown(["algorithm", "maps", "rank correlation", "difference"], rows), ""]
    if len(aggregates):
        lines += ["## Over maps", "", f"Over the {aggregates.maps.iloc[0]} maps that all have.", ""]
        table = aggregates.pivot_table(index="algorithm", columns="statistic", values="value", sort=False)
        told = {
            (row.algorithm, row.statistic): _interval(row.value, row.low, row.high) for row in aggregates.itertuples()
        }
        rows = [[label, *(told[label, name] for name in AGGREGATES)] for label in table.index]
        lines += [markdown(["algorithm", *AGGREGATES], rows), ""]
    if len(improvement):
        rows = [
            [row.first, row.second, row.maps, _interval(row.value, row.low, row.high)]
            for row in improvement.itertuples()
        ]
        lines += ["## Probability of improvement", "", "That a run of the first wins more than one of the second.", ""]
        lines += [markdown(["first", "second", "maps", "probability"], rows), ""]
    lines += [f"![{name.replace('_', ' ')}]({name}.png)\n" for name in drawings]
    return "\n".join(lines).rstrip() + "\n"


def _share(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f}" if np.isnan(low) else f"{value:.2f} ({low:.2f} to {high:.2f})"
