"""The difficulty of each SMAC map, measured by teams that follow a fixed script and learn nothing."""

import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
import tensorflow as tf

from tf_marl import tracking
from tf_marl.environments.world import World
from tf_marl.experiments.tables import markdown
from tf_marl.training.evaluate import Evaluator, win_interval


def play(world: World, seed: int) -> Iterator[dict[str, Any]]:
    """Plays one episode in every environment of a world with each of the world's scripted teams.

    Args:
        world: the world, with as many environments as there are to be episodes.
        seed: root of all randomness.

    Yields:
        A row of the table `win_rates.csv` for each scripted team: its share of battles won with a 95% interval, its
        mean return and the mean length of its episodes in env steps.
    """
    for script in world.scripts:
        result = Evaluator(world, world.scripted(script))(tf.constant([seed, 6]))
        won = result["battle_won_mean"]
        low, high = win_interval(won, world.num_envs)
        yield {
            "map": world.name,
            "policy": script,
            "episodes": world.num_envs,
            "seed": seed,
            "battle_won_mean": won,
            "battle_won_low": low,
            "battle_won_high": high,
            "return_mean": result["return_mean"],
            "episode_length_mean": result["episode_length_mean"],
        }


def win_rate(row: Any) -> str:
    """Returns a row's share of battles won with its interval, such as `0.02 (0.01 to 0.04)`."""
    return f"{row['battle_won_mean']:.2f} ({row['battle_won_low']:.2f} to {row['battle_won_high']:.2f})"


def save(rows: Iterable[dict[str, Any]], folder: pathlib.Path) -> None:
    """Writes the rows that `play` yields to `win_rates.csv` in a folder, with the commit of the code."""
    table = pd.DataFrame(rows).assign(git_commit=tracking.git_commit())
    table.to_csv(folder / "win_rates.csv", index=False, float_format="%.4f")


def draw(folder: pathlib.Path) -> pd.DataFrame:
    """Writes the page `win_rates.md` from the table `win_rates.csv` in the same folder.

    Returns:
        The table, a row for each map and scripted team.

    Raises:
        OSError: the table cannot be read, or the page cannot be written.
    """
    table = pd.read_csv(folder / "win_rates.csv")
    first = table.iloc[0]
    scripts = list(dict.fromkeys(table.policy))
    page = [
        f"Share of battles won, with 95% interval (Wilson), over {first.episodes} episodes each:",
        f"`tf-marl baselines --episodes={first.episodes} --seed={first.seed}`, code of {first.git_commit}.",
        "The teams are those of `tf_marl/environments/combat/scripts.py`; the battles are ours, not StarCraft II's.",
        "",
        markdown(["map", *scripts], _cells(table)),
    ]
    (folder / "win_rates.md").write_text("\n".join(page) + "\n", "utf-8")
    return table


def _cells(table: pd.DataFrame) -> Iterator[Sequence[str]]:
    """Yields a row of the page for each map: its name, and the win rate of each scripted team."""
    for map_name, teams in table.groupby("map", sort=False):
        yield [map_name, *(win_rate(row) for row in teams.to_dict("records"))]
