"""Total variation against NumPy and SciPy, and the joint policy's by enumeration."""

import itertools

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import tensorflow as tf

from tf_marl.ops import categorical, total_variation


def tv_by_cityblock(old_logits, new_logits):
    """[..., N, A] -> [..., N], one pair of distributions at a time."""
    old, new = (scipy.special.softmax(logits.astype(np.float64), axis=-1) for logits in (old_logits, new_logits))
    flat = [
        0.5 * scipy.spatial.distance.cityblock(p, q)
        for p, q in zip(old.reshape(-1, old.shape[-1]), new.reshape(-1, new.shape[-1]), strict=True)
    ]
    return np.reshape(flat, old.shape[:-1])


def joint_tv_by_enumeration(old_logits, new_logits):
    """[N, A] -> the joint policies' total variation, over all A^N joint actions."""
    old, new = (scipy.special.softmax(logits.astype(np.float64), axis=-1) for logits in (old_logits, new_logits))
    agents = range(len(old))
    return 0.5 * sum(
        abs(np.prod([new[i, joint[i]] for i in agents]) - np.prod([old[i, joint[i]] for i in agents]))
        for joint in itertools.product(range(old.shape[1]), repeat=len(old))
    )


@pytest.fixture
def old_and_new(rng, random_team):
    """Masked logits [20, N, A] of two policies with the same actions available."""
    old, avail = random_team((20,))
    new = np.where(avail, old + rng.normal(size=old.shape), old).astype(np.float32)
    return old, new, avail


@pytest.mark.parametrize("wrap", [tf.constant, categorical.team_distribution], ids=["logits", "distributions"])
def test_agent_tv_is_half_the_sum_of_absolute_differences(old_and_new, wrap):
    old, new, _ = old_and_new
    expected = tv_by_cityblock(old, new)
    np.testing.assert_allclose(total_variation.agent_tv(wrap(old), wrap(new)), expected, atol=1e-6)
    np.testing.assert_allclose(
        total_variation.joint_tv_sum_bound(wrap(old), wrap(new)), expected.sum(axis=-1), atol=1e-6
    )


def test_agent_tv_is_symmetric_and_in_0_1(old_and_new):
    old, new, _ = old_and_new
    tv = total_variation.agent_tv(old, new).numpy()
    assert ((tv >= 0) & (tv <= 1)).all()
    np.testing.assert_array_equal(tv, total_variation.agent_tv(new, old))


def test_agent_tv_is_0_for_equal_and_1_for_disjoint_policies():
    logits = np.array([[50.0, 0.0, 0.0], [0.0, 50.0, 0.0]], np.float32)
    np.testing.assert_array_equal(total_variation.agent_tv(logits, logits), [0.0, 0.0])
    np.testing.assert_allclose(total_variation.agent_tv(logits, logits[::-1]), [1.0, 1.0])
    np.testing.assert_allclose(total_variation.joint_tv_sum_bound(logits, logits[::-1]), 2.0)


def test_dead_agent_has_no_total_variation(rng):
    avail = np.array([[True, False, False], [True, True, True]])
    old, new = (categorical.mask_logits(rng.normal(size=(2, 3)).astype(np.float32), avail) for _ in range(2))
    dead, alive = total_variation.agent_tv(old, new).numpy()
    assert dead == 0.0
    assert alive > 0.0
    np.testing.assert_array_equal(total_variation.joint_tv_sum_bound(old, new), alive)


def test_masked_actions_contribute_nothing(old_and_new, rng):
    old, new, avail = old_and_new

    def anew(logits):
        unmasked = np.where(avail, logits, 9 * rng.normal(size=avail.shape)).astype(np.float32)
        return categorical.mask_logits(unmasked, avail)

    np.testing.assert_array_equal(total_variation.agent_tv(anew(old), anew(new)), total_variation.agent_tv(old, new))


def test_joint_tv_lies_between_largest_agent_tv_and_their_sum(old_and_new):
    old, new, _ = old_and_new
    largest = tf.reduce_max(total_variation.agent_tv(old, new), axis=-1).numpy()
    bound = total_variation.joint_tv_sum_bound(old, new).numpy()
    joint = np.array([joint_tv_by_enumeration(*teams) for teams in zip(old, new, strict=True)])
    assert (joint >= largest - 1e-6).all()
    assert (joint <= bound + 1e-6).all()
    assert (joint > largest + 1e-3).any()
    assert (joint < bound - 1e-3).any()


def test_the_sum_bound_is_the_joint_tv_if_only_one_agent_moves(old_and_new):
    old, new, _ = old_and_new
    new = np.where(np.arange(3)[:, None] == 1, new, old)
    joint = [joint_tv_by_enumeration(*teams) for teams in zip(old, new, strict=True)]
    np.testing.assert_allclose(total_variation.joint_tv_sum_bound(old, new), joint, atol=1e-6)
