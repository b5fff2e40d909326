"""The recurrent unit against Keras' own, and its hand-written gradient against automatic differentiation of a loop."""

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.ops import gru

NUM_STEPS, NUM_ENVS, NUM_AGENTS, UNITS = 5, 2, 3, 4
SHARED, OWN = (), (NUM_AGENTS,)  # leading axes of the weights


def normal(rng, *shape):
    return tf.constant(rng.normal(size=shape))


@pytest.fixture(params=[SHARED, OWN], ids=["shared kernel", "kernel per agent"])
def arguments(request, rng):
    """x, state, keep, kernel, bias in float64; the two environments forget at the first step and inside."""
    keep = np.ones([NUM_STEPS, NUM_ENVS])
    keep[3, 0] = keep[0, 1] = keep[2, 1] = 0.0
    return (
        normal(rng, NUM_STEPS, NUM_ENVS, NUM_AGENTS, 3 * UNITS),
        normal(rng, NUM_ENVS, NUM_AGENTS, UNITS),
        tf.constant(keep),
        normal(rng, *request.param, UNITS, 3 * UNITS),
        normal(rng, *request.param, UNITS),
    )


def by_loop(x, state, keep, kernel, bias):
    """The equations in the module's docstring, one step and one agent at a time."""
    kernel = tf.broadcast_to(kernel, [NUM_AGENTS, UNITS, 3 * UNITS])
    bias = tf.broadcast_to(bias, [NUM_AGENTS, UNITS])
    states, h = [], tf.unstack(state, axis=1)
    for t in range(x.shape[0]):
        for i in range(NUM_AGENTS):
            w_r, w_z, w_n = (kernel[i, :, k * UNITS : (k + 1) * UNITS] for k in range(3))
            x_r, x_z, x_n = (x[t, :, i, k * UNITS : (k + 1) * UNITS] for k in range(3))
            before = h[i] * keep[t][:, None]
            r = tf.sigmoid(x_r + before @ w_r)
            z = tf.sigmoid(x_z + before @ w_z)
            n = tf.tanh(x_n + r * (before @ w_n + bias[i]))
            h[i] = (1 - z) * n + z * before
        states.append(tf.stack(h, axis=1))
    return tf.stack(states)


def with_gradient(function, arguments, seen=None):
    """States, and the gradient for x, kernel and bias of a random sum of those that `seen` [T, B] admits."""
    x, state, keep, kernel, bias = arguments
    weight = np.random.default_rng(1).normal(size=[*x.shape[:3], UNITS])
    weight *= 1.0 if seen is None else seen[..., None, None]
    with tf.GradientTape() as tape:
        tape.watch([x, kernel, bias])
        states = function(x, state, keep, kernel, bias)
        total = tf.reduce_sum(weight * states)
    return states, *tape.gradient(total, [x, kernel, bias])


def assert_close(actual, expected):
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), actual, expected)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_states_and_gradients_are_those_of_a_plain_loop(arguments, compiled):
    unroll = tf.function(gru.unroll, jit_compile=True) if compiled else gru.unroll
    assert_close(with_gradient(unroll, arguments), with_gradient(by_loop, arguments))


def test_gradient_of_a_single_step_is_that_of_a_plain_loop(arguments):
    x, state, keep, kernel, bias = arguments
    arguments = x[:1], state, keep[:1], kernel, bias
    assert_close(with_gradient(gru.unroll, arguments), with_gradient(by_loop, arguments))


@pytest.mark.parametrize("num_steps", [1, NUM_STEPS])
def test_the_state_before_is_constant_for_the_gradient(arguments, num_steps):
    x, state, keep, kernel, bias = arguments
    with tf.GradientTape() as tape:
        tape.watch(state)
        states = gru.unroll(x[:num_steps], state, keep[:num_steps], kernel, bias)
    assert tape.gradient(states, state) is None


@pytest.mark.parametrize("weights", [SHARED, OWN], ids=["shared kernel", "kernel per agent"])
def test_unroll_equals_keras(rng, weights):
    num_inputs = 6
    layers = [tf.keras.layers.GRU(UNITS, return_sequences=True) for _ in range(*weights or (1,))]
    inputs = tf.constant(rng.normal(size=(NUM_ENVS, NUM_STEPS, NUM_AGENTS, num_inputs)), tf.float32)
    state = tf.constant(rng.normal(size=(NUM_ENVS, NUM_AGENTS, UNITS)), tf.float32)
    expected, x, kernels, biases = [], [], [], []
    for i in range(NUM_AGENTS):
        layer = layers[i % len(layers)]
        if not layer.built:
            layer.build(tf.TensorShape([None, None, num_inputs]))
            layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
        expected.append(layer(inputs[:, :, i], initial_state=state[:, i]))
        # Keras' gates are z, r, n, and each has a bias beside either product; only n keeps the two apart.
        of_input, recurrent, (input_bias, recurrent_bias) = (
            np.concatenate([weight[..., UNITS : 2 * UNITS], weight[..., :UNITS], weight[..., 2 * UNITS :]], axis=-1)
            for weight in layer.get_weights()
        )
        both = np.concatenate([recurrent_bias[: 2 * UNITS], np.zeros(UNITS, np.float32)])
        x.append(inputs[:, :, i] @ of_input + input_bias + both)
        kernels.append(recurrent)
        biases.append(recurrent_bias[2 * UNITS :])
    kernel, bias = (kernels[0], biases[0]) if weights == SHARED else (np.stack(kernels), np.stack(biases))
    x = tf.transpose(tf.stack(x, axis=2), [1, 0, 2, 3])
    actual = gru.unroll(x, state, tf.ones([NUM_STEPS, NUM_ENVS]), tf.constant(kernel), tf.constant(bias))
    expected = tf.transpose(tf.stack(expected, axis=2), [1, 0, 2, 3])
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_what_a_step_forgets_influences_neither_later_states_nor_later_gradients(arguments, rng):
    x, state, keep, kernel, bias = arguments
    forgotten = np.zeros([NUM_STEPS, NUM_ENVS], bool)
    forgotten[:3, 0] = forgotten[:2, 1] = True  # environment 0 forgets at step 3, environment 1 at step 2
    other_x = tf.where(forgotten[..., None, None], normal(rng, *x.shape), x)
    other = other_x, normal(rng, *state.shape), keep, kernel, bias
    states, *gradients = with_gradient(gru.unroll, arguments, seen=~forgotten)
    other_states, *other_gradients = with_gradient(gru.unroll, other, seen=~forgotten)
    np.testing.assert_array_equal(other_states[~forgotten], states[~forgotten])
    assert (other_states[forgotten] != states[forgotten]).numpy().all()
    assert_close(other_gradients, gradients)
    assert not gradients[0][forgotten].numpy().any()
    assert gradients[0][~forgotten].numpy().all()


def test_the_state_before_counts_only_where_the_first_step_keeps_it(arguments):
    x, state, keep, kernel, bias = arguments
    states = gru.unroll(x, state, keep, kernel, bias)
    other_states = gru.unroll(x, state + 1.0, keep, kernel, bias)
    np.testing.assert_array_equal(keep[0], [1.0, 0.0])
    assert (other_states[:3, 0] != states[:3, 0]).numpy().all()
    np.testing.assert_array_equal(other_states[:, 1], states[:, 1])


def test_two_halves_with_the_state_handed_over_equal_the_whole(arguments):
    x, state, keep, kernel, bias = arguments
    first = gru.unroll(x[:2], state, keep[:2], kernel, bias)
    second = gru.unroll(x[2:], first[-1], keep[2:], kernel, bias)
    assert_close(tf.concat([first, second], axis=0), gru.unroll(x, state, keep, kernel, bias))


def test_single_steps_equal_those_of_a_sequence(arguments):
    x, state, keep, kernel, bias = arguments
    for t, expected in enumerate(gru.unroll(x, state, keep, kernel, bias)):
        state = gru.unroll(x[t : t + 1], state, keep[t : t + 1], kernel, bias)
        assert state.shape == [1, NUM_ENVS, NUM_AGENTS, UNITS]
        state = state[0]
        assert_close(state, expected)


def test_gates_open_and_shut():
    """One unit, x far from 0 and kernels of 0, so that gates are 0 or 1 and h' can be told by hand."""
    far, state, bias = 100.0, 0.3, 0.5
    for x_r, x_z, x_n, expected in [
        (0.0, far, 7.0, state),  # z = 1 keeps the state
        (-far, -far, 0.2, np.tanh(0.2)),  # z = 0, r = 0: the input alone
        (far, -far, 0.2, np.tanh(0.2 + bias)),  # z = 0, r = 1: and the bias
        (far, 0.0, 0.2, (np.tanh(0.2 + bias) + state) / 2),  # z = 1/2: halfway
    ]:
        x = tf.constant([x_r, x_z, x_n], shape=[1, 1, 1, 3])
        actual = gru.unroll(x, tf.fill([1, 1, 1], state), tf.ones([1, 1]), tf.zeros([1, 3]), tf.constant([bias]))
        np.testing.assert_allclose(actual[0, 0, 0, 0], expected, rtol=1e-6)
