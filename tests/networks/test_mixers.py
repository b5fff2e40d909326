"""Mixers: what they add up to, that they are monotone, and that the dead have no part in them."""

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.networks import Architecture
from tf_marl.networks.mixers import Monotonic, Separate, Sum

NUM_AGENTS, NUM_ROWS = 3, 50
SPEC = {"state": tf.TensorSpec([5], tf.float32), "alive": tf.TensorSpec([NUM_AGENTS], tf.bool)}


@pytest.fixture
def monotonic():
    return Monotonic(SPEC, 8, 16, Architecture(), seed=0)


@pytest.fixture
def observation(rng):
    alive = rng.random((NUM_ROWS, NUM_AGENTS)) < 0.7
    return {"state": tf.constant(rng.normal(size=(NUM_ROWS, 5)), tf.float32), "alive": tf.constant(alive)}


@pytest.fixture
def value(rng):
    return tf.constant(rng.normal(size=(NUM_ROWS, NUM_AGENTS)), tf.float32)


def gradient(mixer, value, observation):
    with tf.GradientTape() as tape:
        tape.watch(value)
        joint = mixer(value, observation)
    return tape.gradient(joint, value).numpy()


def test_a_mixture_rises_with_every_living_agents_value(monotonic, value, observation):
    slope, alive = gradient(monotonic, value, observation), observation["alive"].numpy()
    assert np.all(slope[alive] > 0)
    assert np.all(slope[~alive] == 0)
    assert slope[alive].std() > 0.01  # it is no mere sum


def test_a_mixture_depends_on_the_state(monotonic, value, observation):
    other = observation | {"state": -observation["state"]}
    assert np.all(monotonic(value, observation) != monotonic(value, other))


def test_a_mixture_with_unit_weights_is_the_sum(monotonic, observation, value):
    """One hidden unit of weight 1, in the linear part of the ELU, and none else."""
    value = tf.abs(value)
    for variable in monotonic.variables:
        variable.assign(tf.zeros_like(variable))
    w1, w2 = monotonic._w1.layers[-1].bias, monotonic._w2.layers[-1].bias
    w1.assign(tf.reshape(tf.one_hot([0] * NUM_AGENTS, 8), [-1]))
    w2.assign(tf.one_hot(0, 8))
    np.testing.assert_allclose(monotonic(value, observation), Sum(NUM_AGENTS)(value, observation), rtol=1e-6)


def test_a_sum_is_that_of_the_living(value, observation):
    expected = (value.numpy() * observation["alive"].numpy()).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(Sum(NUM_AGENTS)(value, observation), expected, rtol=1e-6)


def test_separate_agents_keep_their_values_and_the_dead_have_the_livings_mean(value, observation):
    separate, alive = Separate(NUM_AGENTS)(value, observation).numpy(), observation["alive"].numpy()
    np.testing.assert_array_equal(separate[alive], value.numpy()[alive])
    row = next(row for row in range(NUM_ROWS) if alive[row].sum() == 2)
    assert separate[row][~alive[row]] == pytest.approx(value.numpy()[row][alive[row]].mean())


def test_a_mixer_learns_where_someone_lives(monotonic):
    alive = tf.constant([[True, False, False], [False, False, False]])
    np.testing.assert_array_equal(monotonic.learns(alive), [[True], [False]])
    np.testing.assert_array_equal(Separate(NUM_AGENTS).learns(alive), alive)
