"""The matrix game: payoffs as tabulated, episodes that end and start over as in the battles."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.environments import tf_environment
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import nest_utils

from tf_marl.environments.matrix_game import CLIMBING_GAME, MatrixGame
from tf_marl.environments.tf_environments import CompiledEnvironment

SEED = tf.constant([0, 0])
THREE_AGENTS = np.arange(27).reshape(3, 3, 3)


def play(world, *actions):
    """Time steps and infos from a reset on, one more than actions."""
    state = world.reset(SEED)
    steps, infos = [world.time_step(state)], [world.info(state)]
    for action in actions:
        state = world.step(state, tf.constant(action, tf.int32), SEED)
        steps.append(world.time_step(state))
        infos.append(world.info(state))
    return steps, infos


def test_reward_is_the_payoff_of_the_joint_action():
    joint = np.stack(np.indices(THREE_AGENTS.shape), axis=-1).reshape(-1, 3)
    (_, step), _ = play(MatrixGame(THREE_AGENTS, num_envs=27), joint)
    np.testing.assert_array_equal(step.reward, np.arange(27))


def test_both_climbing_is_optimal_in_the_climbing_game():
    joint = [[0, 0], [0, 1], [1, 0], [1, 1], [2, 2]]
    (_, step), (before, after) = play(MatrixGame(CLIMBING_GAME, num_envs=5), joint)
    np.testing.assert_array_equal(step.reward, [11, -30, -30, 7, 5])
    np.testing.assert_array_equal(after["optimal"], [True, False, False, False, False])
    assert not np.any(before["optimal"])


def test_nothing_is_optimal_before_the_first_action_even_if_the_best_payoff_is_0():
    _, (before, after) = play(MatrixGame(-THREE_AGENTS, num_envs=1), [[0, 0, 0]])
    assert not before["optimal"][0]
    assert after["optimal"][0]


@pytest.mark.parametrize(("time_limit", "last_discount"), [(False, 0.0), (True, 1.0)])
def test_episode_ends_and_the_step_after_it_starts_the_next(time_limit, last_discount):
    world = MatrixGame(CLIMBING_GAME, num_envs=2, episode_length=2, time_limit=time_limit)
    actions = [[0, 0], [1, 1]], [[2, 2], [0, 1]], [[0, 0], [0, 0]], [[1, 2], [1, 0]]
    steps, infos = play(world, *actions)
    first, mid, last = ts.StepType.FIRST, ts.StepType.MID, ts.StepType.LAST
    np.testing.assert_array_equal([step.step_type[0] for step in steps], [first, mid, last, first, mid])
    np.testing.assert_array_equal([step.reward for step in steps], [[0, 0], [11, 7], [5, -30], [0, 0], [6, -30]])
    np.testing.assert_array_equal([step.discount[0] for step in steps], [1, 1, last_discount, 1, 1])
    np.testing.assert_array_equal([info["optimal"][0] for info in infos], [False, True, False, False, False])
    tf.nest.map_structure(np.testing.assert_array_equal, steps[3], steps[0])


def test_observation_is_the_share_played_and_ones_own_last_action():
    steps, _ = play(MatrixGame(CLIMBING_GAME, num_envs=1, episode_length=2), [[0, 2]])
    np.testing.assert_array_equal(steps[0].observation["obs"][0], [[0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(steps[1].observation["obs"][0], [[0.5, 1, 0, 0], [0.5, 0, 0, 1]])
    np.testing.assert_array_equal(steps[1].observation["state"][0], [0.5, 1, 0, 0, 0, 0, 1])


def test_everyone_lives_and_may_do_anything():
    steps, _ = play(MatrixGame(THREE_AGENTS, num_envs=2), [[0, 1, 2], [2, 2, 2]])
    for step in steps:
        assert np.all(step.observation["alive"])
        assert np.all(step.observation["avail_actions"])


@pytest.mark.parametrize("payoff", [CLIMBING_GAME, THREE_AGENTS], ids=["two agents", "three agents"])
def test_time_steps_match_their_spec(payoff):
    world = MatrixGame(payoff, num_envs=2)
    for step in play(world, np.ones((2, payoff.ndim)))[0]:
        assert nest_utils.is_batched_nested_tensors(step, world.time_step_spec)


def test_resize_changes_the_number_of_games_only():
    world = MatrixGame(CLIMBING_GAME, num_envs=2, episode_length=3, time_limit=True).resize(5)
    assert world.num_envs == 5
    assert world.episode_limit == 3
    assert world.time_limit
    (_, step), _ = play(world, np.ones((5, 2)))
    np.testing.assert_array_equal(step.reward, [7] * 5)


def test_it_serves_tf_agents_drivers_compiled():
    environment = CompiledEnvironment(MatrixGame(CLIMBING_GAME, num_envs=3))
    assert isinstance(environment, tf_environment.TFEnvironment)
    assert environment.batch_size == 3
    assert np.all(environment.reset().is_first())
    step = environment.step(tf.constant([[0, 0], [1, 1], [2, 2]]))
    assert np.all(step.is_last())
    np.testing.assert_array_equal(step.reward, [11, 7, 5])
    np.testing.assert_array_equal(environment.info()["optimal"], [True, False, False])
    assert np.all(environment.step(tf.zeros([3, 2], tf.int32)).is_first())
