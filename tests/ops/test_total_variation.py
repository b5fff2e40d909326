"""Total variation against NumPy, SciPy and TFP, and the joint policy's by enumeration."""

import fractions
import itertools
import math

import hypothesis
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import scipy.stats
import tensorflow as tf
from hypothesis import strategies
from tensorflow_probability import distributions as tfd

from tf_marl.ops import categorical, surrogate, total_variation


def softmax(logits):
    return scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)


def tv_by_cityblock(old_logits, new_logits):
    """[..., N, A] -> [..., N], one pair of distributions at a time."""
    old, new = softmax(old_logits), softmax(new_logits)
    flat = [
        0.5 * scipy.spatial.distance.cityblock(p, q)
        for p, q in zip(old.reshape(-1, old.shape[-1]), new.reshape(-1, new.shape[-1]), strict=True)
    ]
    return np.reshape(flat, old.shape[:-1])


def joint_actions(num_agents, num_actions):
    """[J, N], each of the J = A^N."""
    return np.array(list(itertools.product(range(num_actions), repeat=num_agents)))


def joint_probabilities(logits):
    """[..., N, A] -> [..., J] in float64, every joint action by itself."""
    num_agents, num_actions = logits.shape[-2:]
    each = softmax(logits)[..., np.arange(num_agents), joint_actions(num_agents, num_actions)]
    return np.prod(each, axis=-1)


def joint_tv_by_enumeration(old_logits, new_logits):
    """[..., N, A] -> [...], the joint policies' total variation over all joint actions."""
    return 0.5 * np.abs(joint_probabilities(new_logits) - joint_probabilities(old_logits)).sum(axis=-1)


def random_teams(seed, num_states, num_agents, num_actions, change=1.0):
    """Masked logits [S, N, A] of an old and a new policy; a third of the agents are dead, with action 0 alone left.

    The share of actions that may be taken is one of its own at each state, so their joint actions are many or few.
    """
    rng = np.random.default_rng(seed)
    shape = num_states, num_agents, num_actions
    avail = rng.random(shape) < rng.random((num_states, 1, 1))
    np.put_along_axis(avail, rng.integers(num_actions, size=(*shape[:2], 1)), True, axis=-1)
    avail[rng.random(shape[:2]) < 1 / 3] = np.arange(num_actions) == 0
    old = rng.normal(size=shape, scale=2.0)
    new = old + change * rng.normal(size=shape)
    return [np.where(avail, logits, categorical.MASKED_LOGIT).astype(np.float32) for logits in (old, new)]


@pytest.fixture
def old_and_new(rng, random_team):
    """Masked logits [20, N, A] of two policies with the same actions available."""
    old, avail = random_team((20,))
    new = np.where(avail, old + rng.normal(size=old.shape), old).astype(np.float32)
    return old, new, avail


# Of each agent by itself


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


@pytest.mark.parametrize("joint", [False, True], ids=["independent", "joint"])
def test_it_is_the_mean_distance_from_1_of_the_ratio_that_training_clips(old_and_new, joint):
    """1/2 E_old|ratio - 1|, over every action of an agent and over every joint action."""
    old, new, _ = old_and_new
    actions = joint_actions(*old.shape[1:]) if joint else np.repeat(np.arange(old.shape[-1])[:, None], 3, axis=1)
    actions = np.broadcast_to(actions[:, None], (len(actions), *old.shape[:2]))  # [J or A, S, N]
    old_log_prob, new_log_prob = (tfd.Categorical(logits).log_prob(actions) for logits in (old, new))
    if joint:
        ratio, actual = surrogate.joint_ratio(new_log_prob, old_log_prob), total_variation.joint_tv_exact(old, new)
        probability = np.exp(tf.reduce_sum(old_log_prob, axis=-1))
    else:
        ratio, actual = surrogate.independent_ratio(new_log_prob, old_log_prob), total_variation.agent_tv(old, new)
        probability = np.exp(old_log_prob)
    assert (actual.numpy() > 0.1).any()
    np.testing.assert_allclose(actual, 0.5 * np.sum(probability * np.abs(ratio - 1.0), axis=0), atol=1e-6)


# Of the joint policy, exact


@pytest.mark.parametrize(
    ("old", "new", "joint_tv", "lower", "product", "sum_"),
    [
        # Joint actions have 0.25 each, then 0.36, 0.24, 0.24, 0.16: one is 0.11 more, and the others 0.11 less.
        ([0.5, 0.5], [0.6, 0.6], 0.36 - 0.25, 0.1, 1 - 0.9 * 0.9, 0.1 + 0.1),
        # From 0.18, 0.72, 0.02, 0.08 to 0.4, 0.4, 0.1, 0.1.
        ([0.9, 0.2], [0.8, 0.5], (0.22 + 0.32 + 0.08 + 0.02) / 2, 0.3, 1 - 0.9 * 0.7, 0.1 + 0.3),
    ],
)
def test_two_agents_of_two_actions_worked_by_hand(old, new, joint_tv, lower, product, sum_):
    old, new = (np.log([[p, 1 - p] for p in policy]).astype(np.float32) for policy in (old, new))
    np.testing.assert_allclose(total_variation.joint_tv_exact(old, new), joint_tv, atol=1e-7)
    np.testing.assert_allclose(total_variation.joint_tv_lower_bound(old, new), lower, atol=1e-7)
    np.testing.assert_allclose(total_variation.joint_tv_product_bound(old, new), product, atol=1e-7)
    np.testing.assert_allclose(total_variation.joint_tv_sum_bound(old, new), sum_, atol=1e-7)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
@pytest.mark.parametrize("table", [2**20, 50], ids=["one batch", "many batches"])
@pytest.mark.parametrize("num_agents", range(1, 6))
def test_exact_joint_tv_is_that_of_enumeration(num_agents, table, compiled, monkeypatch):
    monkeypatch.setattr(total_variation, "TABLE_SIZE", table)
    exact = tf.function(total_variation.joint_tv_exact) if compiled else total_variation.joint_tv_exact
    old, new = random_teams(num_agents, 60, num_agents, num_actions=5)
    expected = joint_tv_by_enumeration(old, new)
    assert (expected == 0.0).any()
    assert (expected > 0.2).any()
    np.testing.assert_allclose(exact(tf.constant(old), tf.constant(new)), expected, atol=1e-6)


def test_a_tiny_change_is_measured_as_well():
    old, new = random_teams(0, 100, 4, num_actions=4, change=1e-4)
    expected = joint_tv_by_enumeration(old, new)
    assert 1e-6 < np.median(expected) < expected.max() < 1e-3
    np.testing.assert_allclose(total_variation.joint_tv_exact(old, new), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("num_agents", "old", "new"), [(20, 0.5, 0.55), (11, 0.1, 0.3), (21, 0.9, 0.8999)])
def test_agents_all_alike_have_the_joint_tv_of_the_number_that_take_an_action(num_agents, old, new):
    """That number is sufficient and binomial, which tells what no enumeration could."""
    numbers = np.arange(num_agents + 1)
    p, q = (scipy.stats.binom.pmf(numbers, num_agents, probability) for probability in (old, new))
    teams = [np.tile(np.log([p, 1 - p]), (num_agents, 1)) for p in (old, new)]
    actual = total_variation.joint_tv_exact(*teams)
    assert actual.dtype == tf.float64
    np.testing.assert_allclose(actual, 0.5 * np.abs(p - q).sum(), rtol=1e-9)


def test_exact_joint_tv_is_0_for_equal_policies_and_1_where_one_agents_are_disjoint(rng):
    logits = rng.normal(size=(20, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(total_variation.joint_tv_exact(logits, logits), np.zeros(20))
    last = np.arange(3)[:, None] == 2
    left, right = (np.where(last & (np.arange(4) // 2 == side), -1e9, logits) for side in (0, 1))
    np.testing.assert_allclose(total_variation.joint_tv_exact(left, right), np.ones(20), rtol=1e-12)


def test_tables_stay_within_the_memory_meant_for_them(monkeypatch):
    """States with as many joint actions made up otherwise, 16^2 and 4^4: side by side they would need 16^2 * 4^2."""
    counts = np.ones((40, 8), int)
    counts[::2, :4], counts[1::2] = 16, 4
    rng = np.random.default_rng(0)
    avail = np.arange(16) < counts[..., None]
    old, new = (np.where(avail, rng.normal(size=avail.shape), -1e9).astype(np.float32) for _ in range(2))
    sizes, joint = [], total_variation.joint_probabilities

    def spied(*args):
        made = joint(*args)
        sizes.append(made[0].shape.num_elements())
        return made

    monkeypatch.setattr(total_variation, "joint_probabilities", spied)
    monkeypatch.setattr(total_variation, "TABLE_SIZE", 8 * 16**2)
    few = total_variation.joint_tv_exact(old, new)
    assert max(sizes) <= 8 * 16**2
    assert len(sizes) > 2
    monkeypatch.setattr(total_variation, "TABLE_SIZE", 1)
    np.testing.assert_allclose(few, total_variation.joint_tv_exact(old, new), rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_too_many_joint_actions_are_refused(compiled):
    logits = tf.zeros([2, 27, 30])
    exact = tf.function(total_variation.joint_tv_exact) if compiled else total_variation.joint_tv_exact
    with pytest.raises(tf.errors.InvalidArgumentError, match="joint_tv_monte_carlo"):
        exact(logits, logits)


def test_a_graph_refuses_before_it_makes_any_joint_action():
    """Without an edge from one to the other it does both at once, and takes all the memory there is."""
    spec = tf.TensorSpec([None, 27, 30])
    graph = tf.function(total_variation.joint_tv_exact).get_concrete_function(spec, spec).graph
    before, waiting = set(), [op for op in graph.get_operations() if "While" in op.type]
    assert waiting
    while waiting:
        op = waiting.pop()
        if op not in before:
            before.add(op)
            waiting += [*op.control_inputs, *(tensor.op for tensor in op.inputs)]
    assert any(op.type == "If" and "Assert" in op.name for op in before)


# Its bounds


def test_the_sum_bound_is_the_joint_tv_if_only_one_agent_moves(old_and_new):
    old, new, _ = old_and_new
    new = np.where(np.arange(3)[:, None] == 1, new, old)
    np.testing.assert_allclose(
        total_variation.joint_tv_sum_bound(old, new), joint_tv_by_enumeration(old, new), atol=1e-6
    )


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    seed=strategies.integers(0, 2**31 - 1),
    num_agents=strategies.integers(1, 5),
    num_actions=strategies.integers(2, 4),
    change=strategies.sampled_from([1e-3, 0.1, 1.0, 10.0]),
)
def test_joint_tv_lies_between_the_largest_of_an_agent_and_the_bounds(seed, num_agents, num_actions, change):
    """Of 100 states an example."""
    teams = random_teams(seed, 100, num_agents, num_actions, change)
    lower, joint, product, sum_ = (
        function(*teams).numpy()
        for function in (
            total_variation.joint_tv_lower_bound,
            total_variation.joint_tv_exact,
            total_variation.joint_tv_product_bound,
            total_variation.joint_tv_sum_bound,
        )
    )
    slack = 1e-6
    assert (lower >= 0.0).all()
    assert (lower <= joint + slack).all()
    assert (joint <= product + slack).all()
    assert (product <= np.minimum(sum_, 1.0) + slack).all()


def test_the_bounds_are_apart_where_several_agents_move(old_and_new):
    old, new, avail = old_and_new
    several = (avail.sum(axis=-1) > 1).sum(axis=-1) > 1
    assert several.sum() > 5
    lower, product, sum_ = (
        function(old, new).numpy()
        for function in (
            total_variation.joint_tv_lower_bound,
            total_variation.joint_tv_product_bound,
            total_variation.joint_tv_sum_bound,
        )
    )
    joint = joint_tv_by_enumeration(old, new)
    assert (lower < joint - 1e-3)[several].any()
    assert (joint < product - 1e-3)[several].all()
    assert (product < sum_ - 1e-3)[several].all()


def test_the_product_bound_is_accurate_for_tiny_changes(rng):
    tv = (10.0 ** rng.uniform(-12, -1, size=(50, 4))).astype(np.float32)
    expected = [float(1 - math.prod(1 - fractions.Fraction(float(one)) for one in state)) for state in tv]
    np.testing.assert_allclose(total_variation.product_bound(tv), expected, rtol=1e-6)


@pytest.mark.parametrize("most", [1.0, 1.0000001], ids=["1", "rounded up"])
def test_the_product_bound_is_1_where_one_agent_has_moved_all_the_way(most):
    np.testing.assert_array_equal(total_variation.product_bound(np.float32([[0.3, most, 0.0], [0.0, most, most]])), 1.0)


# Monte Carlo


@pytest.fixture(scope="module")
def moved_teams():
    """Logits [5, 4, 4] of states with a joint total variation that is not small."""
    teams = random_teams(3, 40, num_agents=4, num_actions=4)
    (moved,) = np.nonzero(joint_tv_by_enumeration(*teams) > 0.1)
    return [team[moved[:5]] for team in teams]


@pytest.mark.parametrize("xla", [False, True], ids=["TensorFlow", "XLA"])
def test_estimates_scatter_about_the_exact_value_as_their_standard_errors_say(moved_teams, xla):
    """100 estimates at each of 5 states."""
    expected = joint_tv_by_enumeration(*moved_teams)
    monte_carlo = tf.function(total_variation.joint_tv_monte_carlo, jit_compile=xla)
    copies = [tf.constant(np.broadcast_to(team, (100, *team.shape))) for team in moved_teams]
    estimate, error = (leaf.numpy() for leaf in monte_carlo(*copies, 1000, tf.constant([0, 1])))
    assert estimate.shape == error.shape == (100, 5)
    within = np.abs(estimate - expected) <= 4.0 * error
    assert (within.sum(axis=0) >= 99).all(), within.sum(axis=0)
    # The mean of 100 is ten times as near, and the error is the spread.
    assert (np.abs(estimate.mean(axis=0) - expected) <= 0.4 * error.mean(axis=0)).all()
    np.testing.assert_allclose(estimate.std(axis=0), error.mean(axis=0), rtol=0.3)  # itself uncertain by 7 %


def test_one_state_will_do_in_a_graph():
    teams = random_teams(1, 1, num_agents=3, num_actions=4)
    expected, _ = total_variation.joint_tv_monte_carlo(*teams, 100, tf.constant([0, 1]))
    estimate, _ = tf.function(total_variation.joint_tv_monte_carlo)(*teams, 100, tf.constant([0, 1]))
    np.testing.assert_allclose(estimate, expected, rtol=1e-5)


def test_the_seed_decides_the_estimate():
    teams = random_teams(1, 10, num_agents=3, num_actions=4)
    some, same, other = (total_variation.joint_tv_monte_carlo(*teams, 100, tf.constant([0, s])) for s in (1, 1, 2))
    tf.nest.map_structure(np.testing.assert_array_equal, some, same)
    assert np.any(some[0] != other[0])


@pytest.mark.parametrize("table", [2**20, 64, 1], ids=["one turn", "turns of a few", "turns of one"])
def test_as_many_samples_are_drawn_as_asked_for(table, monkeypatch):
    """A coin becomes a sure thing: each sample counts 0 or 1, so the estimate is a whole number of n-ths.

    And where the two have no action in common each counts 1, so that the estimate is 1 if there are n.
    """
    monkeypatch.setattr(total_variation, "TABLE_SIZE", table)
    never = categorical.MASKED_LOGIT
    old = np.float32([[[0.0, 0.0, never]], [[0.0, 0.0, never]]])
    new = np.float32([[[0.0, never, never]], [[never, never, 0.0]]])
    num_samples = 77
    estimate, error = total_variation.joint_tv_monte_carlo(old, new, num_samples, tf.constant([3, 4]))
    assert estimate[1] == 1.0
    assert error[1] == 0.0
    ones = estimate[0] * num_samples
    assert 20 < ones < 57
    np.testing.assert_allclose(ones, np.round(ones), atol=1e-4)
    np.testing.assert_allclose(error[0], np.sqrt(estimate[0] * (1 - estimate[0]) / (num_samples - 1)), rtol=1e-5)


def test_the_standard_error_shrinks_with_the_root_of_the_number_of_samples(moved_teams):
    _, few = total_variation.joint_tv_monte_carlo(*moved_teams, 1000, tf.constant([0, 1]))
    _, many = total_variation.joint_tv_monte_carlo(*moved_teams, 25_000, tf.constant([0, 1]))
    np.testing.assert_allclose(few / many, np.full(5, 5.0), rtol=0.15)


# Either, as the number of joint actions asks for


NUM_FEW = 30  # joint actions, up to which the tests below want it exact


def number_of_joint_actions(logits):
    return np.prod((logits > -1e8).sum(axis=-1), axis=-1)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_states_with_few_joint_actions_are_exact_and_the_others_estimated(compiled):
    old, new = (team.reshape(5, 8, 4, 4) for team in random_teams(5, 40, num_agents=4, num_actions=4))
    few = number_of_joint_actions(old) <= NUM_FEW
    assert 5 < few.sum() < 35
    function = tf.function(total_variation.joint_tv) if compiled else total_variation.joint_tv
    joint = function(tf.constant(old), tf.constant(new), NUM_FEW, 2000, tf.constant([0, 1]))
    expected = joint_tv_by_enumeration(old, new)
    assert joint.value.shape == joint.standard_error.shape == joint.exact.shape == (5, 8)
    np.testing.assert_array_equal(joint.exact, few)
    np.testing.assert_allclose(joint.value[few], expected[few], atol=1e-6)
    np.testing.assert_array_equal(joint.standard_error[few], 0.0)
    error = joint.standard_error[~few].numpy()
    assert (error > 0.0).all()
    assert (np.abs(joint.value[~few] - expected[~few]) < 4.5 * error).all()


def test_the_number_of_joint_actions_that_is_still_exact_is_itself():
    old, new = random_teams(5, 40, num_agents=4, num_actions=4)
    number = number_of_joint_actions(old)
    limit = int(np.median(number))
    assert (number == limit).any()
    np.testing.assert_array_equal(total_variation.joint_tv(old, new, limit, 2).exact, number <= limit)
    np.testing.assert_array_equal(total_variation.joint_tv(old, new, limit - 0.5, 2).exact, number < limit)


@pytest.mark.parametrize(("limit", "exact"), [(2**22, True), (0.5, False)])
@pytest.mark.parametrize("num_states", [6, 1, 0])
def test_all_states_may_be_exact_or_none(limit, exact, num_states):
    old, new = random_teams(5, num_states, num_agents=3, num_actions=4)
    joint = total_variation.joint_tv(old, new, limit, 4000, (0, 1))
    np.testing.assert_array_equal(joint.exact, np.full(num_states, exact))
    tolerance = 1e-6 if exact else 0.04  # no standard error is larger than 0.008
    np.testing.assert_allclose(joint.value, joint_tv_by_enumeration(old, new), atol=tolerance)


# All of them


QUANTITIES = {
    "agent_tv": total_variation.agent_tv,
    "lower_bound": total_variation.joint_tv_lower_bound,
    "product_bound": total_variation.joint_tv_product_bound,
    "sum_bound": total_variation.joint_tv_sum_bound,
    "exact": total_variation.joint_tv_exact,
    "monte_carlo": lambda old, new: total_variation.joint_tv_monte_carlo(old, new, 500, tf.constant([0, 1]))[0],
    "joint_tv": lambda old, new: total_variation.joint_tv(old, new, NUM_FEW, 500).value,
}


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_distributions_and_logits_give_the_same(quantity):
    teams = random_teams(2, 20, num_agents=4, num_actions=4)
    expected = QUANTITIES[quantity](*teams)
    np.testing.assert_array_equal(QUANTITIES[quantity](*map(categorical.team_distribution, teams)), expected)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_logits_that_differ_by_a_constant_or_where_illegal_give_the_same(quantity, rng):
    old, new = random_teams(2, 20, num_agents=4, num_actions=4)
    expected = QUANTITIES[quantity](old, new).numpy()
    assert (expected > 0.1).any()

    def anew(logits):
        shifted = logits + rng.normal(size=(*logits.shape[:-1], 1), scale=3.0)
        return np.where(logits > -1e8, shifted, -1e9 * rng.uniform(0.5, 2.0, size=logits.shape)).astype(np.float32)

    # A sample on the edge between two actions may fall to the other one.
    tolerance = 4 / 500 if quantity in ("monte_carlo", "joint_tv") else 1e-6
    np.testing.assert_allclose(QUANTITIES[quantity](anew(old), anew(new)), expected, atol=tolerance)
