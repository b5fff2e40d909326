"""Bounds on the joint policy's total variation by divergences that multiply or add up over agents."""

import math

import hypothesis
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import strategies

from tf_marl.ops import categorical, total_variation

KINDS = strategies.sampled_from(["random", "sparse", "deterministic", "masked", "near"])
ROUNDING = 2e-6


def team(rng, kind, num_agents, num_actions):
    """Masked logits [N, A] of an old and a new policy."""
    old = rng.normal(size=(num_agents, num_actions), scale=2.0)
    new = old + rng.normal(size=old.shape)
    if kind == "near":
        new = old + 1e-3 * rng.normal(size=old.shape)
    if kind == "sparse":  # most actions have hardly any probability, and which ones changes for some agents
        old, new = 8.0 * old, np.where(rng.random((num_agents, 1)) < 0.3, 8.0 * new, 8.0 * old)
    if kind == "deterministic":
        old, new = (
            np.where(np.arange(num_actions) == rng.integers(num_actions, size=(num_agents, 1)), 0.0, -np.inf)
            for _ in range(2)
        )
        same = rng.random((num_agents, 1)) < 0.7
        new = np.where(same, old, new)
    if kind == "masked":
        avail = rng.random(old.shape) < 0.6
        avail[:, 0] = True
        old, new = (np.where(avail, logits, categorical.MASKED_LOGIT) for logits in (old, new))
    return old.astype(np.float32), new.astype(np.float32)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(seed=strategies.integers(0, 10**6), kind=KINDS, num_agents=strategies.integers(1, 7))
def test_hellinger_and_pinsker_enclose_the_exact_joint_tv(seed, kind, num_agents):
    old, new = team(np.random.default_rng(seed), kind, num_agents, 5)
    exact = float(total_variation.joint_tv_exact(old, new))
    lower, upper = (float(bound) for bound in total_variation.joint_tv_hellinger_bounds(old, new))
    assert lower - ROUNDING <= exact <= upper + ROUNDING
    assert exact <= float(total_variation.joint_tv_pinsker_bound(old, new)) + ROUNDING
    assert 0.0 <= lower <= upper <= 1.0
    smallest = float(total_variation.joint_tv_upper_bound(old, new))
    assert exact - ROUNDING <= smallest <= upper
    assert smallest <= float(total_variation.joint_tv_product_bound(old, new))


@hypothesis.settings(deadline=None, max_examples=20)
@hypothesis.given(seed=strategies.integers(0, 10**6), kind=KINDS, num_agents=strategies.integers(8, 27))
def test_hellinger_encloses_sampled_joint_tv_of_large_teams(seed, kind, num_agents):
    old, new = team(np.random.default_rng(seed), kind, num_agents, 9)
    lower, upper = total_variation.joint_tv_hellinger_bounds(old, new)
    estimate, error = total_variation.joint_tv_monte_carlo(old, new, 4096, [seed, 0])
    margin = 6.0 * float(error) + 3e-3  # the error of a rare event may be estimated as 0
    assert float(lower) - margin <= float(estimate) <= float(upper) + margin


def test_one_agent_by_hand():
    """p = (4/5, 1/5), q = (1/5, 4/5): BC = 2 sqrt(4/25) = 4/5, TV = 3/5 and sqrt(1 - BC^2) = 3/5."""
    old, new = (np.log(np.float32([probabilities])) for probabilities in ((0.8, 0.2), (0.2, 0.8)))
    lower, upper = total_variation.joint_tv_hellinger_bounds(old, new)
    np.testing.assert_allclose([lower, upper], [0.2, 0.6], rtol=1e-6)
    # KL = 3/5 log 4
    np.testing.assert_allclose(
        total_variation.joint_tv_pinsker_bound(old, new), math.sqrt(0.3 * math.log(4.0)), rtol=1e-6
    )


def test_small_changes_do_not_cancel():
    """H_k^2 is about sum_a p d^2 / 8 and KL sum_a p d^2 / 2 for small changes d of log p: here 1e-10 / 8 and / 2."""
    old = np.zeros([4, 2], np.float32)
    new = old + np.float32([1e-5, -1e-5])
    _, upper = total_variation.joint_tv_hellinger_bounds(old, new)
    np.testing.assert_allclose(upper, math.sqrt(2 * 4 * 1e-10 / 8), rtol=2e-2)
    pinsker = total_variation.joint_tv_pinsker_bound(old, new)
    np.testing.assert_allclose(pinsker, math.sqrt(4 * 1e-10 / 2 / 2), rtol=2e-2)


def test_the_hellinger_bound_grows_like_the_square_root_of_the_team_and_the_sum_bound_like_the_team():
    old = np.zeros([1, 2], np.float32)
    new = np.float32([[0.02, -0.02]])
    ratio = {}
    for bound in (
        total_variation.joint_tv_sum_bound,
        lambda *both: total_variation.joint_tv_hellinger_bounds(*both)[1],
    ):
        small, large = (float(bound(np.repeat(old, n, 0), np.repeat(new, n, 0))) for n in (4, 16))
        ratio[bound] = large / small
    np.testing.assert_allclose(list(ratio.values()), [4.0, 2.0], rtol=2e-3)


def ratios_at_their_limits(rng, num_agents, num_actions, epsilon):
    """Probabilities [N, A] of two policies whose ratios are 1 - epsilon or 1 + epsilon for all but one action."""
    old = rng.dirichlet(np.ones(num_actions), size=num_agents)
    up = rng.random(old.shape) < 0.5
    factor = np.where(up, 1.0 + epsilon, 1.0 - epsilon)
    # The side with more probability moves by less, so that the new probabilities sum to 1.
    gain, loss = (old * up).sum(axis=1, keepdims=True), (old * ~up).sum(axis=1, keepdims=True)
    moved = np.minimum(gain, loss)
    share = np.where(up, moved / np.maximum(gain, 1e-12), moved / np.maximum(loss, 1e-12))
    return old, old * (1.0 + (factor - 1.0) * share)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    seed=strategies.integers(0, 10**6),
    num_agents=strategies.integers(1, 8),
    epsilon=strategies.floats(0.001, 0.9),
)
def test_ratios_in_range_bound_the_joint_tv(seed, num_agents, epsilon):
    old, new = ratios_at_their_limits(np.random.default_rng(seed), num_agents, 4, epsilon)
    assert np.abs(new / old - 1.0).max() <= epsilon + 1e-9
    np.testing.assert_allclose(new.sum(axis=1), 1.0, atol=1e-9)
    bound = float(total_variation.joint_tv_bound_of_ratios(tf.constant(epsilon, tf.float64), float(num_agents)))
    exact = float(total_variation.joint_tv_exact(np.log(old), np.log(new)))
    assert exact <= bound + 1e-9


@pytest.mark.parametrize("num_agents", [1, 2, 5, 20])
def test_fair_coins_come_near_the_bound_of_ratios(num_agents):
    """Coins that are moved by epsilon / 2. For many coins, total variation over bound tends to sqrt(2 / pi) = 0.80."""
    epsilon = 1e-3
    heads = np.arange(num_agents + 1)
    old, new = (scipy.stats.binom.pmf(heads, num_agents, p) for p in (0.5, 0.5 * (1 + epsilon)))
    exact = 0.5 * np.abs(new - old).sum()
    bound = float(total_variation.joint_tv_bound_of_ratios(tf.constant(epsilon, tf.float64), float(num_agents)))
    assert 0.7 <= exact / bound <= 1.0 + 1e-6
