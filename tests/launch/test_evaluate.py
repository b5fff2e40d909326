"""Scripted teams from the command line. (Trained ones: test_train.py.)"""

import csv

import pytest

from tf_marl import environments
from tf_marl.experiments import teams


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


def test_a_team_meets_several_enemies_in_turn(warm_launch):
    arguments = ("launch.evaluate", "--policy=nearest", "--map=2s3z", "--episodes=4", "--json")
    outcome = warm_launch(*arguments, "--enemies=game,kite,game")
    result = outcome.json()
    game, kite = result["enemies"]
    assert (game["enemy"], kite["enemy"], result["episodes"], result["policy"]) == ("game", "kite", 4, "nearest")
    assert kite["return_mean"] != game["return_mean"]
    title, head, _, *rows, _ = outcome.stdout.splitlines()
    assert title == "nearest on 2s3z, 4 episodes against each:"
    assert " ".join(head.split()) == "| enemy | won | return | length |"
    share = f"{game['battle_won_mean']:.0%} ({game['battle_won_low']:.0%} to {game['battle_won_high']:.0%})"
    numbers = f"{game['return_mean']:.2f} | {game['episode_length_mean']:.1f}"
    assert " ".join(rows[0].split()) == f"| game | {share} | {numbers} |"
    assert len(rows) == 2
    alone = warm_launch(*arguments).json()
    assert alone["return_mean"] == game["return_mean"]  # who leads them is the game, unless it is told otherwise


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--map=3m", "--enemies=game,clever"], "--enemies: 3m has no enemies 'clever'; it has: game, random, nearest"),
        (["--map=3m", "--enemies=all", "--replay=battle.html"], "--replay: shows one match"),
    ],
)
def test_enemies_that_are_not_there_are_refused(flags, says, warm_launch):
    outcome = warm_launch("launch.evaluate", "--policy=nearest", *flags)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"error: {says}")
    assert outcome.stderr.count("\n") == 1


def test_a_world_without_a_choice_of_enemies_says_so():
    team = teams.Team("anyone", environments.make("matrix_game:climbing"), None, {})
    with pytest.raises(ValueError, match=r"^--enemies: climbing leaves no choice of enemies; drop the flag$"):
        teams.against(team, ["all"])


@pytest.mark.slow
def test_baselines_make_a_table_of_all_teams_on_the_maps_asked_for(warm_launch, tmp_path):
    outcome = warm_launch("launch.baselines", "--map=3m", "--episodes=4", f"--out={tmp_path}")
    assert outcome.code == 0, outcome.stderr
    with open(tmp_path / "win_rates.csv") as file:
        rows = list(csv.DictReader(file))
    scripts = environments.make("3m").scripts
    assert [(row["map"], row["policy"]) for row in rows] == [("3m", script) for script in scripts]
    for row in rows:
        low, won, high = (float(row[f"battle_won_{name}"]) for name in ("low", "mean", "high"))
        assert 0 <= low <= won <= high <= 1
    page = (tmp_path / "win_rates.md").read_text()
    assert f"| map | {' | '.join(scripts)} |" in " ".join(page.split())
    assert page.count("\n| 3m | ") == 1
