"""SMAC's rules: availability, observation, state, reward and ending, column by column."""

import numpy as np
import pytest

STOP, EAST, ATTACK = 1, 4, 6
FAR = [28.0, 28.0]


def observe(ring, state):
    return {name: leaf[0].numpy() for name, leaf in ring.world.time_step(state).observation.items()}


@pytest.mark.parametrize(("distance", "attackable"), [(6.0, True), (6.001, False)])
def test_attack_is_available_up_to_six_inclusive(arena, distance, attackable):
    ring = arena(["stalker"], ["marine"])
    observation = observe(ring, ring.start([[20.0, 10.0], [20.0 + distance, 10.0]]))
    assert observation["avail_actions"][0, ATTACK] == attackable
    assert observation["obs"][0, 4] == attackable  # first column of the enemy row


@pytest.mark.parametrize(("distance", "visible"), [(8.999, True), (9.0, False)])
def test_unit_is_seen_closer_than_nine(arena, distance, visible):
    ring = arena(["marine", "marine"], ["marine"])
    observation = observe(ring, ring.start([[10.0, 10.0], [10.0 + distance, 10.0], FAR]))
    row = observation["obs"][0, 4 + 6 : 4 + 6 + 6]  # 6 columns: the scenario's base map shows shields
    assert row.any() == visible
    if visible:
        np.testing.assert_allclose(row[:5], [1, distance / 9, distance / 9, 0, 1], rtol=1e-5)


def test_probe_lets_agents_touch_the_western_and_southern_edge(arena):
    """int() truncates toward zero, so a probe at -0.6 still finds cell 0; at the far edge there is no such luck."""
    ring = arena(["marine"], ["marine"])
    near = observe(ring, ring.start([[0.4, 0.4], FAR]))["avail_actions"][0]
    far = observe(ring, ring.start([[31.2, 31.2], [1.0, 1.0]]))["avail_actions"][0]
    assert near[2:6].tolist() == [True, True, True, True]
    assert far[2:6].tolist() == [False, True, False, True]


def test_dead_agent_sees_nothing_and_may_do_nothing(arena):
    ring = arena(["marine", "marine"], ["marine"])
    observation = observe(ring, ring.start([[10.0, 10.0], [11.0, 10.0], [12.0, 10.0]], health=[0, 45, 45]))
    assert observation["alive"].tolist() == [False, True]
    assert not observation["obs"][0].any()
    assert observation["avail_actions"][0].tolist() == [True] + [False] * 6
    assert observation["avail_actions"][1, :2].tolist() == [False, True]
    ally_row = observation["obs"][1, 4 + 6 : 4 + 6 + 6]
    assert not ally_row.any()
    assert not observation["state"][:5].any()


def test_observation_and_state_of_a_stalker_and_zealot_map_column_by_column(map_arena):
    """2s3z by hand: rows of 8 columns, type bits of the enemies reversed."""
    ring = map_arena("2s3z")
    places = [[10, 10], [11, 10], [12, 10], [13, 10], [14, 10], [14, 13], [18.9, 10], [19, 10], [10, 18], [30, 20]]
    state = ring.start(
        places,
        health=[40, 80, 100, 100, 100, 80, 80, 50, 100, 100],
        shield=[80, 20, 50, 50, 25, 80, 40, 0, 50, 50],
        cooldown=[7, 0, 11, 0, 0, 0, 0, 0, 0, 0],
    )
    state = state._replace(last_action=np.array([[1], [4], [6], [1], [10]], np.int32))
    observation = observe(ring, state)
    obs = observation["obs"][0]
    np.testing.assert_allclose(obs[:4], 1)  # N S E W are open
    np.testing.assert_allclose(
        obs[4:12], [1, 5 / 9, 4 / 9, 3 / 9, 1, 1, 0, 1], rtol=1e-5
    )  # enemy stalker, reversed bits
    np.testing.assert_allclose(obs[12:20], [0, 8.9 / 9, 8.9 / 9, 0, 1, 0.5, 0, 1], rtol=1e-5)  # seen, out of reach
    assert not obs[20:28].any()  # at exactly 9
    np.testing.assert_allclose(obs[28:36], [0, 8 / 9, 0, 8 / 9, 1, 1, 1, 0], rtol=1e-5)  # enemy zealot, reversed bits
    assert not obs[36:44].any()
    np.testing.assert_allclose(obs[44:52], [1, 1 / 9, 1 / 9, 0, 1, 0.25, 1, 0], rtol=1e-5)  # stalker 1
    np.testing.assert_allclose(obs[68:76], [1, 4 / 9, 4 / 9, 0, 1, 0.5, 0, 1], rtol=1e-5)  # zealot 4
    np.testing.assert_allclose(obs[76:], [0.5, 1, 1, 0])  # own health, shield, type
    # Agent 2's rows of the others skip agent 2 itself.
    np.testing.assert_allclose(observation["obs"][2, 44:52], [1, 2 / 9, -2 / 9, 0, 0.5, 1, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(observation["obs"][2, 60:68], [1, 1 / 9, 1 / 9, 0, 1, 1, 0, 1], rtol=1e-5)

    state_vector = observation["state"]
    np.testing.assert_allclose(state_vector[:7], [0.5, 7 / 35, -6 / 32, -6 / 32, 1, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(state_vector[14:21], [1, 11 / 22, -4 / 32, -6 / 32, 1, 0, 1], rtol=1e-5)
    np.testing.assert_allclose(state_vector[35:41], [1, -2 / 32, -3 / 32, 1, 0, 1], rtol=1e-5)
    np.testing.assert_array_equal(state_vector[65:].reshape(5, 11).argmax(-1), [1, 4, 6, 1, 10])
    assert len(state_vector) == 120


def test_last_action_is_empty_after_reset_and_no_op_for_the_dead(map_arena):
    ring = map_arena("3m")
    state = ring.start(health=[45, 0, 45, 45, 45, 45])
    assert not observe(ring, state)["state"][-27:].any()
    state = ring.step(state, [1, 0, 2])
    np.testing.assert_array_equal(observe(ring, state)["state"][-27:].reshape(3, 9), np.eye(9)[[1, 0, 2]])


def test_clean_win_of_3m_returns_20(map_arena):
    ring = map_arena("3m")
    # The enemies cannot hurt anyone in time: three focused marines against weakened ones, health restored by hand.
    state = ring.start([[9, 15], [9, 16], [9, 17], [14, 15], [14, 16], [14, 17]])
    total, steps = 0.0, 0
    while state.step_type[0] != 2:
        alive = state.units.alive.numpy()[3:, 0]
        target = 6 + int(np.argmax(alive))
        state = ring.with_units(state, health=np.r_[[45.0] * 3, state.units.health.numpy()[3:, 0]])
        available = state.available.numpy()[:, target, 0]
        state = ring.step(state, np.where(available, target, EAST))
        total, steps = total + float(state.reward[0]), steps + 1
    assert state.battle_won[0]
    assert state.discount[0] == 0
    np.testing.assert_allclose(total, 20.0, rtol=1e-5)


def test_reward_is_damage_and_kills_over_max_reward(map_arena):
    ring = map_arena("3m")
    state = ring.start([[9, 10], [9, 20], [9, 22], [14.5, 10], [25, 20], [25, 22]], health=[45, 45, 45, 6, 45, 45])
    state = ring.step(state, [ATTACK, STOP, STOP])
    np.testing.assert_allclose(state.reward[0], (6 + 10) * 20 / 365, rtol=1e-5)


def test_recovering_enemies_pay_because_smac_takes_the_absolute_value(map_arena):
    ring = map_arena("2s3z")
    state = ring.start(shield=[80, 80, 50, 50, 50, 10, 80, 50, 50, 50], loops_unhurt=[1000] * 10)
    state = ring.step(state, [STOP] * 5)
    np.testing.assert_allclose(state.reward[0], 1.0 * 20 / 1020, rtol=1e-4)


def test_defeat_ends_the_task_and_the_next_step_starts_anew(map_arena):
    ring = map_arena("3m")
    state = ring.step(
        ring.start([[9, 10], [9, 20], [9, 22], [14, 10], [25, 20], [25, 22]], health=[1, 0, 0] + [45] * 3), [1, 0, 0]
    )
    assert (int(state.step_type[0]), float(state.discount[0]), bool(state.battle_won[0])) == (2, 0.0, False)
    fresh = ring.step(state, [5, 5, 5])  # ignored
    assert (int(fresh.step_type[0]), float(fresh.reward[0]), float(fresh.discount[0])) == (0, 0.0, 1.0)
    assert (fresh.units.health.numpy() == 45).all()
    assert int(fresh.step_count[0]) == 0
    assert int(fresh.illegal_actions[0]) == int(state.illegal_actions[0])


def test_truncation_keeps_discount(map_arena):
    ring = map_arena("3m")
    state = ring.start([[1, 8], [1, 9], [1, 10], [31, 22], [31, 23], [31, 24]])
    state = state._replace(step_count=np.array([58], np.int32))
    state = ring.step(state, [1, 1, 1])
    assert int(state.step_type[0]) == 1
    state = ring.step(state, [1, 1, 1])
    assert (int(state.step_type[0]), float(state.discount[0]), bool(state.battle_won[0])) == (2, 1.0, False)


def test_unavailable_action_becomes_stop_and_is_counted(map_arena):
    ring = map_arena("3m")
    state = ring.start(health=[45, 45, 0, 45, 45, 45])
    after = ring.step(state, [ATTACK, 0, 1])  # too far; alive; dead
    assert after.last_action[:, 0].numpy().tolist() == [1, 1, 0]
    assert int(after.illegal_actions[0]) == 3
    np.testing.assert_allclose(after.units.x[:2], state.units.x[:2], atol=0.05)  # neither walks


def test_orthogonal_moves_go_where_they_say(map_arena):
    ring = map_arena("3m")
    state = ring.start([[9, 12], [9, 16], [9, 20], [30, 14], [30, 16], [30, 18]])
    after = ring.step(state, [2, 3, 5])
    moved = np.stack([after.units.x - state.units.x, after.units.y - state.units.y], axis=-1)[:3, 0]
    np.testing.assert_allclose(moved, [[0, 1.125], [0, -1.125], [-1.125, 0]], atol=1e-4)
