"""How hard each world is: what its scripted teams come to, which need no learning."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import tensorflow as tf

from tf_marl.environments.world import World
from tf_marl.training.evaluate import Evaluator, win_interval


def play(world: World, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of `report`'s table, one for each of the world's scripted teams. Args: world, an environment an episode."""
    for script in world.scripts:
        result = Evaluator(world, world.scripted(script))(tf.constant([seed, 6]))
        won = result["battle_won_mean"]
        low, high = win_interval(won, world.num_envs)
        yield {
            "map": world.name,
            "policy": script,
            "episodes": world.num_envs,
            "battle_won_mean": won,
            "battle_won_low": low,
            "battle_won_high": high,
            "return_mean": result["return_mean"],
            "episode_length_mean": result["episode_length_mean"],
        }


def line(rows: Sequence[dict[str, Any]]) -> str:
    """A row of the page: a world, and the win rate of each of its teams."""
    won, low, high = ([row[f"battle_won_{name}"] for row in rows] for name in ("mean", "low", "high"))
    cells = [f"{mean:.2f} ({least:.2f} to {most:.2f})" for mean, least, most in zip(won, low, high, strict=True)]
    return f"| {rows[0]['map']} | {' | '.join(cells)} |"


def report(rows: Sequence[dict[str, Any]], seed: int, folder: pathlib.Path) -> pd.DataFrame:
    """Writes `win_rates.csv` and `win_rates.md`. Args: rows, those of a world together. Returns: the table."""
    table = pd.DataFrame(rows)
    table.to_csv(folder / "win_rates.csv", index=False, float_format="%.4f")
    episodes, scripts = table.episodes.iloc[0], list(dict.fromkeys(table.policy))
    page = [
        f"Share of battles won, with 95% interval (Wilson), over {episodes} episodes each:",
        f"`python -m launch.baselines --episodes={episodes} --seed={seed}`. The teams are those of",
        "`tf_marl/environments/combat/scripts.py`; the battles are ours, not StarCraft II's.",
        "",
        "| map | " + " | ".join(scripts) + " |",
        "|---|" + "---|" * len(scripts),
        *(line(of_world.to_dict("records")) for _, of_world in table.groupby("map", sort=False)),
    ]
    (folder / "win_rates.md").write_text("\n".join(page) + "\n", "utf-8")
    return table
