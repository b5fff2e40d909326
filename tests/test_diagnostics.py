"""The measured trust region against a NumPy reference, dead agents and boundaries left out."""

import numpy as np
import pytest
import scipy.special

from tf_marl import diagnostics

EPSILON = 0.2


def trust_region_by_numpy(old_logits, new_logits, action, learns, epsilon):
    old, new = (scipy.special.softmax(logits.astype(np.float64), axis=-1) for logits in (old_logits, new_logits))
    tv = 0.5 * np.abs(new - old).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(old > 0, old * np.log(old / new), 0.0).sum(axis=-1)

    def taken(probs):
        return np.take_along_axis(probs, action[..., None], axis=-1)[..., 0]

    ratio = taken(new) / taken(old)
    tv_sum = np.where(learns, tv, 0.0).sum(axis=-1)
    return {
        "ratio_min": ratio[learns].min(),
        "ratio_max": ratio[learns].max(),
        "clip_fraction": (np.abs(ratio[learns] - 1) > epsilon).mean(),
        "kl_mean": kl[learns].mean(),
        "agent_tv_max": tv[learns].max(),
        "agent_tv_mean": tv[learns].mean(),
        "joint_tv_sum_max": tv_sum.max(),
        "joint_tv_sum_mean": tv_sum[learns.any(axis=-1)].mean(),
        "epsilon": epsilon,
    }


@pytest.fixture
def update(rng, random_team):
    """(old_logits, new_logits, action, learns) of a [B, T, N] rollout with dead agents and boundaries."""
    old, avail = random_team((4, 10))
    new = np.where(avail, old + 0.3 * rng.normal(size=old.shape), old).astype(np.float32)
    gumbel = rng.gumbel(size=old.shape)
    action = np.argmax(old + gumbel, axis=-1).astype(np.int32)
    alive = avail.sum(axis=-1) > 1
    boundary = rng.random((4, 10)) < 0.2
    return old, new, action, alive & ~boundary[..., None]


def test_identical_policies_have_ratio_1_and_no_distance(update):
    old, _, action, learns = update
    metrics = diagnostics.trust_region(old, old, action, learns, EPSILON)
    assert metrics.pop("trust_region/epsilon") == np.float32(EPSILON)
    assert metrics.pop("trust_region/ratio_min") == 1.0
    assert metrics.pop("trust_region/ratio_max") == 1.0
    assert len(metrics) == 6
    assert all(value == 0.0 for value in metrics.values()), metrics


def test_metrics_match_numpy(update):
    expected = trust_region_by_numpy(*update, EPSILON)
    assert 0 < expected["clip_fraction"] < 1
    actual = diagnostics.trust_region(*update, EPSILON)
    assert actual.keys() == {f"trust_region/{name}" for name in expected}
    for name, value in expected.items():
        np.testing.assert_allclose(actual[f"trust_region/{name}"], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_what_is_not_learned_from_is_not_measured(update, rng):
    old, new, action, learns = update
    anything = np.where(learns[..., None], new, 5 * rng.normal(size=new.shape)).astype(np.float32)
    other_action = np.where(learns, action, (action + 1) % new.shape[-1])
    expected = diagnostics.trust_region(old, new, action, learns, EPSILON)
    actual = diagnostics.trust_region(old, anything, other_action, learns, EPSILON)
    assert {name: float(value) for name, value in actual.items()} == {
        name: float(value) for name, value in expected.items()
    }


def test_a_rollout_of_boundaries_alone_has_no_distance(update):
    old, new, action, learns = update
    metrics = diagnostics.trust_region(old, new, action, np.zeros_like(learns), EPSILON)
    assert metrics["trust_region/ratio_min"] == metrics["trust_region/ratio_max"] == 1.0
    assert metrics["trust_region/joint_tv_sum_mean"] == metrics["trust_region/kl_mean"] == 0.0


def test_the_clip_range_counts_ratios_outside_it_only():
    old = np.log([[[[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]]]).astype(np.float32)
    new = np.log([[[[0.5, 0.5], [0.55, 0.45], [0.7, 0.3]]]]).astype(np.float32)  # ratios 1, 1.1, 1.4
    metrics = diagnostics.trust_region(old, new, np.zeros((1, 1, 3), np.int32), np.ones((1, 1, 3), bool), EPSILON)
    np.testing.assert_allclose(metrics["trust_region/clip_fraction"], 1 / 3)
    np.testing.assert_allclose(metrics["trust_region/ratio_max"], 1.4, rtol=1e-6)
    np.testing.assert_allclose(metrics["trust_region/agent_tv_max"], 0.2, rtol=1e-5)
    np.testing.assert_allclose(metrics["trust_region/joint_tv_sum_max"], 0.0 + 0.05 + 0.2, rtol=1e-5)
