"""What the paper's authors published in numbers, and ours beside it."""

from importlib import resources

import pandas as pd

NO_CLIPPING = 10.0  # the clip range that the data of figure 1 calls none; ours follows it
EPOCHS_COMPARED = (10, 50, 99)


def first_updates() -> pd.DataFrame:
    """What the paper's data says of figure 1, at the learning rate of its experiments; means over its seeds."""
    text = resources.files("tf_marl").joinpath("data/figure_1_published.csv")
    with text.open(encoding="utf-8") as file:
        table = pd.read_csv(file, comment="#")
    return table[table.actor_learning_rate == 5e-4]


def win_rates() -> pd.DataFrame:
    """What the authors' plots say: IPPO after 2 million env steps of the real game, by map and rule."""
    with resources.files("tf_marl").joinpath("data/win_rates_published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, comment="#", dtype={"rule": str}, keep_default_na=False)


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Ours over published, of the largest total variations: a row for each map, clip range and epoch they both have.

    Args: table, of figure 1.
    """
    names = {"agent_tv_max": "max_agent_tv_mean", "joint_tv_sum_max": "max_joint_tv_sum_mean"}
    keys = ["map", "num_agents", "clip_epsilon", "epoch"]
    ours = table[table.epoch.isin(EPOCHS_COMPARED)].groupby(keys)[list(names)].mean()
    both = ours.join(first_updates().set_index(keys)[list(names.values())], how="inner")
    for our_name, their_name in names.items():
        both[our_name.replace("_max", "_ratio")] = both[our_name] / both[their_name]
    return both.reset_index().sort_values(["num_agents", "clip_epsilon", "epoch"])
