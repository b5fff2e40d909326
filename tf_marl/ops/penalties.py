"""Penalties bound how far the improvement of the return can be from what a surrogate promises.

    |improvement - surrogate| <= penalty,   so   improvement >= surrogate - penalty

The improvement is the new policy's expected discounted return less the old one's. A surrogate sums over the old
policy's discounted states, but the new policy visits others. Couple the two policies so that they choose unlike actions
with probability at most S at any state. Then they have chosen alike for t steps with probability at least (1 - S)^t,
and a surrogate that counts a change of total variation alpha is wrong at step t by at most
4 max|A| alpha (1 - (1 - S)^t) (Schulman et al. 2015, Lemma 3). The sum over discounted steps is

    4 max|A| alpha (1 / (1 - gamma) - 1 / (1 - gamma (1 - S)))

The penalties differ in their surrogate, in alpha and in S, where alpha_k is agent k's largest total variation:

    function         surrogate                                         alpha             S
    joint_penalty    the joint one                                     of the team       alpha, and the sum rounded up
    happo_penalty    in sequence, which adds up to the joint one       alpha_k           sum of all agents' alpha_j
    a2po_penalty     in sequence, advantages of the team so far        alpha_k           sum of alpha_j up to agent k
    mappo_penalty    the sum of the independent ones                   alpha_k           1 from the first step on

All hold with true advantages and true discounted states. "Theorem 2" is that of the paper "Monotonic Improvement
Guarantees under Non-stationarity for Decentralized PPO".
"""

import tensorflow as tf


def joint_penalty(advantage_max: tf.Tensor, alpha: tf.Tensor, gamma: float) -> tf.Tensor:
    """Computes the penalty of Theorem 2 of the paper, which treats the team as a single agent.

        4 max|A| gamma / (1 - gamma)^2 alpha^2                 Schulman et al. 2015, Theorem 1, for the joint policy

    It is 1 + gamma alpha / (1 - gamma) times as large as `happo_penalty` for a team that counts as one agent.

    Args:
        advantage_max: max|A| of the joint policy over states and joint actions, [...].
        alpha: largest total variation of the joint policy at any state, or an upper bound on it, [...].
        gamma: discount factor, in [0, 1).
    Returns:
        The penalty on the joint surrogate, [...].
    """
    return 4.0 * advantage_max * gamma / (1.0 - gamma) ** 2 * tf.square(alpha)


def happo_penalty(advantage_max: tf.Tensor, agent_tv_max: tf.Tensor, gamma: float) -> tf.Tensor:
    """Computes the penalty of HAPPO and CoPPO, as Wang et al. 2023 state it for both.

        4 max|A| sum_k alpha_k (1 / (1 - gamma) - 1 / (1 - gamma (1 - S))),   S = sum_j alpha_j

    S counts as 1 where the sum is more, because it stands for a probability.

    Args:
        advantage_max: max|A| of the old joint policy over states and joint actions, [...].
        agent_tv_max: alpha_k, each agent's largest total variation at any state, [..., N].
        gamma: discount factor, in [0, 1).
    Returns:
        The penalty on the joint surrogate, [...].
    """
    return _penalty(advantage_max, agent_tv_max, tf.reduce_sum(agent_tv_max, axis=-1, keepdims=True), gamma)


def a2po_penalty(advantage_max: tf.Tensor, agent_tv_max: tf.Tensor, gamma: float) -> tf.Tensor:
    """Computes the penalty of A2PO, whose agents change one after another (Wang et al. 2023).

        4 max|A| sum_k alpha_k (1 / (1 - gamma) - 1 / (1 - gamma (1 - S_k))),   S_k = sum_{j <= k} alpha_j

    A2PO's surrogate takes for agent k the advantage of the team in which the agents before it have changed already. The
    penalty does not hold for the old policy's advantage, and the terms for an error of that advantage are left out.
    S_k counts as 1 where the sum is more, because it stands for a probability.

    Args:
        advantage_max: max|A| of all the teams from the old one to the last but one, [...].
        agent_tv_max: alpha_k, each agent's largest total variation at any state, [..., N], in the order of the changes.
        gamma: discount factor, in [0, 1).
    Returns:
        The penalty on the sum of A2PO's surrogates, [...], at most `happo_penalty`.
    """
    return _penalty(advantage_max, agent_tv_max, tf.cumsum(agent_tv_max, axis=-1), gamma)


def mappo_penalty(advantage_max: tf.Tensor, agent_tv_max: tf.Tensor, gamma: float) -> tf.Tensor:
    """Computes the penalty of MAPPO, as Wang et al. 2023 state it.

        4 max|A| sum_k alpha_k / (1 - gamma)

    It says nothing about a policy: the improvement and the sum of the independent surrogates are each at most half of
    it in size, whatever the agents do. So the lower bound with this penalty is never above 0.

    Args:
        advantage_max: max|A| of the old joint policy over states and joint actions, [...].
        agent_tv_max: alpha_k, each agent's largest total variation at any state, [..., N].
        gamma: discount factor, in [0, 1).
    Returns:
        The penalty on the sum of the independent surrogates, [...], at least `happo_penalty`.
    """
    return 4.0 * advantage_max * tf.reduce_sum(agent_tv_max, axis=-1) / (1.0 - gamma)


def _penalty(advantage_max: tf.Tensor, agent_tv_max: tf.Tensor, unlike: tf.Tensor, gamma: float) -> tf.Tensor:
    """Computes 4 max|A| sum_k alpha_k (1 / (1 - gamma) - 1 / (1 - gamma (1 - S_k))), [...].

    The difference is gamma S_k / ((1 - gamma) (1 - gamma (1 - S_k))), which does not cancel for small S_k.

    Args:
        advantage_max: max|A|, [...].
        agent_tv_max: alpha_k, [..., N].
        unlike: S_k, [..., N] or [..., 1].
        gamma: discount factor, in [0, 1).
    """
    unlike = tf.minimum(unlike, 1.0)
    drift = gamma * unlike / ((1.0 - gamma) * (1.0 - gamma * (1.0 - unlike)))
    return 4.0 * advantage_max * tf.reduce_sum(agent_tv_max * drift, axis=-1)
