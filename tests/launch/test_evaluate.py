"""Scripted teams from the command line. (Trained ones: test_train.py.)"""

import csv

import pytest


def test_a_scripted_team_plays_shows_itself_and_is_judged_with_an_interval(warm_launch, tmp_path):
    film = tmp_path / "battles.html"
    arguments = ("launch.evaluate", "--policy=nearest", "--map=2s3z", "--episodes=6", "--seed=3", "--json")
    result = warm_launch(*arguments, f"--replay={film}").json()
    assert (result["policy"], result["map"], result["episodes"]) == ("nearest", "2s3z", 6)
    assert 0 <= result["battle_won_low"] <= result["battle_won_mean"] <= result["battle_won_high"] <= 1
    assert result["battle_won_high"] - result["battle_won_low"] > 0.3  # six episodes prove little
    assert result["battle_won_mean"] == 1  # 2s3z is won by whoever attacks the nearest
    assert result["return_mean"] == pytest.approx(20, abs=0.5)
    assert "nearest on 2s3z" in film.read_text()
    assert warm_launch(*arguments).json() == result


def test_options_reach_the_battle(warm_launch):
    arguments = ("--policy=nearest", "--map=2s3z", "--episodes=4", "--json")
    sparse = "--gin_bindings=environment.reward_sparse = True"
    unscaled = "--gin_bindings=environment.reward_scale = False"
    assert warm_launch("launch.evaluate", *arguments, sparse, unscaled).json()["return_mean"] == 1


@pytest.mark.slow
def test_baselines_make_a_table_of_all_teams_on_the_maps_asked_for(warm_launch, tmp_path):
    outcome = warm_launch("launch.baselines", "--map=3m", "--episodes=4", f"--out={tmp_path}")
    assert outcome.code == 0, outcome.stderr
    with open(tmp_path / "win_rates.csv") as file:
        rows = list(csv.DictReader(file))
    teams = ("random", "nearest", "focus_fire")
    assert [(row["map"], row["policy"]) for row in rows] == [("3m", team) for team in teams]
    for row in rows:
        low, won, high = (float(row[f"battle_won_{name}"]) for name in ("low", "mean", "high"))
        assert 0 <= low <= won <= high <= 1
    page = (tmp_path / "win_rates.md").read_text()
    assert "| map | random | nearest | focus_fire |" in page
    assert page.count("\n| 3m | ") == 1
