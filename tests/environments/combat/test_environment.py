"""The environment as a whole: seeds, batches, and TF-Agents' contract."""

import numpy as np
import tensorflow as tf
from tf_agents.environments import tf_environment
from tf_agents.utils import nest_utils

from tf_marl import environments
from tf_marl.compile import graph
from tf_marl.environments.combat.environment import Combat, Draws
from tf_marl.environments.combat.scenarios import scenario


def legal_actions(state, rng):
    """[B, N] random legal actions."""
    available = np.moveaxis(state.available.numpy(), -1, 0)
    return np.where(available, rng.random(available.shape), -1).argmax(-1).astype(np.int32)


def test_battle_evolves_the_same_alone_or_among_64():
    many, one = Combat(scenario("2s3z"), 64), Combat(scenario("2s3z"), 1)
    play_many = graph.function(many.play, jit_compile=True)
    play_one = graph.function(one.play, jit_compile=True)
    which, rng = 37, np.random.default_rng(0)

    def alone(nest):
        return tf.nest.map_structure(lambda leaf: leaf[..., which : which + 1], nest)

    state = many.reset(tf.constant([1, 2]))
    for t in range(90):  # beyond the end of most battles
        draws = many.draw(tf.constant([3, t]))
        action = legal_actions(state, rng)
        after = play_many(state, action, draws)
        after_alone = play_one(alone(state), action[which : which + 1], Draws(*alone(tuple(draws))))
        # Equal but for the order in which XLA sums in the two shapes: crowding makes such differences grow over an
        # episode, so each step starts from the same state.
        tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), alone(after), after_alone)
        state = after


def test_same_seed_same_episodes_other_seed_others():
    def play(seed):
        env = environments.load("3m", num_envs=4, seed=seed)
        time_step, rng, rewards = env.reset(), np.random.default_rng(0), []
        for _ in range(30):
            available = time_step.observation["avail_actions"].numpy()
            time_step = env.step(np.where(available, rng.random(available.shape), -1).argmax(-1).astype(np.int32))
            rewards.append(time_step.observation["state"].numpy())
        return np.stack(rewards)

    first = play(0)
    np.testing.assert_array_equal(first, play(0))
    assert (first != play(1)).any()


def test_environment_meets_its_own_specs():
    env = environments.load("3m", num_envs=3)
    assert isinstance(env, tf_environment.TFEnvironment)
    assert env.batch_size == 3
    time_step = env.reset()
    for _ in range(3):
        assert nest_utils.is_batched_nested_tensors(time_step, env.time_step_spec())
        dtypes = tf.nest.map_structure(lambda leaf: leaf.dtype, time_step)
        assert dtypes == tf.nest.map_structure(lambda spec: spec.dtype, env.time_step_spec())
        time_step = env.step(tf.ones([3, 3], tf.int32))
    assert set(env.info()) == {"battle_won", "dead_allies", "dead_enemies", "illegal_actions"}
    assert env.action_spec().shape == (3,)
    assert (env.action_spec().minimum, env.action_spec().maximum) == (0, 8)


def test_illegal_actions_of_strangers_are_counted_not_played():
    env = environments.load("3m", num_envs=2)
    env.reset()
    env.step(tf.zeros([2, 3], tf.int32))  # no-op of the living
    assert env.info()["illegal_actions"].numpy().tolist() == [3, 3]


def test_last_time_step_shows_the_true_end_and_the_next_is_a_first():
    env = environments.load("3m", num_envs=8, seed=1)
    time_step = env.reset()
    for _ in range(61):
        previous, time_step = time_step, env.step(tf.where(time_step.observation["alive"], 1, 0))
        ended = previous.is_last().numpy()
        assert (time_step.is_first().numpy() == ended).all()
        if ended.any():
            # Whoever stood still was beaten: the last observation shows the dead, not the next episode's living.
            assert not previous.observation["alive"].numpy()[ended].any()
            assert time_step.observation["alive"].numpy()[ended].all()
            return
    raise AssertionError("no episode ended")
