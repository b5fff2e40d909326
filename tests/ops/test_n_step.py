"""n-step returns and TD(lambda), which is GAE plus the value, against a plain loop over one row of rewards."""

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.ops import returns

GAMMA = 0.9


@pytest.fixture
def rows(rng):
    """Rewards, discounts, values, bootstrap values and boundaries of 3 sequences of 12 rows, some with several ends."""
    boundary = rng.random((3, 12)) < 0.25
    discount = np.ones((3, 12), np.float32)
    ends = np.roll(boundary, -1, axis=1)
    ends[:, -1] = False
    discount[ends & (rng.random((3, 12)) < 0.5)] = 0.0
    draw = rng.normal(size=(3, 12)).astype(np.float32)
    value, bootstrap = rng.normal(size=(3, 12, 2)).astype(np.float32), rng.normal(size=(3, 2)).astype(np.float32)
    return draw, discount, value, bootstrap, boundary


def truncated(rows, b, t, n):
    """The n-step return from row t of sequence b, which ends at a boundary, an end of the task or the last row."""
    reward, discount, value, bootstrap, boundary = rows
    total, weight = np.zeros(2), 1.0
    for k in range(t, t + n):
        if k == 12 or boundary[b, k]:
            break
        total += weight * reward[b, k]
        weight *= GAMMA * discount[b, k]
    else:
        k = t + n
    return total + weight * (bootstrap[b] if k == 12 else value[b, k])


@pytest.mark.parametrize("n", [1, 3, 20])
def test_n_rewards_then_a_value(rows, n):
    reward, discount, value, bootstrap, boundary = map(tf.constant, rows)
    total = returns.n_step(reward, discount, value, bootstrap, GAMMA, n, boundary).numpy()
    for b, t in np.ndindex(3, 12):
        np.testing.assert_allclose(total[b, t], truncated(rows, b, t, n), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
def test_gae_plus_value_weighs_the_n_step_returns_by_powers_of_lambda(rows, lambda_):
    reward, discount, value, bootstrap, boundary = map(tf.constant, rows)
    total = (returns.gae(reward, discount, value, bootstrap, GAMMA, lambda_, boundary) + value).numpy()
    for b, t in np.ndindex(3, 12):
        weights = [(1 - lambda_) * lambda_ ** (n - 1) for n in range(1, 20)]
        weights.append(1 - sum(weights))
        expected = sum(weight * truncated(rows, b, t, n) for n, weight in enumerate(weights, 1))
        np.testing.assert_allclose(total[b, t], expected, rtol=1e-4, atol=1e-5)
