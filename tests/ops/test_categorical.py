"""The team's distribution: masks hold, and no quantity of it is ever infinite or NaN."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tf_marl.ops import categorical


@pytest.fixture
def team(random_team):
    logits, avail = random_team((10,))
    return categorical.team_distribution(logits), avail


def test_unavailable_action_is_never_sampled(rng):
    avail = np.eye(6, dtype=bool)[rng.permutation(6)[:3]] | (rng.random((3, 6)) < 0.3)
    # Unmasked, the unavailable would be taken nearly always.
    logits = categorical.mask_logits(np.where(avail, -20.0, 20.0).astype(np.float32), avail)
    sample = categorical.team_distribution(logits).sample(20_000, seed=[0, 1]).numpy()
    for i in range(3):
        assert set(np.unique(sample[:, i])) == set(np.flatnonzero(avail[i]))


def test_mode_is_available(team):
    team, avail = team
    assert np.take_along_axis(avail, team.mode().numpy()[..., None], axis=-1).all()


def test_masked_probability_is_exactly_0(team):
    team, avail = team
    probs = categorical.agent_distribution(team).probs_parameter().numpy()
    assert not probs[~avail].any()
    np.testing.assert_allclose(probs.sum(axis=-1), 1.0, rtol=1e-6)


def test_available_logits_are_left_alone(rng):
    logits, avail = rng.normal(size=(4, 3, 5)).astype(np.float32), rng.random((4, 3, 5)) < 0.5
    np.testing.assert_array_equal(categorical.mask_logits(logits, avail).numpy()[avail], logits[avail])


def test_entropy_counts_available_actions_only():
    avail = np.array([[True, False, False, False], [True, True, False, False], [True, True, True, True]])
    agents = categorical.agent_distribution(
        categorical.team_distribution(categorical.mask_logits(tf.zeros([3, 4]), avail))
    )
    np.testing.assert_allclose(agents.entropy(), np.log([1, 2, 4]), atol=1e-6)


def test_dead_agent_has_log_prob_and_entropy_0():
    only = tf.constant([[True, False, False]])
    agents = categorical.agent_distribution(
        categorical.team_distribution(categorical.mask_logits(tf.constant([[-3.0, 5.0, 1.0]]), only))
    )
    np.testing.assert_array_equal(agents.log_prob([0]), [0.0])
    np.testing.assert_array_equal(agents.entropy(), [0.0])


def test_entropy_log_prob_and_kl_and_their_gradients_are_finite(rng, random_team):
    logits, avail = random_team((10,), scale=30.0)
    old = categorical.agent_distribution(categorical.team_distribution(logits))
    raw = tf.constant(rng.normal(size=avail.shape), tf.float32)
    action = tf.argmax(avail, axis=-1, output_type=tf.int32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(raw)
        new = categorical.agent_distribution(categorical.team_distribution(categorical.mask_logits(raw, avail)))
        quantities = [new.entropy(), new.log_prob(action), old.kl_divergence(new), new.kl_divergence(old)]
    for quantity in quantities:
        assert np.isfinite(quantity).all()
        gradient = tape.gradient(quantity, raw).numpy()
        assert np.isfinite(gradient).all()
        assert not gradient[~avail].any()


def test_team_log_prob_is_the_sum_of_its_agents(team):
    team, _ = team
    action = team.sample(seed=[0, 1])
    agents = categorical.agent_distribution(team)
    assert agents.batch_shape == [10, 3]
    assert team.batch_shape == [10]
    assert team.event_shape == [3]
    np.testing.assert_allclose(
        team.log_prob(action), tf.reduce_sum(agents.log_prob(action), axis=-1), rtol=1e-6, atol=1e-6
    )


def test_samples_are_int32_as_environments_take_them(team):
    assert team[0].sample(seed=[0, 1]).dtype == tf.int32


@pytest.mark.parametrize("samples", [(), (7,)], ids=["an action each", "several"])
def test_log_prob_and_its_gradient_are_those_of_tfp(rng, random_team, samples):
    logits, avail = random_team((10,))
    logits = tf.convert_to_tensor(logits)
    action = tf.constant(rng.integers(avail.shape[-1], size=(*samples, *avail.shape[:-1])), tf.int32)
    found = []
    for distribution in (categorical.distribution, tfd.Categorical):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            log_prob = distribution(logits=logits).log_prob(action)
        found.append((log_prob, tape.gradient(log_prob, logits)))
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), *found)
    assert not np.isclose(found[0][1], 0.0).all()


def test_gumbel_noise_samples_the_policy_and_never_an_unavailable_action():
    logits = categorical.mask_logits(tf.constant([0.3, 5.0, -0.7, 1.1]), tf.constant([True, False, True, True]))
    noise = categorical.gumbel([20_000, 4], [0, 1])
    share = tf.reduce_mean(categorical.straight_through(logits, noise, 0.5), axis=0)
    np.testing.assert_allclose(share, tf.nn.softmax(logits), atol=0.015)  # four standard errors
    assert share[1] == 0.0


def test_a_straight_through_sample_has_the_gradient_of_a_softmax(rng):
    """With y the softmax at temperature t, dy_i / dl_j = y_i ((i = j) - y_j) / t."""
    logits, noise, weight = (tf.constant(rng.normal(size=5), tf.float32) for _ in range(3))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        sample = categorical.straight_through(logits, noise, 0.5)
        total = tf.reduce_sum(weight * sample)
    y = np.exp((logits + noise) / 0.5) / np.exp((logits + noise) / 0.5).sum()
    np.testing.assert_allclose(
        tape.gradient(total, logits), y * (weight - np.sum(y * weight)) / 0.5, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(np.round(sample), np.eye(5)[np.argmax(logits + noise)])
