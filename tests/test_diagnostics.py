"""The measured trust region and its certificate against NumPy references, dead agents and boundaries left out."""

import itertools
import math

import gin
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tf_marl import diagnostics
from tf_marl.compile import graph
from tf_marl.ops import categorical, penalties, surrogate

EPSILON = 0.2
SEED = tf.constant([0, 1])
RATIOS = {"independent": surrogate.independent_ratio, "joint": surrogate.joint_ratio}


def softmax(logits):
    return scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)


def ratios_by_numpy(change):
    """[B, T, K] and [B, T, K] bool where they count."""
    old, new = softmax(change.old_logits), softmax(change.new_logits)
    old, new = (np.take_along_axis(p, change.action[..., None], axis=-1)[..., 0] for p in (old, new))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(change.learns, new / old, 1.0)
    if change.ratio is surrogate.joint_ratio:
        return ratio.prod(axis=-1, keepdims=True), change.learns.any(axis=-1, keepdims=True)
    return ratio, change.learns


def losses_by_enumeration(change):
    """[B, T, J] each, of all joint actions: the old probability, and max(0, 1 - ratio), its mean the joint TV."""
    num_agents, num_actions = change.old_logits.shape[-2:]
    new_logits = np.where(change.learns[..., None], change.new_logits, change.old_logits)
    actions = np.array(list(itertools.product(range(num_actions), repeat=num_agents)))
    old, new = (softmax(p)[..., np.arange(num_agents), actions].prod(axis=-1) for p in (change.old_logits, new_logits))
    return old, np.maximum(0.0, 1.0 - np.divide(new, old, out=np.ones_like(old), where=old > 0))


def agent_tv_by_numpy(change):
    return np.where(change.learns, 0.5 * np.abs(softmax(change.new_logits) - softmax(change.old_logits)).sum(-1), 0.0)


def hellinger_by_numpy(change):
    """The upper bound, [B, T]."""
    overlap = np.sqrt(softmax(change.old_logits) * softmax(change.new_logits)).sum(axis=-1)
    return np.sqrt(1.0 - np.where(change.learns, overlap, 1.0).prod(axis=-1) ** 2)


def alpha_of_clip(epsilon, num_ratios):
    """What the joint total variation cannot exceed while all ratios are in range."""
    moments, coupling = 0.5 * np.sqrt((1 + epsilon**2) ** num_ratios - 1), 1 - (1 - epsilon / 2) ** num_ratios
    return np.minimum(moments, coupling)


def trust_region_by_numpy(change):
    """All but `joint_tv_max`."""
    old, new = softmax(change.old_logits), softmax(change.new_logits)
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(old > 0, old * np.log(old / new), 0.0).sum(axis=-1)
    learns, states, tv = change.learns, change.learns.any(axis=-1), agent_tv_by_numpy(change)
    ratio, counts = ratios_by_numpy(change)
    epsilon = np.broadcast_to(change.epsilon, [*states.shape, 1])
    tv_sum, tv_product = tv.sum(axis=-1), 1.0 - np.prod(1.0 - tv, axis=-1)
    hellinger, pinsker = hellinger_by_numpy(change), np.sqrt(np.where(learns, kl, 0.0).sum(axis=-1) / 2)
    pinsker = np.minimum(pinsker, 1.0)
    return {
        "joint_tv_hellinger_max": hellinger.max(),
        "joint_tv_hellinger_mean": hellinger[states].mean(),
        "joint_tv_hellinger_lower_max": 1.0 - np.sqrt(1.0 - hellinger.max() ** 2),
        "joint_tv_pinsker_max": pinsker.max(),
        "joint_tv_pinsker_mean": pinsker[states].mean(),
        "joint_tv_upper_max": np.minimum(np.minimum(tv_product, hellinger), pinsker).max(),
        "ratio_min": ratio[counts].min(),
        "ratio_max": ratio[counts].max(),
        "ratio_mean": ratio[counts].mean(),
        "clip_fraction": (np.abs(ratio - 1.0) > epsilon)[counts].mean(),
        "epsilon": epsilon[states].mean(),
        "ratio_deviation_sum": sum(np.abs(ratio[..., k] - 1.0).max() for k in range(ratio.shape[-1])),
        "alpha": alpha_of_clip(epsilon[..., 0], counts.sum(axis=-1)).max(),
        "clip_alpha": alpha_of_clip(epsilon[..., 0], counts.sum(axis=-1)).max(),
        "kl_mean": kl[learns].mean(),
        "agent_tv_max": tv[learns].max(),
        "agent_tv_mean": tv[learns].mean(),
        "joint_tv_sum_max": tv_sum.max(),
        "joint_tv_sum_mean": tv_sum[states].mean(),
        "joint_tv_product_max": tv_product.max(),
        "joint_tv_product_mean": tv_product[states].mean(),
    }


@pytest.fixture
def update(rng, random_team):
    """The change of a [B, T, N] rollout with dead agents and boundaries, where the policy changes as well."""
    old, avail = random_team((4, 10))
    new = np.where(avail, old + 0.3 * rng.normal(size=old.shape), old).astype(np.float32)
    action = np.argmax(old + rng.gumbel(size=old.shape), axis=-1).astype(np.int32)
    alive = avail.sum(axis=-1) > 1
    boundary = rng.random((4, 10)) < 0.2
    assert (alive & boundary[..., None]).any()
    assert (alive.any(axis=-1) & ~boundary).sum() > 20
    return diagnostics.PolicyChange(old, new, action, alive & ~boundary[..., None], np.float32(EPSILON))


@pytest.fixture(params=RATIOS)
def any_update(update, request):
    """With the ratios of IPPO and MAPPO, and with that of JR-PPO."""
    return update._replace(ratio=RATIOS[request.param])


# The trust region


def test_identical_policies_have_ratio_1_and_no_distance(any_update):
    change = any_update._replace(new_logits=any_update.old_logits)
    metrics = diagnostics.trust_region(change, SEED)
    assert metrics.pop("trust_region/epsilon") == np.float32(EPSILON)
    assert metrics.pop("trust_region/alpha") == metrics.pop("trust_region/clip_alpha") > 0.0
    assert {metrics.pop(f"trust_region/ratio_{name}").numpy() for name in ("min", "max", "mean")} == {1.0}
    assert len(metrics) == 16
    assert all(value == 0.0 for value in metrics.values()), metrics


@pytest.mark.parametrize("by_state", [False, True], ids=["one epsilon", "an epsilon a state"])
def test_metrics_match_numpy(any_update, rng, by_state):
    epsilon = rng.uniform(0.05, 0.5, size=(4, 10, 1)) if by_state else EPSILON
    change = any_update._replace(epsilon=np.float32(epsilon))
    expected = trust_region_by_numpy(change)
    assert 0 < expected["clip_fraction"] < 1
    actual = diagnostics.trust_region(change, SEED)
    del actual["trust_region/joint_tv_max"]
    assert actual.keys() == {f"trust_region/{name}" for name in expected}
    for name, value in expected.items():
        np.testing.assert_allclose(actual[f"trust_region/{name}"], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("xla", [False, True], ids=["TensorFlow", "XLA"])
def test_the_largest_joint_tv_is_estimated_within_its_standard_error(update, xla):
    old, loss = losses_by_enumeration(update)
    joint_tv = (old * loss).sum(axis=-1)
    error = np.sqrt(((old * loss**2).sum(axis=-1) - joint_tv**2).max() / 2048)
    assert error < 0.01
    trust_region = graph.function(diagnostics.trust_region, jit_compile=xla)
    metrics = [trust_region(update, tf.constant([0, seed])) for seed in range(10)]
    largest = np.array([each["trust_region/joint_tv_max"] for each in metrics])
    assert len(set(largest)) > 5
    assert (largest > joint_tv.max() - 4.0 * error).all()
    assert (largest < joint_tv.max() + 5.0 * error).all()  # the largest of several estimates
    for name, value in trust_region_by_numpy(update).items():
        np.testing.assert_allclose(metrics[0][f"trust_region/{name}"], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_what_is_not_learned_from_is_not_measured(any_update, rng):
    """Of the dead and at boundaries, neither policy counts, nor the action."""

    def other(logits):
        return np.where(learns[..., None], logits, 5 * rng.normal(size=logits.shape)).astype(np.float32)

    learns = any_update.learns
    changed = any_update._replace(
        old_logits=other(any_update.old_logits),
        new_logits=other(any_update.new_logits),
        action=np.where(learns, any_update.action, (any_update.action + 1) % any_update.new_logits.shape[-1]),
    )
    expected, actual = (diagnostics.trust_region(change, SEED) for change in (any_update, changed))
    tf.nest.map_structure(np.testing.assert_array_equal, actual, expected)


def test_a_rollout_of_boundaries_alone_has_no_distance(any_update):
    metrics = diagnostics.trust_region(any_update._replace(learns=np.zeros_like(any_update.learns)), SEED)
    assert metrics["trust_region/ratio_min"] == metrics["trust_region/ratio_max"] == 1.0
    for name in ("joint_tv_sum_mean", "joint_tv_product_max", "joint_tv_max", "kl_mean", "ratio_deviation_sum"):
        assert metrics[f"trust_region/{name}"] == 0.0


@pytest.mark.parametrize(
    ("ratio", "clip_fraction", "ratio_max", "deviation", "alpha"),
    [
        ("independent", 1 / 3, 1.4, 0.0 + 0.1 + 0.4, 0.5 * math.sqrt(1.04**3 - 1.0)),
        ("joint", 1.0, 1.1 * 1.4, 1.1 * 1.4 - 1.0, EPSILON / 2),
    ],
)
def test_ratios_and_clip_range_worked_by_hand(ratio, clip_fraction, ratio_max, deviation, alpha):
    old = np.log([[[[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]]]).astype(np.float32)
    new = np.log([[[[0.5, 0.5], [0.55, 0.45], [0.7, 0.3]]]]).astype(np.float32)  # ratios 1, 1.1, 1.4
    action, learns = np.zeros((1, 1, 3), np.int32), np.ones((1, 1, 3), bool)
    change = diagnostics.PolicyChange(old, new, action, learns, np.float32(EPSILON), RATIOS[ratio])
    metrics = diagnostics.trust_region(change, SEED)
    expected = {
        "clip_fraction": clip_fraction,
        "ratio_max": ratio_max,
        "ratio_deviation_sum": deviation,
        "alpha": alpha,
        "agent_tv_max": 0.2,
        "joint_tv_sum_max": 0.0 + 0.05 + 0.2,
        "joint_tv_product_max": 1.0 - 0.95 * 0.8,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[f"trust_region/{name}"], value, rtol=1e-5, err_msg=name)


# The certificate


def sizes(upper, clip=0.0):
    return {"trust_region/joint_tv_upper_max": tf.constant(upper), "trust_region/clip_alpha": tf.constant(clip)}


def certificate(change, advantage, gamma, measured):
    metrics = diagnostics.certificate(change, advantage, gamma, measured)
    return {name.removeprefix("certificate/"): float(value) for name, value in metrics.items()}


@pytest.fixture
def two_states():
    """One agent in two states, and a boundary; (step=1) -> (change, advantage).

    It took the first action of two, 0.5 before and 0.6 now, then the second, 0.5 before and 0.55 now. A shorter step
    changes the probabilities by as much less.
    """

    def make(step=1.0):
        old = np.full([1, 3, 1, 2], 0.5)
        new = old + step * np.array([[[[0.1, -0.1]], [[-0.05, 0.05]], [[-0.4, 0.4]]]])
        logits = (np.log(p).astype(np.float32) for p in (old, new))
        action, learns = np.array([[[0], [1], [1]]]), np.array([[[True], [True], [False]]])
        change = diagnostics.PolicyChange(*logits, action, learns, np.float32(EPSILON))
        return change, np.float32([[[2.0], [-1.0], [50.0]]])

    return make


def test_the_certificate_worked_by_hand(two_states):
    gain = ((1.2 - 1) * 2.0 + (1.1 - 1) * -1.0) / 2 / (1 - 0.5)
    assert gain == pytest.approx(0.3)
    per_alpha_squared = 4 * 2.0 * 0.5 / (1 - 0.5) ** 2
    assert per_alpha_squared == 16.0
    one_agent = 4 * 2.0 * 0.1 * (1 / (1 - 0.5) - 1 / (1 - 0.5 * (1 - 0.1)))
    expected = {
        "surrogate": 0.3,
        "joint_surrogate": 0.3,  # one agent is the team
        "sequential_surrogate": 0.3,
        "sequential_surrogate_min": 0.3,
        "advantage_max": 2.0,
        "alpha": 0.11,
        "penalty": 16 * 0.11**2,
        "lower_bound": 0.3 - 16 * 0.11**2,
        "certified": 1.0,
        "trivial_bound": -2 * 0.11 * 2.0 / (1 - 0.5),
        "vacuous": 0.0,
        "alpha_shrink": 1.0,
        "lower_bound_clip": 0.3 - 16 * 0.09**2,
        "independent_lower_bound": 0.3 - 16 * 0.11**2,
        "penalty_joint": 4 * 2.0 * 0.11 * (1 / (1 - 0.5) - 1 / (1 - 0.5 * (1 - 0.11))),
        "penalty_happo": one_agent,
        "penalty_a2po": one_agent,
        "penalty_mappo": 4 * 2.0 * 0.1 / (1 - 0.5),
    }
    actual = certificate(*two_states(), 0.5, sizes(0.11, clip=0.09))
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name] == pytest.approx(value, rel=1e-5), name


def test_the_certificate_matches_numpy(any_update, rng):
    change, gamma = any_update, 0.97
    ratio, counts = ratios_by_numpy(change)
    agent_ratio, _ = ratios_by_numpy(change._replace(ratio=surrogate.independent_ratio))
    advantage = rng.normal(size=ratio.shape).astype(np.float32)
    measured = sizes(0.055, clip=0.08)
    actual = certificate(change, np.where(counts, advantage, np.float32(1e3)), gamma, measured)
    states = counts.any(axis=-1)
    of_the_team = (advantage * counts).sum(axis=-1)[states] / counts.sum(axis=-1)[states]
    joint_gain = ((np.where(counts, ratio, 1.0).prod(axis=-1)[states] - 1) * of_the_team).mean() / (1 - gamma)
    gain = ((ratio - 1) * advantage * counts).sum(axis=-1)[states].mean() / (1 - gamma)
    in_sequence, before = [], 1.0
    for k in range(agent_ratio.shape[-1]):
        in_sequence.append((before * (agent_ratio[..., k][states] - 1) * of_the_team).mean() / (1 - gamma))
        before = before * agent_ratio[..., k][states]
    largest, tvs = np.abs(of_the_team).max(), agent_tv_by_numpy(change).max(axis=(0, 1))
    penalty = 4 * largest * gamma / (1 - gamma) ** 2 * 0.055**2
    trivial_bound = -2 * 0.055 * largest / (1 - gamma)
    expected = {
        "surrogate": gain,
        "joint_surrogate": joint_gain,
        "sequential_surrogate": joint_gain,
        "sequential_surrogate_min": min(in_sequence),
        "advantage_max": largest,
        "alpha": 0.055,
        "penalty": penalty,
        "lower_bound": joint_gain - penalty,
        "certified": float(joint_gain > penalty),
        "trivial_bound": trivial_bound,
        "vacuous": float(joint_gain - penalty <= trivial_bound),
        "alpha_shrink": np.clip(joint_gain / penalty, 0.0, 1.0),
        "lower_bound_clip": joint_gain - penalty * (0.08 / 0.055) ** 2,
        "independent_lower_bound": gain - penalty,
        "penalty_joint": penalty / (1 + gamma * 0.055 / (1 - gamma)),
        "penalty_happo": penalties.happo_penalty(largest, tvs, gamma),
        "penalty_a2po": penalties.a2po_penalty(largest, tvs, gamma),
        "penalty_mappo": penalties.mappo_penalty(largest, tvs, gamma),
    }
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_the_largest_advantage_is_the_teams():
    """Two agents whose estimates differ by 6: the team's advantage is their mean."""
    logits, action = np.zeros([1, 1, 2, 2], np.float32), np.zeros([1, 1, 2], np.int32)
    change = diagnostics.PolicyChange(logits, logits, action, np.ones([1, 1, 2], bool), None)
    assert certificate(change, np.float32([[[5.0, -1.0]]]), 0.9, sizes(0.1))["advantage_max"] == 2.0


def test_only_the_joint_surrogate_sees_what_agents_undo_together():
    """Two agents in one state are paid 1 where just one of them moves, and learn to: see each joint action once.

    Both move with probability 0.1 before and 0.9 after, so the mean pay is 2 x 0.9 x 0.1 = 0.18 as before. With each
    joint action as often as the old policy takes it, of 100 visits, the estimate is the expectation itself.
    """
    action = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], [81, 9, 9, 1], axis=0)[None]
    old, new = (np.broadcast_to(np.log(p).astype(np.float32), [1, 100, 2, 2]) for p in ([0.9, 0.1], [0.1, 0.9]))
    change = diagnostics.PolicyChange(old, new, action, np.ones([1, 100, 2], bool), np.float32(EPSILON))
    advantage = np.float32(action[..., :1] != action[..., 1:]) - np.float32(0.18)
    actual = certificate(change, np.repeat(advantage, 2, axis=-1), 0.0, sizes(0.8))
    assert actual["joint_surrogate"] == pytest.approx(0.0, abs=1e-5)
    # either alone would gain P(just one moves) = 0.9 x 0.9 + 0.1 x 0.1 = 0.82 for 0.18
    assert actual["surrogate"] == pytest.approx(2 * (0.82 - 0.18), rel=1e-4)
    # one after another, the first gains that and the second loses it again
    assert actual["sequential_surrogate"] == pytest.approx(0.0, abs=1e-5)
    assert actual["sequential_surrogate_min"] == pytest.approx(0.18 - 0.82, rel=1e-4)


def test_a_step_that_is_shortened_by_the_shrink_is_just_certified(two_states):
    alpha, gamma = 0.1, 0.99

    def shortened(step):
        return certificate(*two_states(step), gamma, sizes(step * alpha))

    shrink = shortened(1.0)["alpha_shrink"]
    assert 0.0 < shrink < 0.1
    assert shortened(1.0)["certified"] == 0.0
    assert shortened(0.99 * shrink)["certified"] == 1.0 == shortened(0.99 * shrink)["alpha_shrink"]
    assert shortened(1.01 * shrink)["certified"] == 0.0


def test_a_surrogate_below_0_needs_no_shorter_but_another_step(two_states):
    change, advantage = two_states()
    losing = certificate(change, -advantage, 0.99, sizes(0.0))
    assert losing["joint_surrogate"] < 0.0
    assert losing["certified"] == losing["alpha_shrink"] == 0.0


def test_without_a_future_every_gain_is_certified(two_states):
    assert certificate(*two_states(), 0.0, sizes(0.5))["alpha_shrink"] == 1.0


def test_a_bound_is_vacuous_where_any_policy_as_near_meets_it(two_states):
    change, advantage = two_states()
    told = {alpha: certificate(change, advantage, 0.99, sizes(alpha)) for alpha in (0.001, 0.05, 0.5, 1.0)}
    assert [one["vacuous"] for one in told.values()] == [0.0, 1.0, 1.0, 1.0]
    assert told[0.5]["trivial_bound"] == told[1.0]["trivial_bound"] == pytest.approx(-2.0 / (1 - 0.99), rel=1e-4)


# In full


@pytest.fixture
def distributions(update):
    """Of each name, what there is to take percentiles of."""
    tv = agent_tv_by_numpy(update)
    states = update.learns.any(axis=-1)
    old, loss = losses_by_enumeration(update)
    return {
        "agent_tv": tv[update.learns],
        "joint_tv_sum": tv.sum(axis=-1)[states],
        "joint_tv_product": (1.0 - np.prod(1.0 - tv, axis=-1))[states],
        "joint_tv_hellinger": hellinger_by_numpy(update)[states],
        "joint_tv_lower": tv.max(axis=-1)[states],
        "joint_tv": (old * loss).sum(axis=-1)[states],
    }


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_distributions_are_told_by_their_percentiles(update, distributions, compiled):
    measure = diagnostics.Full().distribution
    actual = (graph.function(measure) if compiled else measure)(update, SEED)
    assert actual.keys() == {"exact", *distributions}
    assert actual["exact"] == 1.0
    for name, values in distributions.items():
        expected = np.percentile(values, np.arange(101), method="nearest")
        assert actual[name].dtype == tf.float32
        np.testing.assert_allclose(actual[name], expected, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(actual[name][0], values.min(), atol=1e-6)
        np.testing.assert_allclose(actual[name][100], values.max(), atol=1e-6)


def test_a_rollout_in_which_nobody_decides_has_distributions_of_zeros(update):
    measured = diagnostics.Full(max_states=8).distribution(update._replace(learns=np.zeros_like(update.learns)), SEED)
    assert measured.pop("exact") == 1.0
    for name, values in measured.items():
        np.testing.assert_allclose(values, np.zeros(101), atol=1e-6, err_msg=name)


def test_states_with_many_joint_actions_are_estimated_and_the_share_of_the_others_told(update, distributions):
    legal = (update.old_logits > categorical.MASKED_LOGIT / 2).sum(axis=-1)
    number = legal.prod(axis=-1)[update.learns.any(axis=-1)]
    limit = int(np.median(number))
    actual = diagnostics.Full(max_joint_actions=limit, num_samples=4000).distribution(update, SEED)
    np.testing.assert_allclose(actual["exact"], np.mean(number <= limit), rtol=1e-6)
    assert 0.2 < actual["exact"] < 0.8
    expected = np.percentile(distributions["joint_tv"], np.arange(101), method="nearest")
    assert np.abs(actual["joint_tv"] - expected).max() > 1e-4
    np.testing.assert_allclose(actual["joint_tv"], expected, atol=0.03)  # no standard error is above 0.008
    again = diagnostics.Full(max_joint_actions=limit, num_samples=4000).distribution(update, SEED)
    np.testing.assert_array_equal(again["joint_tv"], actual["joint_tv"])


def test_the_joint_tv_may_be_measured_on_some_of_the_states(update, distributions):
    (num_states,) = distributions["joint_tv"].shape
    max_states = num_states // 3
    actual = diagnostics.Full(max_states=max_states).distribution(update, SEED)
    some = distributions["joint_tv"][:: -(-num_states // max_states)]
    assert max_states // 2 < len(some) <= max_states
    for name, values in (distributions | {"joint_tv": some}).items():
        expected = np.percentile(values, np.arange(101), method="nearest")
        np.testing.assert_allclose(actual[name], expected, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("every", "due"), [(0, []), (1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6])])
def test_every_so_many_updates_are_due_from_the_first_on(every, due):
    full = diagnostics.Full(full_every=every)
    assert [update for update in range(7) if full.due(update)] == due


@pytest.mark.usefixtures("clean_gin")
def test_gin_says_how_often():
    assert not diagnostics.Full().due(0)
    gin.parse_config("diagnostics.full_every = 5")
    full = diagnostics.Full()
    assert [update for update in range(11) if full.due(update)] == [0, 5, 10]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("full_every", -1),
        ("full_every", 2.5),
        ("max_joint_actions", 0),
        ("num_samples", "64"),
        ("max_states", -1),
        ("every", 1),
    ],
)
def test_an_unfit_option_is_named(option, value):
    with pytest.raises(ValueError, match=rf"^diagnostics\.{option}: "):
        diagnostics.Full(**{option: value})
