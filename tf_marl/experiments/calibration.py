"""The embedded battle held against StarCraft II: results of scripted teams here and in the game, cell by cell.

A cell is a script on a map. What was played, and by which rules: `scripted_games`.
"""

import pathlib
from collections.abc import Mapping
from importlib import resources

import numpy as np
import pandas as pd
from matplotlib import figure
from scipy import stats

from tf_marl import tracking
from tf_marl.plots import MARKERS, colors, panels, write

LEVEL = 0.05  # of the tests


def read_games(path: str | pathlib.Path | None = None) -> pd.DataFrame:
    """Games that were played in StarCraft II, a row each: `script`, `map`, `final_reward` in [0, 1], `won` 0 or 1.

    Args: path, of a table as CSV; by default the published games.
    Raises:
        ValueError: it lacks a column, or a value is none; names it.
        OSError: it cannot be read.
    """
    table = pathlib.Path(path) if path else resources.files("tf_marl").joinpath("data/real_game_scripts.csv")
    with table.open(encoding="utf-8") as file:
        games = pd.read_csv(file)
    if lacks := {"script", "map", "final_reward", "won"} - set(games):
        raise ValueError(f"{table} has no column {sorted(lacks)[0]}")
    for name, fits in (("final_reward", games.final_reward.between(0, 1)), ("won", games.won.isin([0, 1]))):
        if not fits.all():
            row = fits.idxmin()
            raise ValueError(f"{table}, line {row + 2}: {name} is {games[name][row]}")
    return games


def compare(games: pd.DataFrame, ours: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """The game's results beside ours, a row for each script on each map.

    Args:
        games: a row a game: `script`, `map`, `final_reward`, `won`.
        ours: by script and map, final rewards and wins of our battles, [B] each.
    Returns:
        `games` and `battles` that there were, win rates with the game's 95% interval (Wilson 1927), means and standard
        deviations of final rewards, their `difference`, and two verdicts: `p_won`, of the exact binomial test that our
        win rate is the game's, and `p_reward`, of Kolmogorov's and Smirnov's that final rewards are spread alike.
    """
    rows = []
    for (name, map_name), cell in games.groupby(["script", "map"], sort=False):
        rewards, wins = ours[name, map_name]
        count = int(cell.won.sum())
        # Where all or none of ours are won, as if another half had not been.
        rate = (wins.sum() + 0.5) / (len(wins) + 1)
        interval = stats.binomtest(count, len(cell)).proportion_ci(method="wilson")
        rows.append(
            {
                "script": name,
                "map": map_name,
                "games": len(cell),
                "won": count / len(cell),
                "won_low": interval.low,
                "won_high": interval.high,
                "reward": cell.final_reward.mean(),
                "reward_std": cell.final_reward.std(),
                "battles": len(wins),
                "our_won": wins.mean(),
                "our_reward": rewards.mean(),
                "our_reward_std": rewards.std(),
                "difference": rewards.mean() - cell.final_reward.mean(),
                "p_won": stats.binomtest(count, len(cell), rate).pvalue,
                "p_reward": stats.ks_2samp(cell.final_reward, rewards).pvalue,
            }
        )
    return pd.DataFrame(rows)


def summarise(table: pd.DataFrame) -> dict[str, float]:
    """How close they are, in four numbers."""
    differences = table.difference.abs()
    return {
        "not_refuted": float((table.p_won >= LEVEL).mean()),
        "rewards_not_refuted": float((table.p_reward >= LEVEL).mean()),
        "mean_difference": float(differences.mean()),
        "max_difference": float(differences.max()),
    }


def beside_the_game(table: pd.DataFrame) -> figure.Figure:
    """Win rates and final rewards of scripted teams, ours against StarCraft II's: a point for each script on each map.

    Args: table, as `compare` makes it.
    """
    drawing, plots = panels(1, 2)
    ends = {
        "won": (np.abs(table[["won_low", "won_high"]].sub(table.won, axis=0)).T.to_numpy(), "battles won"),
        "reward": (table.reward_std, "final reward"),
    }
    scripts = list(dict.fromkeys(table.script))
    for plot, (name, (spread, label)) in zip(plots, ends.items(), strict=True):
        plot.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        plot.errorbar(table[name], table[f"our_{name}"], xerr=spread, fmt="none", ecolor="0.85", zorder=1)
        for script, color, marker in zip(scripts, colors(len(scripts)), MARKERS, strict=False):
            rows = table[table.script == script]
            plot.plot(rows[name], rows[f"our_{name}"], marker, color=color, label=script)
        plot.set(xlabel=f"{label}, StarCraft II", ylabel=f"{label}, ours")
    for row in table[table.difference.abs() > 0.1].itertuples():
        place = row.reward, row.our_reward
        plots[1].annotate(row.map, place, fontsize=7, xytext=(5, -9), textcoords="offset points")
    plots[1].legend(fontsize=8)
    return drawing


def report(table: pd.DataFrame, profile: str, battles: int, seed: int, folder: pathlib.Path) -> None:
    """Writes the table, `cells.csv`, its figure and a page for people to read.

    Args:
        table: as `compare` makes it.
        profile: of unit values.
        battles: of ours in each cell.
        seed: of them.
        folder: where to.
    """
    table.to_csv(folder / "cells.csv", index=False, float_format="%.4g")
    write(beside_the_game(table), folder, "cells")
    (folder / "README.md").write_text(_page(table, profile, battles, seed), "utf-8")


def _page(table: pd.DataFrame, profile: str, battles: int, seed: int) -> str:
    summary = summarise(table)
    lines = [
        "# The embedded battle beside StarCraft II",
        "",
        f"`python -m launch.calibrate --profile={profile} --battles={battles} --seed={seed}`, code of"
        f" {tracking.git_commit()}. Whose games they are, and by which rules:"
        " `tf_marl/experiments/scripted_games.py`.",
        "",
        f"- Win rates that the games do not refute at {LEVEL:.0%} (exact binomial test): {summary['not_refuted']:.0%}.",
        f"- Distributions of the final reward likewise (Kolmogorov-Smirnov): {summary['rewards_not_refuted']:.0%}.",
        f"- Mean difference of the final reward {summary['mean_difference']:.3f}, the largest"
        f" {summary['max_difference']:.3f}.",
        "",
        "![a point for each script on each map](cells.png)",
        "",
        "Win rates with 95% intervals (Wilson), final rewards with standard deviations; what is refuted in bold:",
        "",
        "| map | script | won, game | won, ours | p | final reward, game | final reward, ours | difference | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.itertuples():
        p_won, p_reward = (f"**{p:.2g}**" if p < LEVEL else f"{p:.2g}" for p in (row.p_won, row.p_reward))
        won = f"{row.won:.2f} ({row.won_low:.2f} to {row.won_high:.2f})"
        lines.append(
            f"| {row.map} | {row.script} | {won} | {row.our_won:.2f} | {p_won} |"
            f" {row.reward:.3f} ± {row.reward_std:.3f} | {row.our_reward:.3f} ± {row.our_reward_std:.3f} |"
            f" {row.difference:+.3f} | {p_reward} |"
        )
    return "\n".join(lines) + "\n"
