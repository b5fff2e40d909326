"""What is told of a battle besides observations: states in parts, units, who sees whom."""

import warnings

import numpy as np
import pytest

from tf_marl.environments.smac_api import CombatEnv as StarCraft2Env

EAST = 4


def test_the_state_dict_is_the_state_vector_in_parts():
    env = StarCraft2Env("2s3z", seed=0)
    env.reset()
    for _ in range(3):
        env.step([EAST] * 5)
        parts = env.get_state_dict()
        assert {name: (part.dtype, part.shape) for name, part in parts.items()} == {
            "allies": (np.float64, (5, 7)),
            "enemies": (np.float64, (5, 6)),
            "last_action": (np.float64, (5, 11)),
        }
        np.testing.assert_array_equal(np.concatenate([part.ravel() for part in parts.values()]), env.get_state())


@pytest.mark.parametrize("options", ["all"], indirect=True)
def test_the_state_dict_is_there_when_observations_are_the_state(options):
    env = StarCraft2Env("2s3z", seed=0, **options)
    env.reset()
    env.step([EAST] * 5)
    np.testing.assert_array_equal(env.get_state(), np.concatenate(env.get_obs()))
    parts = env.get_state_dict()
    assert [parts[name].shape for name in ("allies", "enemies", "last_action")] == [(5, 7), (5, 6), (5, 11)]
    assert parts["timestep"] == 1 / 120
    assert env.get_obs_agent(0)[-1] == np.float32(1 / 120)


@pytest.mark.parametrize(("map_name", "options"), [("2s3z", "all"), ("MMM", "none")], indirect=["options"])
def test_units_tell_what_the_state_tells(map_name, options, random_actions):
    env, rng = StarCraft2Env(map_name, seed=2, **options), np.random.default_rng(0)
    orders = set()
    for _ in range(4):
        env.reset()
        for _ in range(15):
            env.step(random_actions(env, rng))
            for side, units, x in (("allies", env.agents, 2), ("enemies", env.enemies, 1)):
                for row, unit in zip(env.get_state_dict()[side], units.values(), strict=True):
                    told = [unit.health / unit.health_max, (unit.pos.x - 16) / 32, (unit.pos.y - 16) / 32]
                    np.testing.assert_allclose(row[[0, x, x + 1]], told if unit.health > 0 else 0, atol=1e-6)
                    if env.shield_bits_ally:
                        shield = unit.shield / unit.shield_max if unit.health > 0 else 0
                        np.testing.assert_allclose(row[x + 2], shield, atol=1e-6)
        types = [unit.unit_type for unit in [*env.agents.values(), *env.enemies.values()]]
        assert env.get_unit_types() == types
        assert env.get_unit_by_id(1) == env.agents[1]
        tags = [unit.tag for unit in [*env.agents.values(), *env.enemies.values()]]
        assert len(set(tags)) == len(tags)
        orders.add(tuple(tags))
    assert (len(orders) > 1) == options.get("shuffle_enemies", False)
    if map_name == "MMM":
        assert [unit.unit_type for unit in env.agents.values()].count(env.medivac_id) == 1
        assert env.stalker_id == 0
        assert env.agents[9].energy_max == 200


@pytest.mark.parametrize("options", ["none", "all"], indirect=True)
def test_the_visibility_matrix_is_what_observations_show(options, random_actions):
    env, rng = StarCraft2Env("2s3z", seed=0, **options), np.random.default_rng(0)
    env.reset()
    terminated = False
    while not terminated:
        _, terminated, _ = env.step(random_actions(env, rng))
        matrix = env.get_visibility_matrix()
        assert (matrix.dtype, matrix.shape) == (bool, (5, 10))
        allies = matrix[:, :5]
        assert (allies == allies.T).all()
        assert not allies.diagonal().any()
        moves = 12 if options else 4
        enemy_rows = np.stack(env.get_obs())[:, moves : moves + 5 * 8].reshape(5, 5, 8)
        assert (matrix[:, 5:] == (enemy_rows[:, :, 1] > 0)).all()
    assert not matrix[env.death_tracker_ally.astype(bool)].any()
    assert not matrix[:, 5:][:, env.death_tracker_enemy.astype(bool)].any()


def test_no_warning_reaches_the_user_of_a_plain_loop(play, attack_or_advance):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        play(StarCraft2Env("3m", seed=0), attack_or_advance)
