"""Running statistics against NumPy's of everything at once; and networks that normalise what they see by them."""

import dataclasses

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from tf_marl.networks import Architecture
from tf_marl.networks.normalizer import RunningNormalizer

SIZE = 2


def chunks_of(rng, sizes):
    """Vectors far from 0 whose scale and mean drift, and which of them count."""
    return [
        (rng.normal(3.0 + k, 1.0 + k, size=(n, SIZE)).astype(np.float32), rng.random(n) < 0.7)
        for k, n in enumerate(sizes)
    ]


def statistics(normalizer):
    return normalizer.mean.numpy(), normalizer.std.numpy()


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    seed=strategies.integers(0, 2**31), sizes=strategies.lists(strategies.integers(1, 9), min_size=1, max_size=4)
)
def test_statistics_are_those_of_everything_that_counted_however_it_came_in(seed, sizes):
    chunks = chunks_of(np.random.default_rng(seed), sizes)
    chunks[0][1][0] = True
    normalizer = RunningNormalizer(SIZE)
    for x, mask in chunks:
        normalizer.update(tf.constant(x), tf.constant(mask))
    seen = np.concatenate([x[mask] for x, mask in chunks])
    std = np.sqrt(np.maximum(seen.var(axis=0), 1e-4))
    np.testing.assert_allclose(normalizer.mean, seen.mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(normalizer.std, std, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("decay", [0.9, 0.5, 0.0])
def test_what_was_seen_before_loses_weight_by_the_decay_at_each_update(rng, decay):
    chunks = chunks_of(rng, [5, 8, 3])
    normalizer = RunningNormalizer(SIZE, decay)
    for x, mask in chunks:
        mask[0] = True
        normalizer.update(tf.constant(x), tf.constant(mask))
    seen = np.concatenate([x[mask] for x, mask in chunks])
    weight = np.concatenate([np.full(mask.sum(), decay ** (2 - k)) for k, (_, mask) in enumerate(chunks)])
    mean = np.average(seen, axis=0, weights=weight)
    std = np.sqrt(np.average(np.square(seen - mean), axis=0, weights=weight))
    np.testing.assert_allclose(normalizer.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(normalizer.std, std, rtol=1e-5)


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_nothing_that_counts_changes_nothing(rng, decay):
    normalizer = RunningNormalizer(SIZE, decay)
    nothing = tf.fill([4, SIZE], np.nan), tf.zeros([4], tf.bool)
    normalizer.update(*nothing)
    np.testing.assert_array_equal(statistics(normalizer), [[0.0] * SIZE, [1.0] * SIZE])
    normalizer.update(tf.constant(rng.normal(3.0, 2.0, size=(5, SIZE)), tf.float32), tf.ones([5], tf.bool))
    before = statistics(normalizer)
    normalizer.update(*nothing)
    np.testing.assert_array_equal(statistics(normalizer), before)


def test_vectors_may_have_any_leading_axes(rng):
    x, mask = rng.normal(size=(2, 3, 4, SIZE)).astype(np.float32), rng.random((2, 3, 4)) < 0.5
    normalizer, flat = RunningNormalizer(SIZE), RunningNormalizer(SIZE)
    normalizer.update(tf.constant(x), tf.constant(mask))
    flat.update(tf.constant(x[mask]), tf.ones([mask.sum()], tf.bool))
    np.testing.assert_allclose(statistics(normalizer), statistics(flat), rtol=1e-5)


def test_normalised_values_have_mean_0_and_variance_1_and_denormalise_takes_them_back(rng):
    x = tf.constant(rng.normal([100.0, -3.0], [7.0, 0.1], size=(50, SIZE)), tf.float32)
    normalizer = RunningNormalizer(SIZE)
    normalizer.update(x, tf.ones([50], tf.bool))
    np.testing.assert_allclose(np.mean(normalizer(x), axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(np.std(normalizer(x), axis=0), 1.0, rtol=1e-4)
    np.testing.assert_allclose(normalizer.denormalise(normalizer(x)), x, rtol=1e-5)


def test_what_lies_far_off_is_clipped_if_asked():
    clipped, open_ended = RunningNormalizer(1, clip=2.0), RunningNormalizer(1)
    for normalizer in (clipped, open_ended):
        normalizer.update(tf.constant([[3.0], [7.0]]), tf.ones([2], tf.bool))  # mean 5, standard deviation 2
    x = tf.constant([[6.0], [5.0 + 2.0 * 2.5], [5.0 - 2.0 * 2.5]])
    np.testing.assert_allclose(clipped(x), [[0.5], [2.0], [-2.0]])
    np.testing.assert_allclose(open_ended(x), [[0.5], [2.5], [-2.5]])


def test_what_never_varies_is_not_blown_up():
    normalizer = RunningNormalizer(1)
    normalizer.update(tf.fill([9, 1], 4.0), tf.ones([9], tf.bool))
    np.testing.assert_allclose(normalizer(tf.constant([[4.0], [4.001]])), [[0.0], [0.001 / 1e-2]], rtol=1e-3)


# Networks


NUM_STEPS, NUM_AGENTS = 5, 3
SHARED, MIXED = [0, 0, 0], [0, 1, 1]
PLAIN = Architecture(hidden=(8, 6), head_hidden=(7,), activation="tanh")
NORMALISING = dataclasses.replace(PLAIN, normalize_observations=True)
KINDS = ["actor", "critic of obs", "critic of state", "critic of both"]


@pytest.mark.parametrize("kind", KINDS)
def test_observations_are_normalised_by_those_that_count(kind, draw, rng, build, outputs_of):
    net, plain = build(kind, MIXED, NORMALISING), build(kind, MIXED, PLAIN)
    seen, counts = draw(4, NUM_STEPS), rng.random([4, NUM_STEPS, NUM_AGENTS]) < 0.4
    counts[0, 0] = False
    team_counts = counts.any(axis=-1)
    obs, state = (5.0 + 3.0 * seen[name].numpy() for name in ("obs", "state"))
    seen["obs"] = tf.constant(np.where(counts[..., None], obs, np.float32(1e6)))
    seen["state"] = tf.constant(np.where(team_counts[..., None], state, np.float32(1e6)))
    observation = draw(6)
    np.testing.assert_allclose(outputs_of(net, observation), outputs_of(plain, observation), atol=1e-6)
    net.torso.observe(seen, tf.constant(counts))
    by_hand = dict(observation)
    for name, of_those in [("obs", obs[counts]), ("state", state[team_counts])]:
        by_hand[name] = (observation[name] - of_those.mean(axis=0)) / of_those.std(axis=0)
    actual, expected = outputs_of(net, observation), outputs_of(plain, by_hand)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-6)
    assert (np.abs(actual - outputs_of(plain, observation)) > 1e-2 * np.abs(expected)).any()


def test_an_observation_far_off_is_clipped(draw, build, outputs_of):
    actor = build("actor", SHARED, NORMALISING)
    far, further = draw(2), draw(2)
    far["obs"], further["obs"] = tf.fill(far["obs"].shape, 11.0), tf.fill(far["obs"].shape, 1e6)
    np.testing.assert_array_equal(outputs_of(actor, far), outputs_of(actor, further))


def test_statistics_are_not_learned_and_there_are_none_unless_asked(draw, build, outputs_of):
    normalising, plain = build("actor", SHARED, NORMALISING), build("actor", SHARED, PLAIN)
    observation = draw(4)
    for actor in (normalising, plain):
        actor.create_variables()
        actor.torso.observe(observation, tf.ones([4, NUM_AGENTS], tf.bool))
    assert len(normalising.non_trainable_variables) == 3
    assert not plain.non_trainable_variables
    assert (outputs_of(normalising, observation) != outputs_of(plain, observation)).any()
