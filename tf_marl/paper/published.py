"""Numbers that the paper's authors published, and the comparison of our numbers with them."""

from importlib import resources

import pandas as pd

NO_CLIPPING = 10.0  # the clip range that stands for no clipping in the published data and in our tables of figure 1
EPOCHS_COMPARED = (10, 50, 99)  # epochs of the actor's first update


def first_updates() -> pd.DataFrame:
    """Returns the published data of figure 1, at the learning rate 5e-4 of the paper's experiments.

    Returns:
        A row for each `map`, `clip_epsilon` and `epoch`, with means over the paper's seeds.
    """
    text = resources.files("tf_marl").joinpath("data/figure_1_published.csv")
    with text.open(encoding="utf-8") as file:
        table = pd.read_csv(file, comment="#")
    return table[table.actor_learning_rate == 5e-4]


def win_rates() -> pd.DataFrame:
    """Returns win rates read off the authors' plots: IPPO after 2 million env steps of StarCraft II.

    Returns:
        A row for each `algorithm`, `map` and `rule` of the clip range, with the win rate `battle_won_mean`.
    """
    with resources.files("tf_marl").joinpath("data/win_rates_published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, comment="#", dtype={"rule": str}, keep_default_na=False)


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Compares our largest total variations of figure 1 with the published ones.

    Args:
        table: figure 1's table `table`, as `figure_1.open_tables` reads it.

    Returns:
        A row for each map, clip range and epoch that both have: our means over seeds, the published means, and
        `agent_tv_ratio` and `joint_tv_sum_ratio`, which are ours over published.
    """
    names = {"agent_tv_max": "max_agent_tv_mean", "joint_tv_sum_max": "max_joint_tv_sum_mean"}
    keys = ["map", "num_agents", "clip_epsilon", "epoch"]
    ours = table[table.epoch.isin(EPOCHS_COMPARED)].groupby(keys)[list(names)].mean()
    both = ours.join(first_updates().set_index(keys)[list(names.values())], how="inner")
    for our_name, their_name in names.items():
        both[our_name.replace("_max", "_ratio")] = both[our_name] / both[their_name]
    return both.reset_index().sort_values(["num_agents", "clip_epsilon", "epoch"])
