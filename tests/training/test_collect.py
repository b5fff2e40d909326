"""Rollouts: rows that chain into episodes, and a tally that agrees with them."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from tf_marl import agents, environments
from tf_marl.environments.matrix_game import CLIMBING_GAME, MatrixGame
from tf_marl.training.collect import Collector

NUM_ENVS = 4


def collector(world, num_steps, seed=0, num_shards=1, whole_episodes=False, **agent_options):
    agent = agents.ippo(world.time_step_spec, world.action_spec, hidden=(8,), **agent_options)
    return agent, Collector(world, agent.collect_policy, num_steps, seed, num_shards, whole_episodes)


class Collected(NamedTuple):
    experience: Any
    final_time_step: Any
    tally: Any


def collect_twice(world, num_steps, **options):
    agent, environments = collector(world, num_steps, **options)
    collected = [Collected(*rollout, tally) for rollout, tally in (environments.collect() for _ in range(2))]
    return agent, tf.nest.map_structure(np.asarray, collected)


@pytest.fixture(scope="module")
def game():
    """Episodes of 3 env steps, so that 4 rows go by from one start to the next; rollouts of 9 cut them anywhere."""
    return MatrixGame(CLIMBING_GAME, NUM_ENVS, episode_length=3)


@pytest.fixture(scope="module")
def game_rollouts(game):
    return collect_twice(game, num_steps=9)


@pytest.fixture(scope="module", params=["matrix game", "3m", "3m, recurrent"])
def played(request):
    """An agent and its first two rollouts, one continuing the other."""
    if request.param == "matrix game":
        return request.getfixturevalue("game_rollouts")
    options = {"rnn": "gru", "rnn_units": 8} if "recurrent" in request.param else {}
    return collect_twice(environments.make("3m", num_envs=NUM_ENVS), num_steps=48, **options)


@pytest.fixture
def rows(played):
    """Both rollouts in one, [B, 2T]."""
    _, rollouts = played
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts, axis=1), *(r.experience for r in rollouts))


def test_rows_chain_within_and_between_rollouts(played, rows):
    np.testing.assert_array_equal(rows.next_step_type[:, :-1], rows.step_type[:, 1:])
    _, (first, second) = played
    np.testing.assert_array_equal(first.final_time_step.step_type, second.experience.step_type[:, 0])
    for name, leaf in first.final_time_step.observation.items():
        np.testing.assert_array_equal(leaf, second.experience.observation[name][:, 0], err_msg=name)


def test_an_episode_starts_after_every_boundary_and_nowhere_else(rows):
    assert (rows.step_type[:, 0] == ts.StepType.FIRST).all()
    boundary = rows.step_type == ts.StepType.LAST
    assert boundary.any()
    np.testing.assert_array_equal(rows.next_step_type == ts.StepType.FIRST, boundary)
    assert not rows.reward[boundary].any()
    assert (rows.discount[boundary] == 1).all()


def test_tally_counts_env_steps_without_boundaries_and_episodes_by_their_ends(played, rows):
    _, rollouts = played
    tally = tf.nest.map_structure(lambda *parts: sum(parts), *(rollout.tally for rollout in rollouts))
    ends = rows.next_step_type == ts.StepType.LAST
    assert tally.env_steps == (rows.step_type != ts.StepType.LAST).sum()
    assert tally.episodes == ends.sum()
    returns, lengths = [], []
    for b in range(NUM_ENVS):  # episode by episode, up to the last that ended
        for episode in np.split(np.arange(ends.shape[1]), np.flatnonzero(ends[b]) + 1)[:-1]:
            counted = episode[rows.step_type[b, episode] != ts.StepType.LAST]
            returns.append(rows.reward[b, counted].sum())
            lengths.append(len(counted))
    assert tally.env_steps_of_episodes == sum(lengths)
    np.testing.assert_allclose(tally.returns, sum(returns), rtol=1e-5)
    (outcome,) = tally.outcomes.values()
    assert 0 <= outcome <= tally.episodes


def test_tally_of_the_matrix_game_is_known_in_advance(game_rollouts):
    _, (first, second) = game_rollouts
    # Rows by what they lead to, | a rollout's end:  1 2 3 b 1 2 3 b 1 | 2 3 b 1 2 3 b 1 2
    assert [first.tally.env_steps, second.tally.env_steps] == [NUM_ENVS * 7, NUM_ENVS * 7]
    assert [first.tally.episodes, second.tally.episodes] == [NUM_ENVS * 2, NUM_ENVS * 2]
    assert [first.tally.env_steps_of_episodes, second.tally.env_steps_of_episodes] == [NUM_ENVS * 6, NUM_ENVS * 6]
    for rollout in (first, second):
        won = (rollout.experience.next_step_type == ts.StepType.LAST) & (rollout.experience.reward == 11)
        assert rollout.tally.outcomes == {"optimal": won.sum()}


def test_actions_are_available_and_the_logits_on_record_are_the_agents(played, rows):
    """Recurrent agents too: unrolled from the state on record, they are what they were step by step."""
    agent, rollouts = played
    taken = np.take_along_axis(rows.observation["avail_actions"], rows.action[..., None], axis=-1)
    assert taken.all()
    for rollout in rollouts:
        experience = tf.nest.map_structure(tf.constant, rollout.experience)
        counts = agent.learning_mask(experience)
        recorded, computed = (logits[counts] for logits in (experience.policy_info["logits"], agent.logits(experience)))
        np.testing.assert_allclose(recorded, computed, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def episodes():
    """Two rollouts of one whole episode each in every environment, by recurrent agents."""
    world = environments.make("3m", num_envs=NUM_ENVS)
    options = {"whole_episodes": True, "rnn": "gru", "rnn_units": 8}
    _, rollouts = collect_twice(world, world.episode_limit, **options)
    return world, rollouts


def test_a_whole_episode_starts_at_its_start_and_all_after_its_end_is_boundary(episodes):
    world, rollouts = episodes
    for experience, _, tally in rollouts:
        assert (experience.step_type[:, 0] == ts.StepType.FIRST).all()
        for state in experience.policy_info["policy_state"].values():
            assert not state[:, 0].any()
        boundary = experience.step_type == ts.StepType.LAST
        assert (experience.step_type[:, 1:][~boundary[:, 1:]] == ts.StepType.MID).all()
        assert (boundary[:, 1:] >= boundary[:, :-1]).all()  # once over, always over
        lengths = (~boundary).sum(axis=1)
        assert (experience.next_step_type[boundary] == ts.StepType.LAST).all()
        ends = np.take_along_axis(experience.next_step_type, lengths[:, None] - 1, axis=1)
        assert (ends == ts.StepType.LAST).all()
        assert not experience.reward[boundary].any()
        assert tally.episodes == NUM_ENVS
        assert tally.env_steps == tally.env_steps_of_episodes == lengths.sum()
        assert lengths.max() <= world.episode_limit
        np.testing.assert_allclose(tally.returns, experience.reward.sum(), rtol=1e-5)
    first, second = (rollout.experience.action for rollout in rollouts)
    assert (first != second).any()


def test_shapes_are_those_of_the_policys_trajectory(played):
    agent, (rollout, _) = played
    num_steps = rollout.experience.reward.shape[1]

    def has_spec(spec, leaf):
        assert leaf.shape == (NUM_ENVS, num_steps, *spec.shape)
        assert leaf.dtype == spec.dtype.as_numpy_dtype

    tf.nest.map_structure(has_spec, agent.collect_policy.trajectory_spec, rollout.experience)


def test_rollouts_repeat_with_the_seed(game, game_rollouts):
    _, expected = game_rollouts
    _, again = collect_twice(game, num_steps=9)
    tf.nest.map_structure(np.testing.assert_array_equal, again, expected)
    _, other = collect_twice(game, num_steps=9, seed=1)
    assert (other[0].experience.action != expected[0].experience.action).any()
    assert (expected[0].experience.action != expected[1].experience.action).any()


def test_shards_add_up_and_differ_among_themselves(game, game_rollouts):
    _, (whole, _) = game_rollouts
    _, (sharded, _) = collect_twice(game, num_steps=9, num_shards=2)
    assert sharded.tally.env_steps == whole.tally.env_steps
    tf.nest.map_structure(lambda a, b: np.testing.assert_array_equal(a.shape, b.shape), sharded[:2], whole[:2])
    upper, lower = np.split(sharded.experience.action, 2)
    assert (upper != lower).any()


def test_number_of_shards_must_divide_the_environments(game):
    with pytest.raises(ValueError, match="num_shards = 3 does not divide num_envs = 4"):
        collector(game, num_steps=9, num_shards=3)


def test_number_of_shards_divides_by_default():
    for num_envs in range(1, 5):
        assert num_envs % collector(MatrixGame(CLIMBING_GAME, num_envs), 1, num_shards=None)[1].num_shards == 0
