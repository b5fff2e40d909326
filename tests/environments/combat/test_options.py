"""SMAC's options, one by one: what each adds, removes or changes, and that nothing else is taken for one."""

import dataclasses
import json

import gin
import numpy as np
import pytest
import tensorflow as tf

from tf_marl import environments
from tf_marl.environments.combat.environment import Combat
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.scenarios import scenario

STOP, NORTH, SOUTH, EAST, WEST, ATTACK = 1, 2, 3, 4, 5, 6
SIZED = ("3m", "2s3z", "MMM2", "2s_vs_1sc", "bane_vs_bane")


class Bench:
    """One battle with some options, not compiled: for the few steps that an option needs."""

    def __init__(self, map_name: str, num_envs: int = 1, **options):
        self.world = Combat(scenario(map_name), num_envs, Options(**options))
        self.task = self.world.task

    def start(self, places=None, **fields):
        """A fresh battle with units at `places` [U, 2], or where they spawn, and these unit fields [U] set."""
        places = np.asarray(self.world.scenario.spawn if places is None else places)
        fields |= {"x": places[:, 0], "y": places[:, 1]}
        state = self.world.reset(tf.constant([5, 6]))
        columns = {name: tf.constant(np.asarray(value, np.float32)[:, None]) for name, value in fields.items()}
        units = state.units._replace(**columns)
        order = state.order if self.world.options.shuffle_enemies else None
        return state._replace(units=units, available=self.task.available(units, self.task.agents, order))

    def step(self, state, action):
        return self.world.play(state, tf.constant([action], tf.int32), self.world.draw(tf.constant([7, 8])))

    def see(self, state):
        return {name: leaf[0].numpy() for name, leaf in self.world.time_step(state).observation.items()}


def numbers(map_name):
    """n, m, actions, shield columns and type bits of agents and enemies."""
    battle = scenario(map_name)
    shields = int(battle.agent_shields), int(battle.enemy_shields)
    return battle.num_agents, battle.num_enemies, 6 + battle.num_enemies, *shields, len(battle.agent_type_bits)


# Sizes and contents of observation and state


@pytest.mark.parametrize("map_name", SIZED)
@pytest.mark.parametrize(
    ("options", "change"),
    [
        # The change of the size of one observation, of n, m, A, agents' and enemies' shield columns.
        ({}, lambda n, m, a, own, other: 0),
        ({"obs_pathing_grid": True}, lambda n, m, a, own, other: 8),
        ({"obs_last_action": True}, lambda n, m, a, own, other: (n - 1) * a),
        ({"obs_timestep_number": True}, lambda n, m, a, own, other: 1),
        ({"obs_all_health": False}, lambda n, m, a, own, other: -m * (1 + other) - (n - 1) * (1 + own)),
        ({"obs_own_health": False}, lambda n, m, a, own, other: 0),  # on with `obs_all_health`
        (
            {"obs_all_health": False, "obs_own_health": False},
            lambda n, m, a, own, other: -m * (1 + other) - n * (1 + own),
        ),
        (
            {"obs_pathing_grid": True, "obs_last_action": True, "obs_timestep_number": True, "obs_all_health": False},
            lambda n, m, a, own, other: 9 + (n - 1) * a - m * (1 + other) - (n - 1) * (1 + own),
        ),
    ],
)
def test_observation_has_the_size_of_its_blocks(map_name, options, change):
    n, m, a, own, other, bits = numbers(map_name)
    bench = Bench(map_name, **options)
    expected = 4 + m * (5 + other + bits) + (n - 1) * (5 + own + bits) + 1 + own + bits + change(n, m, a, own, other)
    assert bench.world.time_step_spec.observation["obs"].shape == (n, expected)
    assert bench.see(bench.start())["obs"].shape == (n, expected)


@pytest.mark.parametrize("map_name", SIZED)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"state_last_action": False}, lambda n, a, obs, size: size - n * a),
        ({"state_timestep_number": True}, lambda n, a, obs, size: size + 1),
        ({"obs_instead_of_state": True}, lambda n, a, obs, size: n * obs),
        ({"obs_instead_of_state": True, "obs_timestep_number": True}, lambda n, a, obs, size: n * (obs + 1)),
    ],
)
def test_state_has_the_size_of_its_blocks(map_name, options, expected):
    n, m, a, own, other, bits = numbers(map_name)
    obs = 4 + m * (5 + other + bits) + (n - 1) * (5 + own + bits) + 1 + own + bits
    size = expected(n, a, obs, n * (4 + own + bits) + m * (3 + other + bits) + n * a)
    bench = Bench(map_name, **options)
    assert bench.world.time_step_spec.observation["state"].shape == (size,)
    assert bench.see(bench.start())["state"].shape == (size,)


def test_pathing_grid_shows_eight_points_round_ones_cell():
    """On octagon, whose rows are, from y = 26 down: x 10-21, 9-22, 8-23, 7-24, 6-25, 5-26."""
    bench = Bench("2m_vs_1z", obs_pathing_grid=True)
    obs = bench.see(bench.start([[9.9, 25.2], [16.5, 16.5], [20, 6]]))["obs"]
    # From (9, 25): N (9, 29), S (9, 21), E (13, 25), W (5, 25), NE (11, 27), SW (7, 23), SE (11, 23), NW (7, 27).
    assert obs[0, 4:12].tolist() == [0, 1, 1, 0, 0, 1, 1, 0]
    assert obs[1, 4:12].tolist() == [1] * 8
    # The moves before them: (9, 26) and (8, 25) are closed.
    assert (obs[0, :4].tolist(), obs[1, :4].tolist()) == ([0, 1, 1, 0], [1] * 4)


def test_pathing_points_beyond_the_map_count_as_pathable():
    bench = Bench("3m", obs_pathing_grid=True)
    places = [[1.5, 8.5], [31.5, 23.5], [16, 16]]
    obs = bench.see(bench.start(places + [[16, 20]] * 3))["obs"]
    # band16 is open for y 7 to 24. N, S, E, W, NE, SW, SE, NW of (1, 8): W and SW are off the map.
    assert obs[0, 4:12].tolist() == [1, 0, 1, 1, 1, 1, 0, 1]
    assert obs[1, 4:12].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]  # (31, 23): E, NE and SE are off the map


def test_dead_agent_has_no_pathing_but_the_time():
    bench = Bench("3m", obs_pathing_grid=True, obs_timestep_number=True)
    state = bench.start(health=[0, 45, 45, 45, 45, 45])._replace(step_count=tf.constant([15]))
    obs = bench.see(state)["obs"]
    np.testing.assert_allclose(obs[:, -1], 15 / 60)
    assert not obs[0, :-1].any()


def test_others_last_actions_are_seen_with_them():
    """3m: rows of the other agents are 5 + 9 wide and begin after 4 moves and 3 enemy rows of 5."""
    bench = Bench("3m", obs_last_action=True)
    places = [[9, 12], [9, 14], [20, 20], [30, 14], [30, 16], [30, 18]]
    fresh = bench.see(bench.start(places))["obs"][0, 19:47].reshape(2, 14)
    np.testing.assert_allclose(fresh[0], [1, 2 / 9, 0, 2 / 9, 1] + [0] * 9, rtol=1e-5)
    after = bench.step(bench.start(places), [STOP, EAST, WEST])
    rows = bench.see(after)["obs"][0, 19:47].reshape(2, 14)
    np.testing.assert_array_equal(rows[0, 5:], np.eye(9)[EAST])
    assert not rows[1].any()  # agent 2 is out of sight, and so is what it did
    np.testing.assert_array_equal(bench.see(after)["obs"][1, 19 + 5 : 19 + 14], np.eye(9)[STOP])


def test_without_all_health_the_others_health_and_shields_are_hidden():
    bench = Bench("2s3z", obs_all_health=False)
    places = [[10, 10], [11, 10], [12, 10], [13, 10], [14, 10], [14, 13], *[[19.5, 20]] * 4]
    health, shield = [40, 80, 100, 100, 100, 80, 80, 100, 100, 100], [20, 80, 50, 50, 25, 80, 80, 50, 50, 50]
    obs = bench.see(bench.start(places, health=health, shield=shield))["obs"][0]
    np.testing.assert_allclose(obs[4:10], [1, 5 / 9, 4 / 9, 3 / 9, 0, 1], rtol=1e-5)  # attackable, place, type
    np.testing.assert_allclose(obs[34:40], [1, 1 / 9, 1 / 9, 0, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(obs[58:], [0.5, 0.25, 1, 0])  # one's own stays
    bare = Bench("2s3z", obs_all_health=False, obs_own_health=False)
    np.testing.assert_allclose(bare.see(bare.start(places, health=health))["obs"][0, 58:], [1, 0])


def test_state_can_be_all_observations():
    bench = Bench("2s3z", obs_instead_of_state=True, obs_timestep_number=True)
    seen = bench.see(bench.step(bench.start(), [EAST] * 5))
    np.testing.assert_array_equal(seen["state"], seen["obs"].reshape(-1))


def test_time_is_the_step_over_the_limit():
    bench = Bench("3m", state_timestep_number=True, obs_timestep_number=True)
    state = bench.start()
    assert bench.see(state)["state"][-1] == 0
    for step in (1, 2):
        state = bench.step(state, [STOP] * 3)
        seen = bench.see(state)
        np.testing.assert_allclose(seen["state"][-1], step / 60, rtol=1e-6)
        np.testing.assert_allclose(seen["obs"][:, -1], step / 60, rtol=1e-6)


def test_state_without_last_actions_is_otherwise_the_same():
    with_them, without = Bench("3m"), Bench("3m", state_last_action=False)
    actions = [EAST, STOP, WEST]
    full = with_them.see(with_them.step(with_them.start(), actions))["state"]
    np.testing.assert_array_equal(without.see(without.step(without.start(), actions))["state"], full[:-27])
    np.testing.assert_array_equal(full[-27:].reshape(3, 9), np.eye(9)[actions])


# Reward

# 3m: agents 45 health each; max_reward 10 * 3 + 200 + 3 * 45 = 365.
FULL = np.array([45.0] * 6)


def paid(bench, before, after):
    """The reward of a step from healths `before` to healths `after`."""
    units = [bench.start(health=np.asarray(health, np.float32)).units for health in (before, after)]
    ending = bench.task.ending(units[1], tf.constant([10]))
    return float(bench.task.reward(*units, ending)[0])


WIN, DEFEAT, DRAW = [45, 45, 45, 0, 0, 0], [0, 0, 0, 45, 45, 45], [0] * 6


@pytest.mark.parametrize(
    ("options", "win", "defeat"),
    [
        ({}, 20 / 365, -20 / 365),  # scaled too, as in SMAC: 0.0548
        ({"reward_scale": False}, 1, -1),
    ],
)
def test_sparse_reward_tells_the_end_only(options, win, defeat):
    bench = Bench("3m", reward_sparse=True, **options)
    assert paid(bench, FULL, WIN) == pytest.approx(win)
    assert paid(bench, FULL, DEFEAT) == pytest.approx(defeat)
    assert paid(bench, FULL, DRAW) == 0
    assert paid(bench, FULL, [45, 0, 5, 45, 0, 1]) == 0
    assert win in (1, pytest.approx(0.0548, abs=5e-5))


def test_default_reward_ignores_what_the_agents_lose():
    bench = Bench("3m")
    # One enemy dead of 6 hit points, another hurt by 12: 6 + 10 + 12.
    before, after = [45, 45, 45, 6, 45, 45], [45, 0, 5, 0, 33, 45]
    assert paid(bench, before, after) == pytest.approx(28 * 20 / 365, rel=1e-5)
    assert paid(bench, FULL, DEFEAT) == 0
    assert paid(bench, after, [*before[:3], 0, 45, 45]) == pytest.approx(12 * 20 / 365, rel=1e-5)  # recovered: abs


def test_reward_with_losses_is_worked_out_as_in_smac():
    """E + D - 0.5 * 10 * deaths - 0.5 * losses."""
    bench = Bench("3m", reward_only_positive=False, reward_scale=False)
    before, after = [45, 30, 45, 6, 45, 45], [45, 0, 5, 0, 33, 45]
    # E = 6 + 12, D = 10; one death; agents lost 30 + 40.
    assert paid(bench, before, after) == pytest.approx(18 + 10 - 5 - 35)
    assert paid(bench, [45, 45, 45, 6, 40, 45], [45, 45, 45, 6, 45, 45]) == pytest.approx(-5)  # no absolute value
    assert paid(bench, FULL, WIN) == pytest.approx(135 + 30 + 200)
    assert paid(bench, FULL, DEFEAT) == pytest.approx(-15 - 67.5)
    # Units already dead count no more, whatever is left in their fields.
    assert paid(bench, [0, 45, 45, 0, 45, 45], [0, 45, 45, 0, 45, 45]) == 0
    gentle = Bench("3m", reward_only_positive=False, reward_scale=False, reward_negative_scale=0.1)
    assert paid(gentle, before, after) == pytest.approx(18 + 10 - 1 - 7)


@pytest.mark.parametrize(
    ("options", "health", "expected"),
    [
        ({"reward_win": 50.0}, WIN, 135 + 30 + 50),
        ({"reward_defeat": -7.0}, DEFEAT, -7),
        ({"reward_defeat": -7.0}, DRAW, 135 + 30),
        ({"reward_death_value": 3.0}, WIN, 135 + 9 + 200),
        ({"reward_death_value": 0.0}, [45, 45, 45, 0, 45, 45], 45),
    ],
)
def test_reward_values_are_what_they_are_set_to(options, health, expected):
    assert paid(Bench("3m", reward_scale=False, **options), FULL, health) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 20),
        ({"reward_scale_rate": 5.0}, 5),
        ({"reward_scale_rate": 5.0, "reward_scale": False}, 365),
        # What a clean win is worth goes into the scale.
        ({"reward_win": 50.0}, 20),
        ({"reward_death_value": 3.0}, 20),
    ],
)
def test_clean_win_returns_the_scale_rate(options, expected):
    assert paid(Bench("3m", **options), FULL, WIN) == pytest.approx(expected, rel=1e-5)


# Time and moves


@pytest.mark.parametrize("step_mul", [1, 3, 8])
def test_step_mul_is_game_loops_per_step(step_mul):
    bench = Bench("3m", step_mul=step_mul)
    start = bench.start([[9, 12], [9, 16], [9, 20], [30, 14], [30, 16], [30, 18]])
    moved = bench.step(start, [EAST, STOP, STOP]).units.x[0, 0] - 9
    np.testing.assert_allclose(moved, step_mul * 2.25 / 16, rtol=1e-4)


def test_move_amount_is_how_far_a_move_goes_at_most():
    """A marine makes 1.125 in a step: a move by 1 is completed, one by 2 is not."""
    places = [[9, 12], [9, 16], [9, 20], [30, 14], [30, 16], [30, 18]]
    for amount, moved in ((0.5, 0.5), (1.0, 1.0), (2.0, 1.125), (4.0, 1.125)):
        bench = Bench("3m", move_amount=amount)
        after = bench.step(bench.start(places), [EAST, SOUTH, WEST]).units
        np.testing.assert_allclose(after.x[:3, 0], [9 + moved, 9, 9 - moved], atol=1e-4)
        np.testing.assert_allclose(after.y[:3, 0], [12, 16 - moved, 20], atol=1e-4)


def test_move_is_available_if_the_ground_half_as_far_is_pathable():
    """band16 ends at y = 25, so a move of 4 north is available up to y = 23, one of 2 up to 24, one of 1 to 24.5."""
    places = [[9, 22.9], [12, 23.9], [15, 24.4], [30, 14], [30, 16], [30, 18]]
    for amount, available in ((4.0, [1, 0, 0]), (2.0, [1, 1, 0]), (1.0, [1, 1, 1])):
        bench = Bench("3m", move_amount=amount)
        assert bench.start(places).available.numpy()[:, NORTH, 0].tolist() == available


def test_move_goes_all_its_way_though_only_half_was_probed():
    bench = Bench("3m", step_mul=16)  # a game second: 2.25
    after = bench.step(bench.start([[9, 23.5], [12, 16], [15, 16], [30, 14], [30, 16], [30, 18]]), [NORTH, EAST, STOP])
    assert 24.99 < after.units.y[0, 0] < 25  # the order is for 25.5, beyond the edge
    # Ordered anew in every step, to x + 2: with 16 loops it arrives.
    np.testing.assert_allclose(after.units.x[1, 0], 14, atol=1e-4)


# Order of the enemies


def test_without_the_option_enemies_are_listed_as_the_map_does():
    world = Combat(scenario("3s5z_vs_3s6z"), 4)
    bits = set()
    for seed in range(3):
        observation = world.time_step(world.reset(tf.constant([seed, 0]))).observation
        rows = observation["state"].numpy()[:, 8 * 7 : 8 * 7 + 9 * 6].reshape(4, 9, 6)
        bits |= {tuple(row) for row in rows[:, :, -1].astype(int)}
    assert bits == {(1,) * 3 + (0,) * 6}  # reversed bits: the stalkers' is the last


def test_shuffled_enemies_are_listed_anew_in_each_episode():
    world = Combat(scenario("3m"), 64, Options(shuffle_enemies=True))
    state = world.reset(tf.constant([1, 2]))
    orders = {tuple(order) for order in state.order.numpy().T}
    assert len(orders) == 6  # 3! all turn up among 64
    held = world.step(state, tf.ones([64, 3], tf.int32), tf.constant([3, 4]))
    np.testing.assert_array_equal(held.order, state.order)
    over = world.step(held._replace(step_type=tf.fill([64], 2)), tf.ones([64, 3], tf.int32), tf.constant([5, 6]))
    assert (over.order.numpy() != state.order.numpy()).any(0).mean() > 0.5  # by chance 5 of 6 differ


def test_rows_slots_and_targets_of_shuffled_enemies_agree():
    """Slot j is row j of the observation and of the state, its availability, and whom attack j hits."""
    bench = Bench("3s5z", shuffle_enemies=True)
    place = np.array([[9, 8 + i] for i in range(8)] + [[12 + 0.7 * j, 10 + 0.6 * j] for j in range(8)], float)
    start = bench.start(
        place, shield=[80] * 3 + [50] * 5 + [0] * 8, health=[80] * 3 + [100] * 5 + [50 + j for j in range(8)]
    )
    order = start.order.numpy()[:, 0]
    assert sorted(order) == list(range(8))
    assert order.tolist() != list(range(8))
    seen = bench.see(start)
    n = 8
    agent_rows_end = n * (4 + 1 + 2)
    state_rows = seen["state"][agent_rows_end : agent_rows_end + 8 * 6].reshape(8, 6)
    full = np.array([80] * 3 + [100] * 5)
    np.testing.assert_allclose(state_rows[:, 0], ((50 + np.arange(8)) / full)[order], rtol=1e-5)
    np.testing.assert_allclose(state_rows[:, 1] * 32 + 16, place[8:, 0][order], rtol=1e-5)
    np.testing.assert_array_equal(state_rows[:, 5], order < 3)  # reversed bits: zealot, stalker
    for agent in range(n):
        offset = place[8:][order] - place[agent]
        distance = np.hypot(*offset.T)
        rows = seen["obs"][agent, 4 : 4 + 8 * 8].reshape(8, 8)
        visible = distance < 9
        np.testing.assert_allclose(rows[visible, 1] * 9, distance[visible], rtol=1e-5)
        np.testing.assert_allclose(rows[visible, 2:4] * 9, offset[visible], atol=1e-5)
        np.testing.assert_array_equal(rows[:, 0], seen["avail_actions"][agent, ATTACK:])
        np.testing.assert_array_equal(rows[:, 0], distance <= 6)
    # Stalker 1 shoots slot j; whom it hits (within 6 + radii) is the enemy that row j showed.
    for slot in np.flatnonzero(seen["avail_actions"][1, ATTACK:])[:3]:
        after = bench.step(start, [STOP, ATTACK + int(slot), *[STOP] * 6])
        after = bench.step(after, [STOP, ATTACK + int(slot), *[STOP] * 6])  # by then the missile has arrived
        assert after.units.target[1, 0] == 8 + order[slot]
        assert after.units.health[8 + order[slot], 0] < start.units.health[8 + order[slot], 0]


def test_healers_slots_are_not_shuffled():
    bench = Bench("MMM", shuffle_enemies=True)
    health = [125] * 2 + [45] * 3 + [10] + [45] * 3 + [150] + [45] * 7 + [125] * 2 + [150]
    start = bench.start(health=health)
    assert np.flatnonzero(start.available.numpy()[9, ATTACK:, 0]).tolist() == list(range(9))
    after = bench.step(start, [STOP] * 9 + [ATTACK + 5])
    np.testing.assert_allclose(after.units.health[5, 0], 14.5, rtol=1e-4)


# Refusals


def refusal(**options):
    """The library's line; gin adds where it was called from."""
    with pytest.raises(ValueError, match=r"environment\.") as refused:
        environments.load("3m", **options)
    line, *rest = str(refused.value).splitlines()
    assert not any(text.strip() for text in rest if "In call to configurable" not in text)
    return line


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("obs_sparse", True),  # there is none of this name
        ("reward_sparse", 1),  # not bool
        ("obs_last_action", "True"),
        ("step_mul", 0),
        ("step_mul", 2.5),
        ("move_amount", -1.0),
        ("move_amount", "2"),
        ("reward_win", -1.0),
        ("reward_death_value", float("nan")),
        ("reward_scale_rate", 0.0),
        ("reward_negative_scale", -0.5),
        ("profile", "lotv"),
        ("enemy", "clever"),
        ("enemy", ("game", "clever")),
        ("enemy", {"game": 1, "kite": 0}),
        ("enemy", {"game": 1, "kite": float("inf")}),
        ("enemy", {"game": 1, "kite": True}),
        ("enemy", [["game"]]),
        ("enemy", {}),
        ("shuffle_enemies", None),
        ("obs_terrain_height", True),
    ],
)
def test_wrong_option_is_refused_in_a_line_that_names_it(option, value):
    assert f"environment.{option}" in refusal(**{option: value})


@pytest.mark.parametrize(
    ("enemy", "weights"),
    [
        ("kite", {"kite": 1}),
        (("kite", "game"), {"game": 1, "kite": 1}),
        (["kite", "game", "kite"], {"game": 1, "kite": 2}),
        ({"kite": 0.3, "game": 0.1}, {"game": 0.1, "kite": 0.3}),
        ({"kite": 7}, {"kite": 1}),
    ],
)
def test_enemies_are_one_or_several_with_weights(enemy, weights):
    options = Options(enemy=enemy)
    assert options.enemies == weights
    again = Options(**json.loads(json.dumps(dataclasses.asdict(options))))
    assert again == options
    assert hash(again) == hash(options)


def test_refusals_say_what_would_do():
    assert "'liberty'" in refusal(profile="lotv")
    assert "focus_fire" in refusal(enemy="clever")
    assert "leave it False" in refusal(obs_terrain_height=True)
    assert "'1'" not in refusal(reward_sparse=1)


def test_defaults_are_smacs_and_smacv2s():
    smac = {
        "step_mul": 8, "move_amount": 2, "obs_all_health": True, "obs_own_health": True, "obs_last_action": False,
        "obs_pathing_grid": False, "obs_terrain_height": False, "obs_instead_of_state": False,
        "obs_timestep_number": False, "state_last_action": True, "state_timestep_number": False,
        "reward_sparse": False, "reward_only_positive": True, "reward_death_value": 10, "reward_win": 200,
        "reward_defeat": 0, "reward_negative_scale": 0.5, "reward_scale": True, "reward_scale_rate": 20,
    }  # fmt: skip
    smacv2 = {
        "obs_own_pos": None, "use_unit_ranges": None, "min_attack_range": 2, "conic_fov": False, "num_fov_actions": 12,
        "prob_obs_enemy": 1, "action_mask": True,
    }  # fmt: skip
    ours = {"shuffle_enemies": False, "profile": "liberty", "enemy": "game"}
    ours |= {"reward_scale_of": "first_episode", "wipe_rows": False}
    assert dataclasses.asdict(Options()) == smac | smacv2 | ours


@pytest.mark.usefixtures("clean_gin")
def test_options_can_be_bound_in_gin():
    gin.parse_config(["environment.map_name = '3m'", "environment.reward_sparse = True", "environment.step_mul = 4"])
    world = environments.make()
    assert (world.options.reward_sparse, world.options.step_mul) == (True, 4)
    assert world.options == Options(reward_sparse=True, step_mul=4)


@pytest.mark.usefixtures("clean_gin")
def test_wrong_option_in_gin_is_refused_by_name():
    gin.parse_config(["environment.map_name = '3m'", "environment.reward_spars = True"])
    with pytest.raises(ValueError, match=r"environment\.reward_spars"):
        environments.make()
