"""The critic: whose value is whose, and that it learns normalised returns without moving a value."""

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.networks import Architecture

NUM_STEPS, NUM_AGENTS = 5, 3
SHARED, MIXED = [0, 0, 0], [0, 1, 1]
DENSE = Architecture(hidden=(8, 6), head_hidden=(7,), activation="tanh")
RECURRENT = Architecture(hidden=(8,), rnn="gru", rnn_units=6, activation="tanh")
CRITICS = ["critic of obs", "critic of state", "critic of both"]


# Teams and the dead


SOME_DEAD = tf.constant([[True, True, True], [True, False, True], [False, True, False]])


@pytest.mark.parametrize("kind", ["critic of obs", "critic of both"])
def test_a_teams_value_is_the_mean_over_the_living(kind, draw, build, outputs_of):
    observation = draw(3, alive=SOME_DEAD)
    value = outputs_of(build(kind, MIXED, DENSE, fills_dead=False), observation)
    team_value = outputs_of(build(kind, MIXED, DENSE, team=True), observation)
    of_living = [value[0].mean(), value[1, [0, 2]].mean(), value[2, 1]]
    np.testing.assert_allclose(team_value, np.reshape(of_living, [3, 1]), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (3, NUM_STEPS)])
def test_a_teams_value_from_the_state_is_the_networks_only_one_whoever_lives(
    shape, draw, randomised, build, outputs_of, nudged
):
    critic = randomised(build("critic of state", MIXED, RECURRENT, team=True))
    observation = draw(*shape)
    value = outputs_of(critic, observation)
    assert value.shape == (*shape, 1)
    assert critic.state_spec.shape == [1, RECURRENT.rnn_units]
    dead = observation | {"alive": tf.zeros([*shape, NUM_AGENTS], tf.bool)}
    np.testing.assert_array_equal(outputs_of(critic, dead), value)
    assert (outputs_of(critic, nudged(observation, "state")) != value).all()


@pytest.mark.parametrize("kind", CRITICS)
def test_a_dead_agents_value_is_the_mean_of_its_living_mates_if_asked(kind, draw, randomised, build, outputs_of):
    filling, own = (randomised(build(kind, SHARED, DENSE, fills_dead=fills)) for fills in (True, False))
    own.set_weights(filling.get_weights())
    observation = draw(3, alive=SOME_DEAD)
    value, filled = outputs_of(own, observation), outputs_of(filling, observation)
    everyone_alive = observation | {"alive": tf.ones_like(SOME_DEAD)}
    np.testing.assert_array_equal(value, outputs_of(own, everyone_alive))
    np.testing.assert_array_equal(value, outputs_of(filling, everyone_alive))
    expected = value.copy()
    expected[1, 1] = (value[1, 0] + value[1, 2]) / 2
    expected[2, [0, 2]] = value[2, 1]
    np.testing.assert_allclose(filled, expected, rtol=1e-6)
    assert (np.abs(filled - value)[~SOME_DEAD.numpy()] > 1e-3).all()


def test_where_nobody_lives_values_are_0(draw, build, outputs_of):
    nobody = draw(2, alive=tf.zeros([2, NUM_AGENTS], tf.bool))
    np.testing.assert_array_equal(outputs_of(build("critic of obs", SHARED, DENSE), nobody), np.zeros([2, NUM_AGENTS]))


# PopArt


def statistics(critic):
    """Mean and standard deviation of the returns so far, from what they make of 0 and 1."""
    at_0, at_1 = critic.normalise(tf.constant([0.0, 1.0])).numpy().astype(np.float64)
    return -at_0 / (at_1 - at_0), 1 / (at_1 - at_0)


@pytest.mark.parametrize("groups", [SHARED, MIXED], ids=["shared", "mixed"])
@pytest.mark.parametrize("team", [False, True], ids=["agents", "team"])
def test_taking_in_returns_moves_the_statistics_and_no_value(groups, team, draw, randomised, rng, build, outputs_of):
    critic = randomised(build("critic of both", groups, DENSE, team=team, value_decay=0.9))
    observation = draw(20)
    before = outputs_of(critic, observation)
    for mean, std in [(50.0, 20.0), (-3.0, 0.5)]:
        old_mean, old_std = statistics(critic)
        returns = tf.constant(rng.normal(mean, std, size=(40, critic.num_values)), tf.float32)
        critic.observe_returns(returns, tf.ones(returns.shape, tf.bool))
        new_mean, new_std = statistics(critic)
        assert abs(new_mean - old_mean) > 1.0
        assert abs(new_std - old_std) > 1.0
        scale = np.abs(before).max()
        np.testing.assert_allclose(outputs_of(critic, observation), before, rtol=1e-4, atol=1e-4 * scale)


def test_returns_are_normalised_by_those_that_counted(draw, rng, build):
    critic = build("critic of obs", SHARED, DENSE, value_decay=0.9)
    critic.create_variables()
    returns, mask = rng.normal(50.0, 20.0, size=(2, 30, NUM_AGENTS)).astype(np.float32), rng.random([2, 30, 3]) < 0.5
    unseen = tf.constant(np.where(mask, returns, np.float32(1e6)))
    critic.observe_returns(unseen, tf.constant(mask))
    normalised = critic.normalise(tf.constant(returns)).numpy()
    np.testing.assert_allclose(normalised[mask].mean(), 0.0, atol=1e-3)
    np.testing.assert_allclose(normalised[mask].std(), 1.0, rtol=1e-3)
    np.testing.assert_allclose(normalised, (returns - returns[mask].mean()) / returns[mask].std(), rtol=1e-3, atol=1e-3)


def test_a_critic_learns_in_the_units_of_normalised_returns(draw, randomised, build, outputs_of):
    critic, plain = (
        randomised(build("critic of obs", SHARED, DENSE, value_decay=0.9)),
        build("critic of obs", SHARED, DENSE),
    )
    critic.observe_returns(tf.constant([[10.0, 20.0, 30.0]]), tf.ones([1, 3], tf.bool))
    plain.create_variables()
    for learned, same in zip(critic.trainable_variables, plain.trainable_variables, strict=True):
        same.assign(learned)
    observation = draw(4)
    normalised = critic.normalise(outputs_of(critic, observation))
    np.testing.assert_allclose(normalised, outputs_of(plain, observation), rtol=1e-4, atol=1e-5)


def test_without_popart_returns_are_taken_as_they_are(draw, build):
    critic = build("critic of obs", SHARED, DENSE)
    critic.create_variables()
    before, returns = critic.get_weights(), tf.constant([[10.0, 20.0, 30.0]])
    critic.observe_returns(returns, tf.ones([1, 3], tf.bool))
    tf.nest.map_structure(np.testing.assert_array_equal, critic.get_weights(), before)
    np.testing.assert_array_equal(critic.normalise(returns), returns)
