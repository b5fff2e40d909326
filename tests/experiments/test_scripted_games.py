"""Scripted teams' battles in the rules of the games that they are held against."""

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.environments.combat.physics import NOBODY
from tf_marl.environments.combat.scenarios import scenario
from tf_marl.experiments import scripted_games


def view(x, y, enemy_x, enemy_y, health=None, enemy_health=None, shield=None, begun=False, rank=None):
    """One battle, as scripts see it; who has no health is dead."""
    columns = [np.array(values, np.float32)[:, None] for values in (x, y, enemy_x, enemy_y)]
    x, y, enemy_x, enemy_y = columns
    health = np.ones_like(x) if health is None else np.array(health, np.float32)[:, None]
    enemy_health = np.ones_like(enemy_x) if enemy_health is None else np.array(enemy_health, np.float32)[:, None]
    distance = np.hypot(x[:, None] - enemy_x, y[:, None] - enemy_y)
    distance = np.where((health > 0)[:, None] & (enemy_health > 0), distance, np.inf).astype(np.float32)
    shield = np.zeros_like(x) if shield is None else np.array(shield, np.float32)[:, None]
    rank = np.arange(len(enemy_x), dtype=np.float32)[:, None] if rank is None else np.array(rank, np.float32)[:, None]
    leaves = (x, y, shield, health > 0, enemy_x, enemy_y, enemy_health, rank, distance, np.array([begun]))
    return scripted_games.View(*map(tf.constant, leaves))


def targets(script, seen) -> list[int]:
    return script(seen).target.numpy()[:, 0].tolist()


def moves(script, seen) -> list[tuple[float, float]]:
    command = script(seen)
    assert (command.target.numpy() == NOBODY).all()
    return list(zip(command.dx.numpy()[:, 0].tolist(), command.dy.numpy()[:, 0].tolist(), strict=True))


def test_each_attacks_whom_its_script_names():
    # Two agents, of whom the second is dead for some; three enemies at distances 2, 1 and 4 of the first.
    seen = view([0, 3], [0, 0], [2, 0, 4], [0, 1, 0], enemy_health=[9, 5, 5])
    assert targets(scripted_games.attack_closest, seen) == [1, 0]  # of the second's equals at 1, the first listed
    assert targets(scripted_games.attack_weakest, seen) == [1, 1]  # of equals, the first listed
    listed = view([0, 3], [0, 0], [2, 0, 4], [0, 1, 0], enemy_health=[9, 5, 5], rank=[0, 2, 1])
    assert targets(scripted_games.attack_weakest, listed) == [2, 2]  # which is another in each battle
    assert targets(scripted_games.focus_fire, seen) == [0, 0]  # nearest to (1.5, 0)
    alone = view([0, 3], [0, 0], [2, 0, 4], [0, 1, 0], health=[1, 0], enemy_health=[9, 5, 0])
    assert targets(scripted_games.focus_fire, alone)[0] == 1  # nearest to (0, 0)
    assert targets(scripted_games.attack_closest, alone)[1] == NOBODY


def test_who_lost_its_shield_leaves_the_crawlers_reach():
    seen = view([0, 0], [0, 0], [0], [8.0], shield=[29, 30])
    command = scripted_games.alternate_fire_at_crawler(seen)
    assert command.target.numpy()[:, 0].tolist() == [NOBODY, 0]
    assert command.dy.numpy()[0, 0] == -1.0  # south
    out_of_reach = view([0, 0], [0, 0], [0], [9.5], shield=[29, 29])
    assert moves(scripted_games.alternate_fire_at_crawler, out_of_reach) == [(0, 0), (0, 0)]


@pytest.mark.parametrize(
    ("zealot", "begun", "fires"),
    [
        (7.0, False, []),  # both wait
        (5.5, False, [0]),  # the nearer one opens fire
        (0.5, True, [1]),  # chased, the nearer one stops
        (4.0, True, [1]),  # nobody is chased: the farther one
    ],
)
def test_who_does_not_have_the_zealot_after_it_fires(zealot, begun, fires):
    seen = view([0, 1], [0, 0], [-zealot], [0], begun=begun)
    command = scripted_games.alternate_fire_at_zealot(seen)
    assert [i for i, target in enumerate(command.target.numpy()[:, 0]) if target == 0] == fires
    assert bool(command.begun.numpy()[0]) == (zealot < 6.0)


def test_the_wall_is_in_the_corner():
    assert moves(scripted_games.wall_off, view([20, 22], [12, 12], [0], [0])) == [(-1, 0)] * 2  # west
    assert moves(scripted_games.wall_off, view([11, 11], [18, 20], [0], [0])) == [(0, -1)] * 2  # south
    there = view([9, 11], [9, 10], [0, 20], [0, 20])
    assert targets(scripted_games.wall_off, there) == [0, 1]  # each its nearest
    assert targets(scripted_games.wall_off, view([20, 22], [12, 12], [0], [0], begun=True)) == [0, 0]


def test_everyone_stands_at_a_place_of_its_own():
    x, y = [10.0, 19.5, 7.5, 15.0, 4.0, 12.0, 3.0], [18.5, 12.5, 15.0, 8.0, 12.0, 4.0, 3.5]
    assert moves(scripted_games.stand_apart, view(x, y, [30], [30])) == [(0, 0)] * 7
    assert moves(scripted_games.stand_apart, view([0, *x[1:]], y, [30], [30]))[0] == (1, 0)
    assert moves(scripted_games.stand_apart, view(x, [0, *y[1:]], [30], [30]))[0] == (0, 1)
    assert targets(scripted_games.stand_apart, view(x, y, [10], [20.5]))[:2] == [0, NOBODY]


def test_colossi_stay_where_the_zerglings_are_not():
    below, above = [2.0] * 4, [20.0] * 4
    assert moves(scripted_games.change_sides, view([16, 16], [12, 12], [16] * 4, below)) == [(0, 1)] * 2
    assert moves(scripted_games.change_sides, view([16, 16], [14, 14], [16] * 4, above)) == [(0, -1)] * 2
    assert targets(scripted_games.change_sides, view([16, 16], [14, 11], [16] * 4, [*below[:2], *above[:2]])) == [2, 0]


def test_a_script_is_of_its_map():
    with pytest.raises(ValueError, match=r"script WallOff on 3m: there is none; choose one of: AC, AW, FF, .*corridor"):
        scripted_games.script("WallOff", "3m")


@pytest.fixture(scope="module")
def outcome():
    return scripted_games.Games(scenario("3m"), ["AC", "FF"], 16).play([3, 0])


def test_battles_are_played_to_the_end_of_one_side(outcome):
    # Both sides have the same health: who wins has taken a half, and kept some.
    assert outcome.won.shape == outcome.final_reward.shape == (2, 16)
    assert (outcome.won == (outcome.final_reward > 0.5)).all()
    assert ((outcome.final_reward > 0) & (outcome.final_reward <= 1)).all()


def test_fire_at_one_wins_more_than_at_the_nearest(outcome):
    nearest, one = outcome.won.mean(axis=1)
    assert one > nearest


def test_healers_alone_do_not_fight_on():
    """As in SMAC: of a lost battle on MMM2 the agents keep their medivac, 150 of 1,600 hit points."""
    rewards, won = scripted_games.Games(scenario("MMM2", "multiplayer"), ["AW"], 16).play([3, 0])
    assert not won.any()
    assert (rewards > 150 / 1600).all()
    assert np.mean(rewards) == pytest.approx(0.207, abs=0.03)  # the mean of ten games in StarCraft II


def test_equal_seeds_play_equal_battles(outcome):
    again = scripted_games.Games(scenario("3m"), ["AC", "FF"], 16).play([3, 0])
    assert (again.final_reward == outcome.final_reward).all()
    other = scripted_games.Games(scenario("3m"), ["AC", "FF"], 16).play([4, 0])
    assert (other.final_reward != outcome.final_reward).any()
