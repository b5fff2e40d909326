"""Ratios and objectives: closed forms, where gradients go, and TF-Agents' PPO as the witness."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.networks import network
from tf_agents.trajectories import time_step as ts

from tf_marl import agents
from tf_marl.agents.ppo import Batch
from tf_marl.environments.matrix_game import MatrixGame
from tf_marl.ops import surrogate


def normal(rng, *shape):
    return tf.constant(rng.normal(size=shape), tf.float32)


def test_joint_ratio_is_the_product_of_agent_ratios(rng):
    log_prob, old_log_prob = normal(rng, 2, 5, 3), normal(rng, 2, 5, 3)
    independent = surrogate.independent_ratio(log_prob, old_log_prob)
    np.testing.assert_allclose(independent, np.exp(log_prob.numpy() - old_log_prob.numpy()), rtol=1e-6)
    joint = surrogate.joint_ratio(log_prob, old_log_prob)
    np.testing.assert_allclose(joint, np.prod(independent, axis=-1), rtol=1e-5)


def test_joint_ratio_is_finite_where_the_product_of_probabilities_would_underflow():
    log_prob = tf.fill([64], -20.0)  # exp(-20 * 64) is 0 in float32
    np.testing.assert_allclose(surrogate.joint_ratio(log_prob + 0.01, log_prob), np.exp(0.64), rtol=1e-4)


@pytest.mark.parametrize("ratio", [surrogate.independent_ratio, surrogate.joint_ratio])
def test_gradient_reaches_new_log_prob_only(rng, ratio):
    log_prob, old_log_prob, advantage = normal(rng, 4, 3), normal(rng, 4, 3), normal(rng, 4, 3)
    advantage = advantage if ratio is surrogate.independent_ratio else advantage[:, 0]
    with tf.GradientTape() as tape:
        tape.watch([log_prob, old_log_prob, advantage])
        gain = surrogate.clipped_surrogate(ratio(log_prob, old_log_prob), advantage, 0.2)
    to_new, to_old, to_advantage = tape.gradient(gain, [log_prob, old_log_prob, advantage])
    assert np.any(to_new)
    assert to_old is None
    assert to_advantage is None


def test_value_loss_is_half_the_squared_error_and_returns_are_constant():
    value, returns = tf.constant([1.0, -2.0]), tf.constant([4.0, 0.0])
    with tf.GradientTape() as tape:
        tape.watch([value, returns])
        loss = surrogate.squared_value_loss(value, returns)
    np.testing.assert_allclose(loss, [0.5 * 3.0**2, 0.5 * 2.0**2])
    to_value, to_returns = tape.gradient(loss, [value, returns])
    np.testing.assert_allclose(to_value, [1.0 - 4.0, -2.0 - 0.0])
    assert to_returns is None


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "slope"),
    [
        (1.1, 2.0, 1.1 * 2.0, 2.0),
        (1.5, 2.0, 1.2 * 2.0, 0.0),  # good action, already likely enough
        (0.5, 2.0, 0.5 * 2.0, 2.0),  # good action, made unlikely: pulled back
        (0.9, -2.0, 0.9 * -2.0, -2.0),
        (0.5, -2.0, 0.8 * -2.0, 0.0),  # bad action, already unlikely enough
        (1.5, -2.0, 1.5 * -2.0, -2.0),  # bad action, made likely: pushed back
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_clipped_surrogate_takes_the_pessimistic_side(ratio, advantage, gain, slope):
    ratio = tf.constant(ratio)
    with tf.GradientTape() as tape:
        tape.watch(ratio)
        actual = surrogate.clipped_surrogate(ratio, tf.constant(advantage), 0.2)
    np.testing.assert_allclose(actual, gain, rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(actual, ratio), slope, rtol=1e-6)


def test_masked_mean_ignores_masked_entries(rng):
    x, mask = rng.normal(size=(4, 3)).astype(np.float32), rng.random((4, 3)) < 0.5
    np.testing.assert_allclose(surrogate.masked_mean(x, mask), x[mask].mean(), rtol=1e-5)
    other = np.where(mask, x, np.float32(1e9))
    np.testing.assert_array_equal(surrogate.masked_mean(other, mask), surrogate.masked_mean(x, mask))


def test_masked_mean_of_nothing_is_0():
    assert surrogate.masked_mean(tf.ones([3]), tf.zeros([3], tf.bool)) == 0.0


def test_normalise_ignores_masked_entries(rng):
    x, mask = rng.normal(3.0, 5.0, size=(8, 3)).astype(np.float32), rng.random((8, 3)) < 0.5
    actual = surrogate.normalise(x, mask).numpy()
    np.testing.assert_allclose(actual[mask], (x[mask] - x[mask].mean()) / x[mask].std(), rtol=1e-4, atol=1e-5)
    assert not actual[~mask].any()
    np.testing.assert_array_equal(surrogate.normalise(np.where(mask, x, np.float32(1e9)), mask), actual)


def test_normalise_of_equal_entries_is_0():
    assert not np.any(surrogate.normalise(tf.fill([4], 7.0), tf.ones([4], tf.bool)))


class Value(network.Network):
    """TF-Agents wants a value network; the policy loss does not."""

    def call(self, observation, step_type=None, network_state=(), training=False):
        return observation["state"][..., 0], network_state


@pytest.mark.parametrize("scale", [0.1, 3.0])  # hardly a ratio clipped; most of them
def test_policy_loss_of_one_agent_is_that_of_tf_agents(rng, scale):
    core = MatrixGame(np.arange(5), num_envs=1)
    spec = core.time_step_spec
    ours = agents.ippo(spec, core.action_spec, hidden=(16,), clip_range=0.2)
    for variable in ours.actor.trainable_variables:
        variable.assign(normal(rng, *variable.shape))
    theirs = ppo_clip_agent.PPOClipAgent(
        spec,
        core.action_spec,
        optimizer=tf.keras.optimizers.legacy.Adam(),
        actor_net=ours.actor,
        value_net=Value(spec.observation),
        importance_ratio_clipping=0.2,
        normalize_observations=False,
        normalize_rewards=False,
    )
    rows = 64
    observation = {
        "obs": normal(rng, rows, 1, 6),
        "state": normal(rng, rows, 6),
        "avail_actions": tf.ones([rows, 1, 5], tf.bool),
        "alive": tf.ones([rows, 1], tf.bool),
    }
    action = tf.constant(rng.integers(5, size=(rows, 1)), tf.int32)
    team, _ = ours.actor(observation)
    old_log_prob = team.log_prob(action) + scale * normal(rng, rows)
    advantage = normal(rng, rows)

    def our_loss():
        learns = tf.ones([rows, 1], tf.bool)
        batch = Batch(observation, action, old_log_prob[:, None], advantage[:, None], advantage[:, None], learns)
        return ours.policy_loss(batch)[0]

    def their_loss():
        zeros = tf.zeros([rows])
        return theirs.policy_gradient_loss(
            ts.TimeStep(tf.ones([rows], tf.int32), zeros, zeros + 1.0, observation),
            action,
            old_log_prob,
            advantage,
            ours.actor(observation)[0],
            weights=tf.ones([rows]),
        )

    def with_gradient(loss):
        with tf.GradientTape() as tape:
            value = loss()
        return [value, *tape.gradient(value, ours.actor.trainable_variables)]

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    tf.nest.map_structure(close, with_gradient(our_loss), with_gradient(their_loss))
