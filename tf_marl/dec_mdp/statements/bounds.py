"""This module states what bounds the joint policy's change: Propositions 2 and 3, Theorems 1 and 3, equation 9."""

from collections.abc import Callable

import tensorflow as tf

from tf_marl.dec_mdp.statements.case import ALONE, ONE_STATE, Case, Claim, Reading, identity
from tf_marl.dec_mdp.statements.theorem_2 import bound, sum_tv
from tf_marl.ops import total_variation

_SEEN = 0.9  # share of all visits that a rollout covers with its states and joint actions


# Proposition 3


def _positive_part(case: Case) -> Claim:
    """Claims that TV is the sum of what the new policy adds, at every agent's worst state, [B, N]."""
    added = tf.maximum(tf.nn.softmax(case.new_team) - tf.nn.softmax(case.old_team), 0.0)
    return identity(case.agent_tv_max - tf.reduce_max(tf.reduce_sum(added, axis=-1), axis=1))


# Theorem 3


def _strictly(lhs: tf.Tensor, rhs: tf.Tensor, where: tf.Tensor | bool = True) -> Claim:
    """Makes the claim `lhs < rhs` where a condition holds, as `1 where it fails <= 0`: a sign knows no rounding."""
    fails = tf.cast((lhs >= rhs) & where, lhs.dtype)
    return Claim(fails, tf.zeros_like(fails))


def _epsilons(case: Case) -> tf.Tensor:
    """Returns each agent's smallest eps_k with all its ratios in [1 - eps_k, 1 + eps_k], [B, N]."""
    return tf.reduce_max(case.deviation, axis=1)


def _mean_deviation(case: Case) -> tf.Tensor:
    weighted = case.states[..., None, None] * case.old.policy[..., None] * tf.abs(case.ratio - 1.0)
    return tf.reduce_sum(weighted, axis=[1, 2, 3])


def _visited_deviation(case: Case) -> tf.Tensor:
    """Computes the largest `sum_k |ratio_k - 1|` over the most frequent states and joint actions, [B].

    These are as many as it takes to cover 90% of the visits.
    """
    probability = case.states[..., None] * case.old.policy
    shape = [tf.shape(probability)[0], -1]
    flat, deviation = (tf.reshape(x, shape) for x in (probability, tf.reduce_sum(tf.abs(case.ratio - 1.0), axis=-1)))
    order = tf.argsort(flat, direction="DESCENDING")
    flat, deviation = (tf.gather(x, order, batch_dims=1) for x in (flat, deviation))
    seen = tf.cumsum(flat, axis=1, exclusive=True) < _SEEN
    return tf.reduce_max(tf.where(seen, deviation, 0.0), axis=1)


def _gradient_step(case: Case) -> Claim:
    """Claims that a small gradient step makes every action with a positive advantage likelier, as the proof says.

    The step is on the logits of the independent surrogates, with the others old. There is one claim for every agent,
    local state and action, [B, N, O, A]: the step's loss of probability is 0 where A_k > 0.
    """
    policy = tf.nn.softmax(case.old_policy)
    advantage = tf.stack([local.advantage for local in case.locals], axis=1)
    weight = case.horizon[:, None, None] * tf.stack([local.weight for local in case.locals], axis=1)
    step = weight[..., None] * policy * advantage  # gradient by the logits; the mean advantage is 0
    change = policy * (step - tf.reduce_sum(policy * step, axis=-1, keepdims=True))
    return Claim(tf.where(advantage > 1e-6, tf.maximum(-change, 0.0), 0.0), tf.zeros_like(change))


def _state_distribution(alpha: Callable[[Case], tf.Tensor]) -> Callable[[Case], Claim]:
    def check(case: Case) -> Claim:
        moved = 0.5 * case.horizon * tf.reduce_sum(tf.abs(case.new.visits - case.old.visits), axis=1)
        return Claim(moved, case.mdp.gamma / case.horizon * alpha(case))

    return check


def _above(case: Case) -> tf.Tensor:
    """Computes how far each agent's largest ratio exceeds 1, [B, S, N]; ratios below 1 do not count."""
    return tf.maximum(tf.reduce_max(case.ratio - 1.0, axis=2), 0.0)


# Ours


def _hellinger(upper: bool) -> Callable[[Case], Claim]:
    def check(case: Case) -> Claim:
        bounds = total_variation.joint_tv_hellinger_bounds(case.old_team, case.new_team)
        return Claim(case.joint_tv, bounds.upper) if upper else Claim(bounds.lower, case.joint_tv)

    return check


def _clip_rule(case: Case) -> Claim:
    """Claims that `per_sqrt_agents` keeps its promise, where ratios fill the range that it gives for some alpha.

    That alpha solves `epsilon = sqrt((1 + 4 alpha^2)^(1/N) - 1)` for the smallest epsilon with all ratios in
    [1 - epsilon, 1 + epsilon]. There is one claim for each instance, [B].
    """
    epsilon = tf.reduce_max(_epsilons(case), axis=1)
    return Claim(case.alpha, 0.5 * tf.sqrt(tf.math.expm1(case.num_agents * tf.math.log1p(tf.square(epsilon)))))


def _achiam(case: Case) -> Claim:
    expected = tf.reduce_sum(case.new.policy * case.old.advantage, axis=2)
    largest = tf.reduce_max(tf.abs(expected), axis=1)
    mean_tv = tf.reduce_sum(case.states * case.joint_tv, axis=1)
    rhs = 2.0 * case.mdp.gamma / case.horizon * largest * mean_tv
    return Claim(case.joint_surrogate(case.states) - case.gain, rhs)


def _performance_difference(case: Case) -> Claim:
    gain = tf.reduce_sum(case.new.visits[..., None] * case.new.policy * case.old.advantage, axis=[1, 2])
    return identity(case.gain - case.horizon * gain)


READINGS = (
    Reading(
        "Proposition 2",
        "joint TV <= sum_k TV_k at every state",
        lambda case: Claim(case.joint_tv, tf.reduce_sum(case.agent_tv, axis=-1)),
    ),
    Reading("Proposition 2", "largest joint TV <= sum_k largest TV_k", lambda case: Claim(case.alpha, sum_tv(case))),
    Reading("Proposition 3", "TV_k = sum of [pi~_k - pi_k] where it is positive", _positive_part),
    Reading("Theorem 1", "joint policy; alpha = largest joint TV", bound(lambda case: case.alpha)),
    Reading(
        "Theorem 1",
        "alpha = mean of joint TV over states",
        bound(lambda case: tf.reduce_sum(case.states * case.joint_tv, axis=1)),
        ONE_STATE,
        "penalty 2 gamma / (1 - gamma)^2 max|E A| mean TV (Achiam et al. 2017)",
    ),
    Reading(
        "Equation 9",
        "every TV_k <= alpha / N: joint TV <= alpha",
        lambda case: Claim(case.alpha, case.num_agents * tf.reduce_max(case.agent_tv_max, axis=1)),
    ),
    Reading(
        "Equation 9",
        "sum_k TV_k <= alpha on average over states",
        lambda case: Claim(case.alpha, tf.reduce_sum(case.states[..., None] * case.agent_tv, axis=[1, 2])),
        ONE_STATE,
        "every TV_k <= alpha / N: joint TV <= alpha",
    ),
    Reading(
        "Theorem 3",
        "TV_k < eps_k, strictly",
        lambda case: _strictly(case.agent_tv_max, _epsilons(case)),
        None,
        "TV_k < eps_k, strictly, where eps_k > 0",
    ),
    Reading(
        "Theorem 3",
        "TV_k < eps_k, strictly, where eps_k > 0",
        lambda case: _strictly(case.agent_tv_max, _epsilons(case), _epsilons(case) > 0.0),
    ),
    Reading(
        "Theorem 3",
        "joint TV < sum_k eps_k, strictly, where one eps_k > 0",
        lambda case: _strictly(
            case.alpha, tf.reduce_sum(_epsilons(case), axis=1), tf.reduce_max(_epsilons(case), axis=1) > 0.0
        ),
    ),
    Reading("Theorem 3", "TV_k <= eps_k", lambda case: Claim(case.agent_tv_max, _epsilons(case))),
    Reading(
        "Theorem 3",
        "joint TV <= sum_k eps_k",
        lambda case: Claim(case.alpha, tf.reduce_sum(_epsilons(case), axis=1)),
    ),
    Reading(
        "Theorem 3",
        "its proof: a small gradient step makes actions with A_k > 0 likelier",
        _gradient_step,
        None,
        "ratios in [1 - eps, 1 + eps]: TV_k <= eps / 2",
    ),
    Reading(
        "Theorem 3",
        "ratios on average over states and actions",
        lambda case: Claim(case.alpha, _mean_deviation(case)),
        ONE_STATE,
        "mean joint TV <= 1/2 sum_k E|ratio_k - 1|",
    ),
    Reading(
        "Theorem 3",
        f"ratios at the states and actions of {_SEEN:.0%} of the visits",
        lambda case: Claim(case.alpha, _visited_deviation(case)),
        None,
        "mean joint TV <= 1/2 sum_k E|ratio_k - 1|",
    ),
    Reading(
        "Ours",
        "mean joint TV <= 1/2 sum_k E|ratio_k - 1|",
        lambda case: Claim(tf.reduce_sum(case.states * case.joint_tv, axis=1), 0.5 * _mean_deviation(case)),
    ),
    Reading(
        "Ours",
        "ratios in [1 - eps, 1 + eps]: TV_k <= eps / 2",
        lambda case: Claim(case.agent_tv, 0.5 * case.deviation),
    ),
    Reading(
        "Ours",
        "ratios at most 1 + eps: TV_k <= eps / 2",
        lambda case: Claim(case.agent_tv, 0.5 * _above(case)),
        None,
        "ratios at most 1 + eps: TV_k <= eps / (1 + eps)",
    ),
    Reading(
        "Ours",
        "ratios at most 1 + eps: TV_k <= eps / (1 + eps)",
        lambda case: Claim(case.agent_tv, _above(case) / (1.0 + _above(case))),
    ),
    Reading(
        "Ours",
        "ratios in [1 - eps_k, 1 + eps_k]: joint TV <= 1 - prod_k (1 - eps_k / 2)",
        lambda case: Claim(case.joint_tv, total_variation.product_bound(0.5 * case.deviation)),
    ),
    Reading("Ours", "clip rule per_sqrt_agents: joint TV <= 1/2 sqrt((1 + eps^2)^N - 1)", _clip_rule),
    Reading("Ours", "joint TV <= sqrt(1 - prod_k BC_k^2)", _hellinger(upper=True)),
    Reading("Ours", "1 - prod_k BC_k <= joint TV", _hellinger(upper=False)),
    Reading(
        "Ours",
        "joint TV <= sqrt(1/2 sum_k KL_k)",
        lambda case: Claim(case.joint_tv, total_variation.joint_tv_pinsker_bound(case.old_team, case.new_team)),
    ),
    Reading(
        "Ours",
        "joint TV <= 1 - prod_k (1 - TV_k)",
        lambda case: Claim(case.joint_tv, total_variation.joint_tv_product_bound(case.old_team, case.new_team)),
    ),
    Reading(
        "Ours",
        "1 - prod_k (1 - TV_k) <= sum_k TV_k",
        lambda case: Claim(
            total_variation.joint_tv_product_bound(case.old_team, case.new_team),
            total_variation.joint_tv_sum_bound(case.old_team, case.new_team),
        ),
    ),
    Reading(
        "Ours",
        "max_k TV_k <= joint TV",
        lambda case: Claim(total_variation.joint_tv_lower_bound(case.old_team, case.new_team), case.joint_tv),
    ),
    Reading("Ours", "performance difference lemma", _performance_difference),
    Reading("Ours", "penalty 2 gamma / (1 - gamma)^2 max|E A| mean TV (Achiam et al. 2017)", _achiam),
    Reading(
        "Ours",
        "state distributions: TV <= gamma / (1 - gamma) joint TV",
        _state_distribution(lambda case: case.alpha),
    ),
    Reading(
        "Ours",
        "state distributions, largest TV of one agent for the joint one",
        _state_distribution(lambda case: tf.reduce_max(case.agent_tv_max, axis=1)),
        ALONE,
        "state distributions: TV <= gamma / (1 - gamma) joint TV",
    ),
)
