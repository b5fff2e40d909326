"""This module makes tables with the columns of the paper's figure 1, but with invented values."""

import pandas as pd
import pytest

from tf_marl.paper import published
from tf_marl.plots import JOINT_TVS

EPOCHS = (1, 10, 50, 99)


@pytest.fixture
def table():
    """Gives a table of largest values for two seeds.

    Joint total variations are 0.02 N for the first seed and 0.03 N for the second; an agent's is 0.1.
    """
    theirs = published.first_updates()
    settings = theirs[theirs.epoch.isin(EPOCHS)][["map", "num_agents", "clip_epsilon", "epoch"]]
    rows = []
    for seed in range(2):
        wide = settings.assign(seed=seed, ratio_min=0.8 - 0.1 * seed, ratio_max=1.5 + 0.5 * seed)
        num_agents = wide.num_agents
        sums = {f"{name}_max": (0.02 + 0.01 * seed) * num_agents for name in JOINT_TVS}
        rows.append(wide.assign(agent_tv_max=0.1, **sums))
    return pd.concat(rows, ignore_index=True)


@pytest.fixture
def percentiles(table):
    """Gives a table of percentiles for the rows of `table`: uniform distributions between 0 and the largest value."""
    keys = ["map", "num_agents", "clip_epsilon", "epoch", "seed"]
    rows = []
    for quantity in ("agent_tv", *JOINT_TVS):
        columns = {f"p{p}": table[f"{quantity}_max"] * p / 100 for p in (0, 25, 50, 75, 100)}
        rows.append(table[keys].assign(quantity=quantity, **columns))
    return pd.concat(rows, ignore_index=True)
