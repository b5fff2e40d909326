"""Running statistics against NumPy's of everything at once."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

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
