"""Actor and critic: who sees what, and that a sequence at once equals its steps one by one."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.networks import network
from tf_agents.trajectories import time_step as ts

from tf_marl.networks import Architecture
from tf_marl.ops import categorical

NUM_ENVS, NUM_STEPS, NUM_AGENTS, NUM_ACTIONS = 2, 5, 3, 4
SHARED, MIXED = [0, 0, 0], [0, 1, 1]
DENSE = Architecture(hidden=(8, 6), head_hidden=(7,), activation="tanh")
RECURRENT = Architecture(hidden=(8,), rnn="gru", rnn_units=6, activation="tanh")
CRITICS = ["critic of obs", "critic of state", "critic of both"]
KINDS = ["actor", *CRITICS]


def at(step, nest):
    return tf.nest.map_structure(lambda leaf: leaf[:, step], nest)


# Sequences


@pytest.mark.parametrize("groups", [SHARED, MIXED], ids=["shared", "mixed"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_at_once_equals_its_steps_one_by_one(kind, groups, draw, randomised, rng, build, call):
    net = randomised(build(kind, groups, RECURRENT))
    observation = draw(NUM_ENVS, NUM_STEPS)
    step_type = np.full([NUM_ENVS, NUM_STEPS], ts.StepType.MID)
    step_type[0, 3] = step_type[1, 0] = step_type[1, 2] = ts.StepType.FIRST
    step_type = tf.constant(step_type, tf.int32)
    state = tf.constant(rng.normal(size=(NUM_ENVS, NUM_AGENTS, RECURRENT.rnn_units)), tf.float32)
    actual, final = call(net, observation, step_type, state)
    for t in range(NUM_STEPS):
        expected, state = call(net, at(t, observation), step_type[:, t], state)
        np.testing.assert_allclose(actual[:, t], expected, atol=1e-5)
    np.testing.assert_allclose(final, state, atol=1e-5)


def test_an_episode_starts_from_zeros_whatever_came_before(draw, randomised, build, call, nudged):
    actor = randomised(build("actor", SHARED, RECURRENT))
    observation = draw(1, NUM_STEPS)
    step_type = tf.constant([[ts.StepType.MID] * 2 + [ts.StepType.FIRST] + [ts.StepType.MID] * 2], tf.int32)
    logits, _ = call(actor, observation, step_type)
    other, _ = call(actor, nudged(observation, "obs", 0, 0), step_type)
    assert (other[:, :2] != logits[:, :2]).all()
    np.testing.assert_array_equal(other[:, 2:], logits[:, 2:])
    fresh, _ = call(actor, {name: leaf[:, 2:] for name, leaf in observation.items()})
    np.testing.assert_allclose(logits[:, 2:], fresh, atol=1e-6)


def test_without_step_types_no_step_starts_an_episode(draw, randomised, rng, build, call):
    actor = randomised(build("actor", SHARED, RECURRENT))
    state = tf.constant(rng.normal(size=(NUM_ENVS, NUM_AGENTS, RECURRENT.rnn_units)), tf.float32)
    for shape in [(NUM_ENVS,), (NUM_ENVS, NUM_STEPS)]:
        observation = draw(*shape)
        expected, _ = call(actor, observation, tf.fill(shape, ts.StepType.MID), state)
        np.testing.assert_array_equal(call(actor, observation, None, state)[0], expected)


@pytest.mark.parametrize("shape", [(NUM_ENVS,), (NUM_ENVS, NUM_STEPS)], ids=["step", "sequence"])
def test_without_a_state_a_network_starts_from_zeros(shape, draw, randomised, build, outputs_of):
    critic = randomised(build("critic of obs", SHARED, RECURRENT))
    observation = draw(*shape)
    np.testing.assert_array_equal(critic(observation)[0], outputs_of(critic, observation))


# Who sees what


@pytest.mark.parametrize("groups", [SHARED, MIXED], ids=["shared", "mixed"])
@pytest.mark.parametrize("architecture", [DENSE, RECURRENT], ids=["dense", "recurrent"])
def test_logits_depend_on_the_agents_own_observations_up_to_then_alone(
    architecture, groups, draw, randomised, build, outputs_of, nudged
):
    actor = randomised(build("actor", groups, architecture))
    observation = draw(NUM_ENVS, NUM_STEPS)
    env, step, agent = 1, 2, 1
    changed = outputs_of(actor, nudged(observation, "obs", env, step, agent)) != outputs_of(actor, observation)
    expected = np.zeros([NUM_ENVS, NUM_STEPS, NUM_AGENTS], bool)
    expected[env, step:, agent] = True
    if architecture is DENSE:
        expected[env, step + 1 :, agent] = False
    np.testing.assert_array_equal(changed.all(axis=-1), expected)
    np.testing.assert_array_equal(changed.any(axis=-1), expected)
    of_nobody = nudged(observation, "state")
    np.testing.assert_array_equal(outputs_of(actor, of_nobody), outputs_of(actor, observation))


@pytest.mark.parametrize("groups", [SHARED, MIXED], ids=["shared", "mixed"])
@pytest.mark.parametrize("kind", CRITICS)
def test_values_depend_on_what_the_critic_is_given_alone(kind, groups, draw, randomised, build, outputs_of, nudged):
    critic = randomised(build(kind, groups, DENSE))
    observation = draw(2)
    value = outputs_of(critic, observation)
    assert value.shape == (2, NUM_AGENTS)
    assert np.unique(value).size == value.size
    of_obs = outputs_of(critic, nudged(observation, "obs", 0, 1)) != value
    of_state = outputs_of(critic, nudged(observation, "state", 0)) != value
    sees_obs, sees_state = kind != "critic of state", kind != "critic of obs"
    np.testing.assert_array_equal(of_obs, [[False, sees_obs, False], [False] * 3])
    np.testing.assert_array_equal(of_state, [[sees_state] * 3, [False] * 3])


def test_unavailable_actions_have_probability_0(draw, randomised, rng, build, outputs_of):
    actor = randomised(build("actor", SHARED, DENSE))
    observation = draw(8)
    everything = outputs_of(actor, observation)
    avail = rng.random([8, NUM_AGENTS, NUM_ACTIONS]) < 0.5
    logits = outputs_of(actor, observation | {"avail_actions": tf.constant(avail)})
    np.testing.assert_array_equal(logits, np.where(avail, everything, np.float32(categorical.MASKED_LOGIT)))


# TF-Agents


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_tf_agents(kind, build):
    recurrent, dense = build(kind, MIXED, RECURRENT), build(kind, MIXED, DENSE)
    assert isinstance(recurrent, network.Network)
    assert recurrent.state_spec.shape == [NUM_AGENTS, RECURRENT.rnn_units]
    np.testing.assert_array_equal(recurrent.get_initial_state(2), np.zeros([2, NUM_AGENTS, RECURRENT.rnn_units]))
    assert dense.state_spec == ()
    assert dense.get_initial_state(2) == ()
    for net in (recurrent, dense):
        output_spec = net.create_variables()
        assert (output_spec.event_shape if kind == "actor" else output_spec.shape) == [NUM_AGENTS]
        assert len(net.variables) == len(net.trainable_variables) > 0
