"""This module states Section 6.3 and Proposition 4: what values and advantages of single agents mean for the team.

IPPO's critics are taken as converged: each gives the mean of the team's values over what its agent does not see.
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
    Reading("Section 6.3", "unclipped surrogates equal, critics = marginals", _surrogates_equal(np.inf)),
    Reading(
        "Section 6.3", f"surrogates clipped at {_CLIP} equal, critics = marginals", _surrogates_equal(_CLIP), ONE_AGENT
    ),
    Reading("Section 6.3", f"clipped at {_CLIP}: MAPPO's <= IPPO's (ours)", _clipped_mappo_below_ippo),
    Reading(
        "Section 6.3",
        "unclipped surrogates equal, IPPO's critic = its own Bellman fixed point",
        _bootstrapped_surrogates_equal,
        SEES_ALL,
    ),
    Reading("Section 6.3", "gradient at the old policy = the return's", _first_order),
    Reading("Proposition 4", "marginal advantages have mean 0", _advantage_mean),
    Reading("Proposition 4", "marginal rewards and visits give the return", _marginal_return),
    Reading("Proposition 4", "marginal visits flow by the local kernel", _local_flow),
    Reading("Proposition 4", "marginal values solve the local Bellman equation", _local_bellman, SEES_ALL),
)
