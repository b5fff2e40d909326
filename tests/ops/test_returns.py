"""Advantages against plain loops, at every way an episode can end."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies
from tf_agents.utils import value_ops

from tf_marl.ops import returns

GAMMA, LAMBDA = 0.9, 0.8


def gae_by_loop(reward, discount, value, bootstrap_value, gamma, lambda_, boundary):
    """One environment, one agent, one row at a time; float64."""
    advantage = np.zeros(value.shape)
    num_envs, num_steps, num_agents = value.shape
    for b in range(num_envs):
        for i in range(num_agents):
            later = 0.0
            for t in reversed(range(num_steps)):
                next_value = bootstrap_value[b, i] if t == num_steps - 1 else value[b, t + 1, i]
                if boundary[b, t]:
                    later = 0.0
                else:
                    delta = reward[b, t] + gamma * discount[b, t] * next_value - value[b, t, i]
                    later = delta + gamma * lambda_ * discount[b, t] * later
                advantage[b, t, i] = later
    return advantage


def random_rollout(rng, num_envs, num_steps, num_agents, p_end=0.3):
    """Rows as TF-Agents collects them: the row after an episode's last transition is a boundary, of reward 0."""
    reward = rng.normal(size=(num_envs, num_steps)).astype(np.float32)
    discount = np.ones((num_envs, num_steps), np.float32)
    boundary = np.zeros((num_envs, num_steps), bool)
    for b in range(num_envs):
        boundary[b, 0] = rng.random() < p_end
        for t in range(num_steps):
            if boundary[b, t]:
                reward[b, t] = 0.0
            elif rng.random() < p_end:
                discount[b, t] = rng.integers(2)  # 0: terminated; 1: out of time
                if t + 1 < num_steps:
                    boundary[b, t + 1] = True
    value = rng.normal(size=(num_envs, num_steps, num_agents)).astype(np.float32)
    bootstrap_value = rng.normal(size=(num_envs, num_agents)).astype(np.float32)
    return reward, discount, value, bootstrap_value, boundary


def test_gae_matches_a_plain_loop_over_terminations_and_time_limits(rng):
    reward, discount, value, bootstrap_value, boundary = random_rollout(rng, 5, 40, 3)
    ends_row = np.roll(boundary, -1, axis=1)
    assert (ends_row & (discount == 0)).any()
    assert (ends_row & (discount == 1)).any()
    actual = returns.gae(reward, discount, value, bootstrap_value, GAMMA, LAMBDA, boundary)
    assert actual.shape == value.shape
    expected = gae_by_loop(reward, discount, value, bootstrap_value, GAMMA, LAMBDA, boundary)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    seed=strategies.integers(0, 2**31),
    sizes=strategies.tuples(*[strategies.integers(1, 4)] * 3),
    gamma=strategies.floats(0, 1),
    lambda_=strategies.floats(0, 1),
)
def test_gae_matches_a_plain_loop_for_any_size_and_decay(seed, sizes, gamma, lambda_):
    reward, discount, value, bootstrap_value, boundary = random_rollout(np.random.default_rng(seed), *sizes)
    actual = returns.gae(reward, discount, value, bootstrap_value, gamma, lambda_, boundary)
    expected = gae_by_loop(reward, discount, value, bootstrap_value, gamma, lambda_, boundary)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_gae_matches_tf_agents_where_no_episode_is_cut(rng):
    reward, discount = rng.normal(size=(2, 6)), rng.integers(0, 2, size=(2, 6)).astype(float)
    value, bootstrap_value = rng.normal(size=(2, 6)), rng.normal(size=2)
    reward, discount, value, bootstrap_value = map(tf.constant, (reward, discount, value, bootstrap_value))
    expected = value_ops.generalized_advantage_estimation(
        value, bootstrap_value, GAMMA * discount, reward, LAMBDA, time_major=False
    )
    actual = returns.gae(reward, discount, value, bootstrap_value, GAMMA, LAMBDA)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_gae_bootstraps_from_the_value_after_the_last_step():
    value = tf.constant([[[1.0], [2.0], [4.0]]])
    actual = returns.gae(tf.constant([[0.5, 0.0, 3.0]]), tf.ones([1, 3]), value, tf.constant([[8.0]]), 0.5, 0.5)
    last = 3.0 + 0.5 * 8.0 - 4.0
    middle = 0.0 + 0.5 * 4.0 - 2.0 + 0.25 * last
    first = 0.5 + 0.5 * 2.0 - 1.0 + 0.25 * middle
    np.testing.assert_allclose(actual[0, :, 0], [first, middle, last])


def test_termination_drops_the_value_of_what_follows():
    value = tf.constant([[[1.0], [2.0]]])
    reward, discount = tf.constant([[5.0, 7.0]]), tf.constant([[0.0, 1.0]])
    actual = returns.gae(reward, discount, value, tf.constant([[3.0]]), 0.5, 1.0)
    np.testing.assert_allclose(actual[0, :, 0], [5.0 - 1.0, 7.0 + 0.5 * 3.0 - 2.0])


def test_time_limit_bootstraps_from_the_boundary_and_nothing_leaks_over_it(rng):
    value = rng.normal(size=(2, 7, 3)).astype(np.float32)
    reward = rng.normal(size=(2, 7)).astype(np.float32)
    bootstrap_value = rng.normal(size=(2, 3)).astype(np.float32)
    boundary = np.zeros((2, 7), bool)
    boundary[:, 3] = True  # rows 0-2 are one episode, which ran out of time; row 3 shows where; rows 4-6 are the next
    whole = returns.gae(reward, np.ones_like(reward), value, bootstrap_value, GAMMA, LAMBDA, boundary)
    before = returns.gae(reward[:, :3], np.ones((2, 3), np.float32), value[:, :3], value[:, 3], GAMMA, LAMBDA)
    after = returns.gae(reward[:, 4:], np.ones((2, 3), np.float32), value[:, 4:], bootstrap_value, GAMMA, LAMBDA)
    np.testing.assert_array_equal(whole, np.concatenate([before, np.zeros((2, 1, 3)), after], axis=1))


def test_no_row_is_a_boundary_by_default(rng):
    reward, discount, value, bootstrap_value, _ = random_rollout(rng, 2, 5, 3)
    none = np.zeros((2, 5), bool)
    np.testing.assert_array_equal(
        returns.gae(reward, discount, value, bootstrap_value, GAMMA, LAMBDA),
        returns.gae(reward, discount, value, bootstrap_value, GAMMA, LAMBDA, none),
    )


def test_lambda_1_is_the_discounted_return_less_the_value(rng):
    reward, value, bootstrap_value = rng.normal(size=(2, 4)), rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 3))
    actual = returns.gae(*map(tf.constant, (reward, np.ones((2, 4)), value, bootstrap_value)), GAMMA, 1.0)
    for t in range(4):
        powers = GAMMA ** np.arange(4 - t)
        discounted = (reward[:, t:] @ powers)[:, None] + GAMMA ** (4 - t) * bootstrap_value
        np.testing.assert_allclose(actual[:, t], discounted - value[:, t])


def test_lambda_0_is_the_one_step_temporal_difference(rng):
    reward, value, bootstrap_value = rng.normal(size=(2, 4)), rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 3))
    discount = np.array([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
    next_value = np.concatenate([value[:, 1:], bootstrap_value[:, None]], axis=1)
    actual = returns.gae(*map(tf.constant, (reward, discount, value, bootstrap_value)), GAMMA, 0.0)
    np.testing.assert_allclose(actual, reward[..., None] + GAMMA * discount[..., None] * next_value - value)


@pytest.mark.parametrize("agents", [(), (3,), (3, 2)])
def test_values_may_have_any_trailing_axes(rng, agents):
    reward, discount = rng.normal(size=(2, 4)), np.ones((2, 4))
    value, bootstrap_value = rng.normal(size=(2, 4, *agents)), rng.normal(size=(2, *agents))
    actual = returns.gae(*map(tf.constant, (reward, discount, value, bootstrap_value)), GAMMA, LAMBDA)
    flat = gae_by_loop(
        reward, discount, value.reshape(2, 4, -1), bootstrap_value.reshape(2, -1), GAMMA, LAMBDA, np.zeros((2, 4), bool)
    )
    np.testing.assert_allclose(actual, flat.reshape(value.shape))


def test_weights_of_the_trace_match_a_plain_sum(rng):
    """Of one episode: A_t = sum_l (gamma lambda)^l c_t+1 .. c_t+l delta_t+l."""
    reward, trace = (rng.normal(size=(1, 6)).astype(np.float32) for _ in range(2))
    value = rng.normal(size=(1, 6, 1)).astype(np.float32)
    bootstrap_value, discount = np.ones((1, 1), np.float32), np.ones((1, 6), np.float32)
    actual = returns.gae(reward, discount, value, bootstrap_value, GAMMA, LAMBDA, trace=tf.constant(trace))
    next_value = np.append(value[0, 1:, 0], bootstrap_value[0])
    delta = reward[0] + GAMMA * next_value - value[0, :, 0]
    expected = [
        sum((GAMMA * LAMBDA) ** i * trace[0, t + 1 : t + 1 + i].prod() * delta[t + i] for i in range(6 - t))
        for t in range(6)
    ]
    np.testing.assert_allclose(actual[0, :, 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("weight", "lambda_"), [(1.0, LAMBDA), (0.0, 0.0)])
def test_a_whole_trace_is_gae_and_none_the_one_step_difference(rng, weight, lambda_):
    reward, discount, value, bootstrap_value, boundary = random_rollout(rng, 4, 20, 2)
    rows = reward, discount, value, bootstrap_value, GAMMA
    actual = returns.gae(*rows, LAMBDA, boundary, trace=tf.fill(reward.shape, weight))
    np.testing.assert_allclose(actual, returns.gae(*rows, lambda_, boundary), rtol=1e-6, atol=1e-6)
