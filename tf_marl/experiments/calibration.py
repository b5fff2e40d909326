"""The embedded battle compared with StarCraft II: what scripted teams achieve in each, cell by cell.

A cell is a script on a map. `tf_marl.experiments.scripted_games` says which games were played, and by which rules.
"""

import pathlib
from collections.abc import Mapping
from importlib import resources

import numpy as np
import pandas as pd
from matplotlib import figure
from scipy import stats

from tf_marl import tracking
from tf_marl.experiments.progress import tell
from tf_marl.experiments.tables import markdown
from tf_marl.plots import MARKERS, colors, panels, write

LEVEL = 0.05  # a test refutes where its p value is below


def read_games(path: str | pathlib.Path | None = None) -> pd.DataFrame:
    """Reads results of games that were played in StarCraft II.

    Args:
        path: a CSV file; by default the published games.

    Returns:
        A row for each game: `script`, `map`, `final_reward` in [0, 1], and `won`, which is 0 or 1.

    Raises:
        ValueError: a column is missing, or a value is out of range; the message names it.
        OSError: the file cannot be read.
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


def measure(games: pd.DataFrame, battles: int, profile: str, seed: int, folder: pathlib.Path) -> None:
    """Plays battles of ours for every cell of the games, and writes the comparison to `cells.csv`.

    Progress goes to stderr, a line for each cell.

    Args:
        games: games in StarCraft II, as `read_games` returns them.
        battles: number of our battles in each cell.
        profile: name of the unit values, one of those in `tf_marl.environments.combat.units`.
        seed: root of all randomness.
        folder: an existing folder for the table.

    Raises:
        ValueError: a map, a profile or a script is unknown; the message names it.
    """
    from tf_marl.experiments import scripted_games  # it needs TensorFlow, which drawing does not

    ours = {}
    cells = dict.fromkeys(zip(games.script, games["map"], strict=True))
    for name, map_name, rewards, won in scripted_games.play(cells, battles, profile, seed):
        ours[name, map_name] = rewards, won
        tell(f"{map_name:>16} {name:<8} won {won.mean():.2f}   final reward {rewards.mean():.3f}")
    facts = {"profile": profile, "seed": seed, "git_commit": tracking.git_commit()}
    compare(games, ours).assign(**facts).to_csv(folder / "cells.csv", index=False, float_format="%.4g")


def compare(games: pd.DataFrame, ours: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """Compares our battles with the games of StarCraft II, cell by cell.

    Args:
        games: games in StarCraft II, as `read_games` returns them.
        ours: for each cell, a pair of script and map, the final rewards and the wins (bool) of our battles, [B] each.

    Returns:
        A row for each cell: the numbers of `games` and `battles`; win rates, the game's with a 95% interval (Wilson
        1927); means and standard deviations of final rewards, and the `difference` of the means; and two p values.
        `p_won` belongs to the exact binomial test that the game's win rate equals ours, `p_reward` to the
        Kolmogorov-Smirnov test that both final rewards have the same distribution.
    """
    rows = []
    for (name, map_name), cell in games.groupby(["script", "map"], sort=False):
        rewards, wins = ours[name, map_name]
        count = int(cell.won.sum())
        # Half a win and half a loss are added, so that a cell where we win all battles or none can be tested.
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
    """Summarises a comparison in four numbers.

    Args:
        table: the comparison, as `compare` returns it.

    Returns:
        `not_refuted` and `rewards_not_refuted`, the shares of cells whose win rates and whose final rewards the games
        do not refute at 5%; `mean_difference` and `max_difference`, of the absolute differences of final rewards.
    """
    differences = table.difference.abs()
    return {
        "not_refuted": float((table.p_won >= LEVEL).mean()),
        "rewards_not_refuted": float((table.p_reward >= LEVEL).mean()),
        "mean_difference": float(differences.mean()),
        "max_difference": float(differences.max()),
    }


def beside_the_game(table: pd.DataFrame) -> figure.Figure:
    """Draws our win rates and final rewards against StarCraft II's, with a point for each cell.

    Horizontal bars are the game's 95% intervals of win rates and its standard deviations of final rewards.

    Args:
        table: the comparison, as `compare` returns it.
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
        plots[1].annotate(row.map, place, fontsize=8, ha="right", xytext=(-7, 1), textcoords="offset points")
    plots[1].legend(fontsize=8)
    return drawing


def draw(folder: pathlib.Path) -> pd.DataFrame:
    """Draws `cells.png` and writes the page `README.md` from the table `cells.csv` in the same folder.

    Returns:
        The table.

    Raises:
        OSError: the table cannot be read, or a file cannot be written.
    """
    table = pd.read_csv(folder / "cells.csv")
    write(beside_the_game(table), folder, "cells")
    (folder / "README.md").write_text(_page(table), "utf-8")
    return table


def _page(table: pd.DataFrame) -> str:
    summary, first = summarise(table), table.iloc[0]
    lines = [
        "# The embedded battle beside StarCraft II",
        "",
        f"`tf-marl calibrate --profile={first.profile} --battles={first.battles} --seed={first.seed}`, code of"
        f" {first.git_commit}. Whose games they are, and by which rules:"
        " `tf_marl/experiments/scripted_games.py`.",
        "",
        f"- Win rates that the games do not refute at {LEVEL:.0%} (exact binomial test): {summary['not_refuted']:.0%}.",
        f"- Distributions of the final reward that the games do not refute at {LEVEL:.0%} (Kolmogorov-Smirnov):"
        f" {summary['rewards_not_refuted']:.0%}.",
        f"- Mean difference of the final reward {summary['mean_difference']:.3f}, the largest"
        f" {summary['max_difference']:.3f}.",
        "",
        "![a point for each script on each map](cells.png)",
        "",
        "Win rates with 95% intervals (Wilson), final rewards with standard deviations; what is refuted in bold:",
        "",
    ]
    columns = ["map", "script", "won, game", "won, ours", "p", "final reward, game", "final reward, ours"]
    rows = []
    for row in table.itertuples():
        p_won, p_reward = (f"**{p:.2g}**" if p < LEVEL else f"{p:.2g}" for p in (row.p_won, row.p_reward))
        won = f"{row.won:.2f} ({row.won_low:.2f} to {row.won_high:.2f})"
        cells = [row.map, row.script, won, f"{row.our_won:.2f}", p_won]
        cells += [f"{row.reward:.3f} ± {row.reward_std:.3f}", f"{row.our_reward:.3f} ± {row.our_reward_std:.3f}"]
        rows.append([*cells, f"{row.difference:+.3f}", p_reward])
    return "\n".join([*lines, markdown([*columns, "difference", "p"], rows)]) + "\n"
