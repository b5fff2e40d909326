"""Ratios and objectives: closed forms, and where gradients go."""

import functools
import itertools

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from tf_marl.ops import masked, surrogate


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


def orders(rng, num_agents):
    if num_agents <= 5:
        return itertools.permutations(range(num_agents))
    return [rng.permutation(num_agents) for _ in range(20)]


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(num_agents=strategies.integers(1, 27), seed=strategies.integers(0, 2**32 - 1))
def test_surrogates_in_sequence_add_up_to_the_joint_one_in_every_order(num_agents, seed):
    rng = np.random.default_rng(seed)
    ratio = np.exp(rng.normal(size=(2, 3, num_agents), scale=0.3)) * (rng.random((2, 3, num_agents)) < 0.9)
    advantage = rng.normal(size=(2, 3))
    for order in orders(rng, num_agents):
        terms = surrogate.sequential_surrogates(tf.constant(ratio[..., list(order)]), tf.constant(advantage))
        assert terms.shape == ratio.shape
        np.testing.assert_allclose(tf.reduce_sum(terms, axis=-1), (ratio.prod(axis=-1) - 1) * advantage, atol=1e-9)


def test_surrogates_in_sequence_worked_by_hand():
    terms = surrogate.sequential_surrogates(tf.constant([1.5, 1.0, 0.8]), tf.constant(2.0))
    np.testing.assert_allclose(terms, [0.5 * 2, 0.0, 1.5 * -0.2 * 2], rtol=1e-6)


def test_an_agent_without_change_adds_nothing_even_where_ratios_overflow():
    terms = surrogate.sequential_surrogates(tf.constant([1e30, 1e30, 1.0]), tf.constant(1.0))
    assert terms[-1] == 0.0


def coordinated(inner_epsilon):
    return functools.partial(surrogate.coordinated_ratio, inner_epsilon=inner_epsilon)


def test_coordinated_ratio_lies_between_the_agents_own_and_the_joint_one(rng):
    old = rng.normal(size=(6, 4)).astype(np.float32)
    new = old + 0.05 * rng.normal(size=old.shape).astype(np.float32)
    np.testing.assert_allclose(coordinated(0.0)(new, old), surrogate.independent_ratio(new, old), rtol=1e-6)
    joint = tf.repeat(surrogate.joint_ratio(new, old)[:, None], 4, axis=1)  # no product leaves the wide range
    np.testing.assert_allclose(coordinated(0.9)(new, old), joint, rtol=1e-5)


def test_coordinated_ratio_clips_the_product_of_the_others():
    log_prob = tf.math.log([[1.0, 1.2, 1.5]])  # the others': 1.8, 1.5, 1.2
    np.testing.assert_allclose(coordinated(0.3)(log_prob, tf.zeros([1, 3])), [[1.3, 1.2 * 1.3, 1.5 * 1.2]], rtol=1e-6)


def test_coordinated_ratio_moves_team_mates_where_their_product_is_in_range():
    log_prob = tf.Variable(tf.math.log([[1.0, 1.2, 1.5]]))
    with tf.GradientTape(persistent=True) as tape:
        ratio = coordinated(0.3)(log_prob, tf.zeros([1, 3]))[0]
        first, last = ratio[0], ratio[2]
    np.testing.assert_allclose(tape.gradient(first, log_prob), [[1.3, 0.0, 0.0]], rtol=1e-6)  # 1.8 is out of range
    np.testing.assert_allclose(tape.gradient(last, log_prob), [[1.8, 1.8, 1.8]], rtol=1e-6)


@pytest.mark.parametrize("ratio", [surrogate.independent_ratio, surrogate.joint_ratio, coordinated(0.9)])
def test_gradient_reaches_new_log_prob_only(rng, ratio):
    log_prob, old_log_prob, advantage = normal(rng, 4, 3), normal(rng, 4, 3), normal(rng, 4, 3)
    advantage = advantage[:, 0] if ratio is surrogate.joint_ratio else advantage
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
    ("error", "loss", "slope"),  # with a delta of 2
    [
        (0.0, 0.0, 0.0),
        (1.5, 0.5 * 1.5**2, 1.5),
        (-1.5, 0.5 * 1.5**2, -1.5),
        (2.0, 0.5 * 2.0**2, 2.0),  # where both forms meet
        (5.0, 2.0 * (5.0 - 2.0 / 2), 2.0),
        (-5.0, 2.0 * (5.0 - 2.0 / 2), -2.0),
    ],
)
def test_huber_loss_is_squared_up_to_delta_and_linear_beyond_and_returns_are_constant(error, loss, slope):
    value, returns = tf.constant([7.0 + error]), tf.constant([7.0])
    with tf.GradientTape() as tape:
        tape.watch([value, returns])
        actual = surrogate.huber_value_loss(value, returns, 2.0)
    np.testing.assert_allclose(actual, [loss])
    to_value, to_returns = tape.gradient(actual, [value, returns])
    np.testing.assert_allclose(to_value, [slope])
    assert to_returns is None


def test_huber_loss_of_a_far_delta_is_the_squared_one(rng):
    value, returns = normal(rng, 4, 3), normal(rng, 4, 3)
    expected = surrogate.squared_value_loss(value, returns)
    np.testing.assert_allclose(surrogate.huber_value_loss(value, returns, 100.0), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "clipped", "slope"),  # the old value is 3, the clip 0.5
    [(3.2, 3.2, 1.0), (2.6, 2.6, 1.0), (4.0, 3.0 + 0.5, 0.0), (1.0, 3.0 - 0.5, 0.0)],
)
def test_clipped_value_stays_near_the_old_one_which_is_constant(value, clipped, slope):
    value, old_value = tf.constant([value]), tf.constant([3.0])
    with tf.GradientTape() as tape:
        tape.watch([value, old_value])
        actual = surrogate.clip_value(value, old_value, 0.5)
    np.testing.assert_allclose(actual, [clipped], rtol=1e-6)
    to_value, to_old_value = tape.gradient(actual, [value, old_value])
    np.testing.assert_allclose(to_value, [slope])
    assert to_old_value is None


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
    np.testing.assert_allclose(masked.mean(x, mask), x[mask].mean(), rtol=1e-5)
    other = np.where(mask, x, np.float32(1e9))
    np.testing.assert_array_equal(masked.mean(other, mask), masked.mean(x, mask))


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_masked_mean_along_an_axis_ignores_masked_entries_and_is_0_where_there_are_no_others(rng, axis, keepdims):
    x, mask = rng.normal(size=(4, 3)).astype(np.float32), rng.random((4, 3)) < 0.5
    mask[1] = mask[:, 2] = False
    mask[0, 0] = True
    count = mask.sum(axis, keepdims=keepdims)
    expected = np.where(mask, x, 0.0).sum(axis, keepdims=keepdims) / np.maximum(count, 1)
    assert (count == 0).any()
    actual = masked.mean(np.where(mask, x, np.float32(np.nan)), mask, axis, keepdims)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_masked_mean_of_nothing_is_0():
    assert masked.mean(tf.ones([3]), tf.zeros([3], tf.bool)) == 0.0


def test_normalise_ignores_masked_entries(rng):
    x, mask = rng.normal(3.0, 5.0, size=(8, 3)).astype(np.float32), rng.random((8, 3)) < 0.5
    actual = masked.normalise(x, mask).numpy()
    np.testing.assert_allclose(actual[mask], (x[mask] - x[mask].mean()) / x[mask].std(), rtol=1e-4, atol=1e-5)
    assert not actual[~mask].any()
    np.testing.assert_array_equal(masked.normalise(np.where(mask, x, np.float32(1e9)), mask), actual)


def test_normalise_of_equal_entries_is_0():
    assert not np.any(masked.normalise(tf.fill([4], 7.0), tf.ones([4], tf.bool)))
