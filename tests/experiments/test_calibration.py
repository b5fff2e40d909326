"""The battles of scripted teams held against the games."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tf_marl.experiments import calibration


def test_the_published_games_are_ten_a_cell():
    games = calibration.read_games()
    assert len(games) == 560
    assert (games.groupby(["script", "map"]).size() == 10).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("script,map,won\nAC,3m,1\n", "has no column final_reward"),
        ("script,map,final_reward,won\nAC,3m,0.5,1\nAC,3m,1.5,1\n", "line 3: final_reward is 1.5"),
        ("script,map,final_reward,won\nAC,3m,0.5,yes\n", "line 2: won is yes"),
    ],
)
def test_a_table_that_is_none_is_named(text, says, tmp_path):
    (tmp_path / "games.csv").write_text(text)
    with pytest.raises(ValueError, match=says):
        calibration.read_games(tmp_path / "games.csv")


def test_a_cell_is_refuted_where_chance_would_hardly_give_the_games():
    rewards = np.linspace(0.4, 0.6, 10)
    games = pd.DataFrame({"script": "AC", "map": "3m", "final_reward": rewards, "won": [1] * 2 + [0] * 8})
    ours = np.repeat([0.0, 1.0], 500), np.repeat([False, True], 500)
    row = calibration.compare(games, {("AC", "3m"): ours}).iloc[0]
    # 2 of 10 where a half is won: (1 + 10 + 45) / 1024 to either side.
    assert row.p_won == pytest.approx(2 * 56 / 1024, rel=0.01)
    assert row.p_reward == pytest.approx(stats.ks_2samp(rewards, ours[0]).pvalue)
    assert (row.won, row.our_won, row.difference) == pytest.approx((0.2, 0.5, 0.0))
    none = calibration.compare(games, {("AC", "3m"): (rewards, np.zeros(500, bool))}).iloc[0]
    assert none.p_won < 0.001  # none of 500, two of 10
    assert none.p_reward > 0.99
