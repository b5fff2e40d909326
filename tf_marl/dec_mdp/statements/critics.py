"""This module states Proposition 4 and section 6.3: what critics converge to, and what that means for the surrogates.

A critic may learn by regression on returns, or by temporal differences (TD), that is from its own value of the next
state. Proposition 4 (Lyu et al. 2021, lemmas 1 and 2) is about the latter.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_marl.dec_mdp import exact
from tf_marl.dec_mdp.generators import Instances
from tf_marl.dec_mdp.statements.case import ONE_AGENT, SEES_ALL, Case, Claim, Reading, identity
from tf_marl.ops import surrogate

_CLIP = 0.1  # epsilon, where a reading clips


def _surrogates_equal(epsilon: float) -> Callable[[Case], Claim]:
    def check(case: Case) -> Claim:
        mappo = case.objective(case.old.advantage[..., None], epsilon)
        return identity(case.objective(case.marginal_advantage, epsilon) - mappo)

    return check


def _clipped_mappo_below_ippo(case: Case) -> Claim:
    mappo = case.objective(case.old.advantage[..., None], _CLIP)
    return Claim(mappo, case.objective(case.marginal_advantage, _CLIP))


def _bootstrapped_surrogates_equal(case: Case) -> Claim:
    advantages = [exact.bootstrapped(case.mdp, case.old, case.old.visits, k)[1] for k in range(case.num_agents)]
    ippo = case.objective(exact.spread(case.mdp, advantages), np.inf)
    return identity(ippo - case.objective(case.old.advantage[..., None], np.inf))


def _first_order(case: Case) -> Claim:
    """Claims that the independent surrogates have the return's gradient at the old policy, [B, N, O, A]."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(case.old_policy)
        at = Case(Instances(case.mdp, case.old_policy, case.old_policy))
        eta = at.horizon * at.old.eta
        still = tf.stop_gradient(at.states[..., None] * at.old.policy)[..., None]
        terms = surrogate.clipped_surrogate(at.ratio, case.marginal_advantage, np.inf)
        objective = tf.reduce_sum(still * terms, axis=[1, 2, 3])
    return identity(tape.gradient(eta, case.old_policy) - tape.gradient(objective, case.old_policy))


def _central_q(case: Case) -> tf.Tensor:
    """Returns the old policy's action values, [B, S, J]."""
    return case.old.advantage + case.old.value[..., None]


def _central_step(case: Case, q: tf.Tensor) -> tf.Tensor:
    """Applies the centralised critic's TD operator, `r + gamma E[q(s', a')]`, to action values [B, S, J]."""
    later = tf.gather(tf.reduce_sum(case.old.policy * q, axis=2), case.mdp.successor, axis=1)
    gamma = case.mdp.gamma[:, None, None]
    return case.mdp.reward + gamma * tf.reduce_sum(case.mdp.probability * later, axis=-1)


def _central_fixed_point(case: Case) -> Claim:
    return identity(case.horizon[:, None, None] * (_central_step(case, _central_q(case)) - _central_q(case)))


def _contracts(case: Case) -> Claim:
    """Claims that TD brings any two tables of action values nearer by gamma, so its fixed point is unique, [B]."""
    tables = case.old.advantage, case.mdp.reward * case.old.policy
    before, after = (
        tf.reduce_max(tf.abs(first - second), axis=[1, 2])
        for first, second in (tables, [_central_step(case, table) for table in tables])
    )
    return Claim(after, case.mdp.gamma * before)


def _local_q(case: Case, td: bool) -> list[tf.Tensor]:
    """Returns what each agent's critic of its own action converges to, by TD or by regression, [B, O, A] each."""
    if td:
        found = [exact.bootstrapped(case.mdp, case.old, case.old.visits, k) for k in range(case.num_agents)]
        return [value[..., None] + advantage for value, advantage in found]
    mass = case.old.visits[..., None] * case.old.policy
    return [exact.marginal(case.mdp, mass, k, _central_q(case)) for k in range(case.num_agents)]


def _td_is_mean(case: Case) -> Claim:
    """Claims that TD on local states and own actions converges to the mean of the central Q, [B, N, O, A]."""
    td, mean = (tf.stack(_local_q(case, kind), axis=1) for kind in (True, False))
    return identity(case.horizon[:, None, None, None] * (td - mean))


def _regression_is_mean(case: Case) -> Claim:
    """Claims that the means of Q minimise the squared error to the returns: its gradient is 0, [B, N, O, A]."""
    weight = case.states[..., None] * case.old.policy
    errors = exact.spread(case.mdp, _local_q(case, False)) - _central_q(case)[..., None]
    gradients = [
        exact.marginal(case.mdp, weight, k, case.horizon[:, None, None] * errors[..., k])
        for k in range(case.num_agents)
    ]
    return identity(tf.stack(gradients, axis=1))


def _values_are_means(td: bool) -> Callable[[Case], Claim]:
    """Returns the check that `V_k(s_k) = E[V(s)]` given the local state, [B, N, O], for critics of states."""

    def check(case: Case) -> Claim:
        differences = []
        for k, local in enumerate(case.locals):
            value, _ = exact.bootstrapped(case.mdp, case.old, case.old.visits, k)
            policy = tf.nn.softmax(case.old_policy[:, k])
            mean = tf.reduce_sum(policy * _local_q(case, False)[k], axis=-1)
            differences.append(case.horizon[:, None] * ((value if td else mean) - local.value))
        return identity(tf.stack(differences, axis=1))

    return check


def _advantages_per_sample(case: Case) -> Claim:
    """Claims that an agent's advantage is the team's at every state and joint action, [B, S, J, N]."""
    return identity(case.horizon[:, None, None, None] * (case.marginal_advantage - case.old.advantage[..., None]))


def _advantage_mean(case: Case) -> Claim:
    """Claims that marginal advantages have mean 0.

        sum_a_k pi_k(a_k | o) A_k(o, a_k) = 0

    There is one claim for every agent and local state, [B, N, O].
    """
    policy = tf.nn.softmax(case.old_policy)
    advantage = tf.stack([local.advantage for local in case.locals], axis=1)
    return identity(tf.reduce_sum(policy * advantage, axis=-1))


def _marginal_return(case: Case) -> Claim:
    returns = [tf.reduce_sum(local.weight * local.reward, axis=1) for local in case.locals]
    return identity(case.horizon[:, None] * (tf.stack(returns, axis=1) - case.old.eta[:, None]))


def _local_flow(case: Case) -> Claim:
    """Claims that the visits of local states flow by the local transition kernel.

        rho_k(o') = rho_0(o') + gamma sum_o rho_k(o) P_k(o' | o)

    There is one claim for every agent and local state, [B, N, O].
    """
    differences = []
    for k, local in enumerate(case.locals):
        seen = tf.one_hot(case.mdp.observation[:, k], case.mdp.num_local_states, dtype=local.weight.dtype)
        arriving = case.mdp.gamma[:, None] * (local.weight[:, None] @ local.kernel)[:, 0]
        differences.append(case.horizon[:, None] * (local.weight - case.mdp.start @ seen - arriving))
    return identity(tf.stack(differences, axis=1))


def _local_bellman(case: Case) -> Claim:
    differences = []
    for local in case.locals:
        later = case.mdp.gamma[:, None] * (local.kernel @ local.value[..., None])[..., 0]
        differences.append(case.horizon[:, None] * (local.value - local.reward - later))
    return identity(tf.stack(differences, axis=1))


READINGS = (
    Reading("Proposition 4", "centralised: Q of the team is TD's fixed point", _central_fixed_point),
    Reading("Proposition 4", "centralised: TD contracts by gamma, so there is no other", _contracts),
    Reading(
        "Proposition 4",
        "decentralised, by TD: the mean of Q over what the agent does not see",
        _td_is_mean,
        SEES_ALL,
        "decentralised, by regression on returns: the mean of Q",
    ),
    Reading("Proposition 4", "decentralised, by regression on returns: the mean of Q", _regression_is_mean),
    Reading("Proposition 4", "marginal advantages have mean 0", _advantage_mean),
    Reading("Proposition 4", "marginal rewards and visits give the return", _marginal_return),
    Reading("Proposition 4", "marginal visits flow by the local kernel", _local_flow),
    Reading(
        "Proposition 4",
        "marginal values solve the local Bellman equation",
        _local_bellman,
        SEES_ALL,
        "decentralised, by regression on returns: the mean of Q",
    ),
    Reading("Section 6.3", "V(s_k) = E[V(s)], critics by regression", _values_are_means(False)),
    Reading(
        "Section 6.3",
        "V(s_k) = E[V(s)], critics by TD",
        _values_are_means(True),
        SEES_ALL,
        "V(s_k) = E[V(s)], critics by regression",
    ),
    Reading(
        "Section 6.3",
        "A_k(s_k, a_k) = A(s, a), sample by sample",
        _advantages_per_sample,
        ONE_AGENT,
        "unclipped surrogates equal, critics = marginals",
    ),
    Reading("Section 6.3", "unclipped surrogates equal, critics = marginals", _surrogates_equal(np.inf)),
    Reading(
        "Section 6.3",
        f"surrogates clipped at {_CLIP} equal, critics = marginals",
        _surrogates_equal(_CLIP),
        ONE_AGENT,
        f"clipped at {_CLIP}: MAPPO's <= IPPO's",
    ),
    Reading("Section 6.3", f"clipped at {_CLIP}: MAPPO's <= IPPO's", _clipped_mappo_below_ippo),
    Reading(
        "Section 6.3",
        "unclipped surrogates equal, critics by TD",
        _bootstrapped_surrogates_equal,
        SEES_ALL,
        "unclipped surrogates equal, critics = marginals",
    ),
    Reading("Section 6.3", "gradient at the old policy = the return's", _first_order),
)
