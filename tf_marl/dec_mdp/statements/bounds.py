"""This module states the bounds that lead from the agents' ratios to the team's return.

These are Propositions 2 and 3, Theorems 1 to 3 and equation 9 of the paper.
"""

from collections.abc import Callable

import tensorflow as tf

from tf_marl.dec_mdp.statements.case import ALONE, ONE_AGENT, ONE_STATE, Case, Claim, Reading, identity

_SEEN = 0.9  # share of all visits that a rollout covers with its states and joint actions


# Proposition 3 and what lies between total variations and returns


def _tv_by_ratio(case: Case) -> Claim:
    weighted = case.old.policy[..., None] * tf.abs(case.ratio - 1.0)
    return identity(case.agent_tv - 0.5 * tf.reduce_sum(weighted, axis=2))


def _state_distribution(alpha: Callable[[Case], tf.Tensor]) -> Callable[[Case], Claim]:
    def check(case: Case) -> Claim:
        moved = 0.5 * case.horizon * tf.reduce_sum(tf.abs(case.new.visits - case.old.visits), axis=1)
        return Claim(moved, case.mdp.gamma / case.horizon * alpha(case))

    return check


# Theorems 1 and 2


def _bound(
    alpha: Callable[[Case], tf.Tensor],
    surrogate: Callable[[Case], tf.Tensor] = lambda case: case.joint_surrogate(case.states),
    advantage_max: Callable[[Case], tf.Tensor | None] = lambda case: None,
    more: Callable[[Case], tf.Tensor] = lambda case: tf.zeros_like(case.alpha),
) -> Callable[[Case], Claim]:
    """Returns the check of a lower bound on the gain, `gain >= surrogate - penalty - more`.

    The claim has the form `surrogate - gain <= penalty + more`, with [B] numbers on each side.

    Args:
        alpha: gives the total variation in the penalty, [B].
        surrogate: gives the surrogate objective, [B].
        advantage_max: gives the largest advantage in the penalty, [B]; None for the joint policy's.
        more: gives what else is subtracted, [B].
    """

    def check(case: Case) -> Claim:
        penalty = case.penalty(alpha(case), advantage_max(case))
        return Claim(surrogate(case) - case.gain, penalty + more(case))

    return check


def _marginal_advantage_max(case: Case) -> tf.Tensor:
    return tf.reduce_max([tf.reduce_max(tf.abs(local.advantage), axis=[1, 2]) for local in case.locals], axis=0)


def _sum_alpha(case: Case) -> tf.Tensor:
    return tf.reduce_sum(case.agent_tv_max, axis=1)


def _independent(case: Case) -> tf.Tensor:
    return case.independent_surrogate


# Equation 9


def _improves(surrogate: Callable[[Case], tf.Tensor], alpha: Callable[[Case], tf.Tensor]) -> Callable[[Case], Claim]:
    """Returns the check that the return rises wherever the surrogate exceeds the penalty.

    The claim is that surrogate - penalty and the loss of return, -gain, are not both positive, [B].
    """

    def check(case: Case) -> Claim:
        both = tf.minimum(surrogate(case) - case.penalty(alpha(case)), -case.gain)
        return Claim(both, tf.zeros_like(both))

    return check


# Theorem 3


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


READINGS = (
    Reading(
        "Proposition 2",
        "joint TV <= sum_k TV_k at every state",
        lambda case: Claim(case.joint_tv, tf.reduce_sum(case.agent_tv, axis=-1)),
    ),
    Reading(
        "Proposition 2", "largest joint TV <= sum_k largest TV_k", lambda case: Claim(case.alpha, _sum_alpha(case))
    ),
    Reading("Proposition 3", "TV_k = 1/2 E|ratio_k - 1|", _tv_by_ratio),
    Reading(
        "Proposition 3",
        "state distributions: TV <= gamma / (1 - gamma) joint TV",
        _state_distribution(lambda case: case.alpha),
    ),
    Reading(
        "Proposition 3",
        "state distributions, largest TV of one agent for the joint one",
        _state_distribution(lambda case: tf.reduce_max(case.agent_tv_max, axis=1)),
        ALONE,
    ),
    Reading(
        "Theorem 1",
        "joint policy; alpha = largest joint TV, as certificate/joint_lower_bound",
        _bound(lambda case: case.alpha),
    ),
    Reading(
        "Theorem 1",
        "alpha = mean of joint TV over states",
        _bound(lambda case: tf.reduce_sum(case.states * case.joint_tv, axis=1)),
        ONE_STATE,
    ),
    Reading("Theorem 2", "joint surrogate; alpha = sum_k largest TV_k", _bound(_sum_alpha)),
    Reading(
        "Theorem 2",
        "joint surrogate; alpha = largest TV of one agent",
        _bound(lambda case: tf.reduce_max(case.agent_tv_max, axis=1)),
        ALONE,
    ),
    Reading("Theorem 2", "independent surrogates; alpha = sum_k largest TV_k", _bound(_sum_alpha, _independent), ALONE),
    Reading(
        "Theorem 2",
        "independent surrogates; alpha = largest joint TV, as certificate/lower_bound",
        _bound(lambda case: case.alpha, _independent),
        ALONE,
    ),
    Reading(
        "Theorem 2",
        "independent surrogates, less the interaction term (ours)",
        _bound(lambda case: case.alpha, _independent, more=lambda case: case.interaction),
    ),
    Reading(
        "Theorem 2",
        "joint surrogate; max |A_k| of marginal advantages",
        _bound(_sum_alpha, advantage_max=_marginal_advantage_max),
        ONE_AGENT,
    ),
    Reading(
        "Theorem 2",
        "joint surrogate over undiscounted states, as PPO takes them",
        _bound(_sum_alpha, lambda case: case.joint_surrogate(case.rollout_states)),
        ONE_STATE,
    ),
    Reading(
        "Equation 9", "sum_k largest TV_k <= alpha: joint TV <= alpha", lambda case: Claim(case.alpha, _sum_alpha(case))
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
    ),
    Reading(
        "Equation 9",
        "joint surrogate > penalty: the return rises",
        _improves(lambda case: case.joint_surrogate(case.states), _sum_alpha),
    ),
    Reading(
        "Equation 9", "independent surrogates > penalty: the return rises", _improves(_independent, _sum_alpha), ALONE
    ),
    Reading(
        "Theorem 3",
        "ratios at every state and action: joint TV <= sum_k max |ratio_k - 1|",
        lambda case: Claim(case.joint_tv, tf.reduce_sum(case.deviation, axis=-1)),
    ),
    Reading(
        "Theorem 3",
        "ratios on average over states and actions",
        lambda case: Claim(case.alpha, _mean_deviation(case)),
        ONE_STATE,
    ),
    Reading(
        "Theorem 3",
        f"ratios at the states and actions of {_SEEN:.0%} of the visits",
        lambda case: Claim(case.alpha, _visited_deviation(case)),
    ),
)
