"""This module states Theorem 2 in all its readings, and the steps of its proof (appendix A.3.2).

    gain >= surrogate - 4 eps gamma / (1 - gamma)^2 alpha^2

The statement and its proof leave open, or define differently, what the surrogate, alpha and eps are. Every combination
is a reading of its own, in each of four kinds of Dec-MDPs: agents see the whole state or a local state each, and
rewards depend on state and joint action or on the state alone, as in the proof.

The proof takes advantages *in sequence*: agent k's counts the agents before k as acting by their new policies already.
Surrogates in sequence add up to the joint policy's surrogate, whatever the order of the agents.

Shapes: B instances, N agents, M = 2^(N-1) mixtures of old and new other agents (`exact.mixed_advantages`).
"""

import functools
import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_marl.dec_mdp import exact
from tf_marl.dec_mdp.statements.case import ALONE, ONE_AGENT, Case, Claim, Reading, Stratum, identity, once

Quantity = Callable[[Case], tf.Tensor]  # [B]
Fold = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # of what was so far and an agent's value, elementwise
Pick = Callable[[tf.Tensor], tf.Tensor]  # one of the last axis


def sum_tv(case: Case) -> tf.Tensor:
    """Returns the sum over agents of each one's largest total variation over states, [B]."""
    return tf.reduce_sum(case.agent_tv_max, axis=1)


def bound(
    alpha: Quantity,
    surrogate: Quantity = lambda case: case.joint_surrogate(case.states),
    advantage_max: Quantity = lambda case: case.advantage_max,
    more: Quantity = lambda case: tf.zeros_like(case.alpha),
) -> Callable[[Case], Claim]:
    """Returns the check of a lower bound on the gain, `gain >= surrogate - penalty - more`.

    The claim has the form `surrogate - gain <= penalty + more`, with [B] numbers on each side.

    Args:
        alpha: gives the total variation in the penalty, [B].
        surrogate: gives the surrogate objective, [B].
        advantage_max: gives the largest advantage in the penalty, eps, [B].
        more: gives what else is subtracted, [B].
    """

    def check(case: Case) -> Claim:
        penalty = case.penalty(alpha(case), advantage_max(case))
        return Claim(surrogate(case) - case.gain, penalty + more(case))

    return check


# In sequence


def _mixture(agent: int, new: int, num_agents: int) -> int:
    """Returns the index of a mixture of others, given a mask of the agents that are new, which lacks `agent`."""
    low = num_agents - 1 - agent  # bits of the agents after `agent`
    return (new >> (low + 1) << low) | (new & ((1 << low) - 1))


def in_order(values: tf.Tensor) -> tf.Tensor:
    """Selects what belongs to the agents in the order 1 to N, each after those before it: [B, N, M] -> [B, N]."""
    agents = values.shape[1]
    before = [_mixture(k, sum(1 << (agents - 1 - j) for j in range(k)), agents) for k in range(agents)]
    return tf.stack([values[:, k, mixture] for k, mixture in enumerate(before)], axis=1)


def over_orders(values: tf.Tensor, fold: Fold, pick: Pick) -> tf.Tensor:
    """Folds agents' values along an order of the agents and picks the best of all N! orders by dynamic programming.

    Args:
        values: a number for each agent and mixture of old and new others, [B, N, M].
        fold: puts the next agent's value to what the agents before it gave; starts from 0.
        pick: chooses among the last axis, `tf.reduce_max` or `tf.reduce_min` over it.

    Returns:
        The best order's result, [B].
    """
    batch, agents, mixtures = values.shape
    flat = tf.reshape(values, [batch, agents * mixtures])
    best, place = tf.zeros([batch, 1], values.dtype), {0: 0}  # of every set of agents of one size, as masks
    for size in range(1, agents + 1):
        masks = [sum(1 << j for j in chosen) for chosen in itertools.combinations(range(agents), size)]
        earlier, own = [], []
        for mask in masks:
            last = [k for k in range(agents) if mask >> (agents - 1 - k) & 1]
            without = [mask & ~(1 << (agents - 1 - k)) for k in last]
            earlier.append([place[rest] for rest in without])
            own.append([k * mixtures + _mixture(k, rest, agents) for k, rest in zip(last, without, strict=True)])
        folded = fold(tf.gather(best, np.array(earlier), axis=1), tf.gather(flat, np.array(own), axis=1))
        best, place = pick(folded), {mask: i for i, mask in enumerate(masks)}
    return best[:, 0]


_most = functools.partial(tf.reduce_max, axis=-1)
_least = functools.partial(tf.reduce_min, axis=-1)

# The grid

_JOINT, _OLD, _ORDER, _ANY = "joint", "others old", "in sequence", "in sequence, any order"
_SURROGATES: dict[str, Quantity] = {
    _JOINT: lambda case: case.joint_surrogate(case.states),
    _OLD: lambda case: case.independent_surrogate,
    _ORDER: once(lambda case: tf.reduce_sum(in_order(case.mixed_surrogate), axis=1)),
    _ANY: once(lambda case: over_orders(case.mixed_surrogate, tf.add, _most)),
}
_ALPHAS: dict[str, Quantity] = {
    "largest joint TV": lambda case: case.alpha,
    "sum_k largest TV_k": sum_tv,
    "both, as a product": lambda case: tf.sqrt(case.alpha * sum_tv(case)),  # alpha^2 is joint TV times sum
}
_LARGEST: dict[str, dict[str, Quantity]] = {  # by what is taken, and for which surrogate
    "joint": dict.fromkeys(_SURROGATES, lambda case: case.advantage_max),
    "others old": dict.fromkeys(_SURROGATES, lambda case: _most(case.mixed_advantage_max[:, :, 0])),
    "in sequence": dict.fromkeys(_SURROGATES, lambda case: _most(in_order(case.mixed_advantage_max)))
    | {_ANY: once(lambda case: over_orders(case.mixed_advantage_max, tf.maximum, _least))},
}


def _stratum(sees_all: bool, rewards_states: bool) -> Stratum:
    name = f"{'whole state' if sees_all else 'local states'}, r(s{'' if rewards_states else ', a'})"
    return Stratum(name, lambda case: (case.sees_all, case.rewards_states) == (sees_all, rewards_states))


STRATA = tuple(_stratum(*kind) for kind in itertools.product((True, False), repeat=2))
REPAIRED_EPS = "eps: one agent's, in sequence, at whole states; alpha^2: joint TV x largest sum of TV_k at a state"
REPAIRED_SURROGATE = "others old, less 4 max|A| sum_k TV_k TV_<k / (1 - gamma)"


def _grid() -> list[Reading]:
    readings = []
    for (surrogate, of), (alpha, tv), (eps, largest) in itertools.product(
        _SURROGATES.items(), _ALPHAS.items(), _LARGEST.items()
    ):
        name = f"surrogate: {surrogate}; alpha: {alpha}; eps: {eps}"
        check = bound(tv, of, largest[surrogate])
        repair = REPAIRED_SURROGATE if surrogate == _OLD else REPAIRED_EPS
        readings += [Reading("Theorem 2", name, check, None, repair, stratum) for stratum in STRATA]
    return readings


# As written, as practised, and repaired


def _literal(case: Case) -> Claim:
    """Claims the bound for every agent k, with the surrogate of k's local states under each agent's policy, [B, N].

    That makes sense where all agents have the same local states and actions, as they do here.
    """
    actions = tf.nn.softmax(case.new_policy)
    own = [tf.einsum("bkoa,boa->bko", actions[:, j : j + 1], case.locals[j].advantage) for j in range(case.num_agents)]
    weights = tf.stack([local.weight for local in case.locals], axis=1)  # [B, N, O]
    surrogates = case.horizon[:, None] * tf.reduce_sum(weights * tf.add_n(own), axis=-1)
    penalty = case.penalty(case.alpha, _most(case.mixed_advantage_max[:, :, 0]))
    return Claim(surrogates - case.gain[:, None], tf.broadcast_to(penalty[:, None], surrogates.shape))


def _literal_of_alike(case: Case) -> Claim:
    """Claims the same of agents that share one policy, as with shared weights, and nothing of others, [B, N]."""
    policies = case.old_policy, case.new_policy
    alike = tf.reduce_all([tf.reduce_all(policy == policy[:, :1], axis=[1, 2, 3]) for policy in policies], axis=0)
    lhs, rhs = _literal(case)
    return Claim(tf.where(alike[:, None], lhs, 0.0), rhs)


def _improves(surrogate: Quantity, alpha: Quantity) -> Callable[[Case], Claim]:
    """Returns the check that the return rises wherever the surrogate exceeds the penalty.

    The claim is that surrogate - penalty and the loss of return, -gain, are not both positive, [B].
    """

    def check(case: Case) -> Claim:
        both = tf.minimum(surrogate(case) - case.penalty(alpha(case)), -case.gain)
        return Claim(both, tf.zeros_like(both))

    return check


def _undiscounted_more(case: Case) -> tf.Tensor:
    """Computes what undiscounted states may change in the surrogate: 2 TV of the states times max_s |E_pi~ A|, [B]."""
    moved = tf.reduce_sum(tf.abs(case.rollout_states - case.states), axis=1)
    return moved * _most(tf.abs(_expected(case)))


def _expected(case: Case) -> tf.Tensor:
    """Returns the new policy's mean of the old advantage at every state, `sum_a pi~(a | s) A(s, a)`, [B, S]."""
    return tf.reduce_sum(case.new.policy * case.old.advantage, axis=2)


def _repaired_bound(case: Case) -> Claim:
    tv = _most(tf.reduce_sum(case.agent_tv, axis=-1))
    return bound(lambda case: tf.sqrt(case.alpha * tv), advantage_max=_largest_in_sequence)(case)


def _largest_in_sequence(case: Case) -> tf.Tensor:
    """Returns the largest advantage in sequence of one agent, order 1 to N, over whole states and actions, [B]."""
    largest = tf.reduce_max(tf.abs(case.mixed_advantage), axis=[1, 4])
    return _most(in_order(largest))


# Steps of the proof


def _sums_to_joint(surrogate: str) -> Callable[[Case], Claim]:
    return lambda case: identity(_SURROGATES[surrogate](case) - case.joint_surrogate(case.states))


def _first_factor(advantage_max: Quantity, tv: Quantity) -> Callable[[Case], Claim]:
    """Returns the check that `|sum_a (pi~ - pi) A| <= 2 TV max|A|` at the worst state, [B]."""
    return lambda case: Claim(_most(tf.abs(_expected(case))), 2.0 * tv(case) * advantage_max(case))


def _shift(summed: bool) -> Callable[[Case], Claim]:
    """Returns the check that `sum_s' |Delta(s' | s)|`, of the worst state or summed over s, is at most 2 alpha, [B]."""

    def check(case: Case) -> Claim:
        rows = tf.reduce_sum(tf.abs(exact.transition_shift(case.mdp, case.old_team, case.new_team)), axis=-1)
        return Claim(tf.reduce_sum(rows, axis=1) if summed else _most(rows), 2.0 * case.alpha)

    return check


_PROOF = "Theorem 2, its proof"
READINGS = (
    Reading(_PROOF, "surrogates in sequence add up to the joint one, order 1 to N", _sums_to_joint(_ORDER)),
    Reading(_PROOF, "surrogates in sequence add up to the joint one, every order", _sums_to_joint(_ANY)),
    Reading(
        _PROOF,
        "|sum_a (pi~ - pi) A| <= 2 joint TV max |A|",
        _first_factor(lambda case: case.advantage_max, lambda case: case.alpha),
    ),
    Reading(
        _PROOF,
        "|sum_a (pi~ - pi) A| <= 2 joint TV max |A_k| in sequence",
        _first_factor(_largest_in_sequence, lambda case: case.alpha),
        ONE_AGENT,
        "|sum_a (pi~ - pi) A| <= 2 sum_k TV_k max |A_k| in sequence",
    ),
    Reading(
        _PROOF,
        "|sum_a (pi~ - pi) A| <= 2 sum_k TV_k max |A_k| in sequence",
        _first_factor(_largest_in_sequence, sum_tv),
    ),
    Reading(
        _PROOF,
        "shift summed over both states: |Delta| <= 2 alpha",
        _shift(True),
        None,
        "shift of the worst state: |Delta| <= 2 alpha",
    ),
    Reading(_PROOF, "shift of the worst state: |Delta| <= 2 alpha", _shift(False)),
    *_grid(),
    Reading("Theorem 2", "literal: k's local states under agent k' 's policy", _literal, None, REPAIRED_SURROGATE),
    Reading("Theorem 2", "literal, all agents with one policy", _literal_of_alike, None, REPAIRED_SURROGATE),
    Reading(
        "Theorem 2",
        "joint surrogate; alpha = largest TV of one agent",
        bound(lambda case: _most(case.agent_tv_max)),
        ALONE,
        "surrogate: joint; alpha: largest joint TV; eps: joint",
    ),
    Reading(
        "Theorem 2",
        "joint surrogate over undiscounted states, as PPO takes them",
        bound(sum_tv, lambda case: case.joint_surrogate(case.rollout_states)),
        None,
        "joint surrogate over undiscounted states, less 2 TV of the states x max |E A|",
    ),
    Reading(
        "Theorem 2",
        "joint surrogate > penalty: the return rises",
        _improves(lambda case: case.joint_surrogate(case.states), sum_tv),
    ),
    Reading(
        "Theorem 2",
        "surrogates with others old > penalty: the return rises",
        _improves(lambda case: case.independent_surrogate, sum_tv),
        ALONE,
        "joint surrogate > penalty: the return rises",
    ),
    Reading("Repaired", REPAIRED_EPS, _repaired_bound),
    Reading(
        "Repaired",
        REPAIRED_SURROGATE,
        bound(lambda case: case.alpha, lambda case: case.independent_surrogate, more=lambda case: case.interaction),
    ),
    Reading(
        "Repaired",
        "joint surrogate over undiscounted states, less 2 TV of the states x max |E A|",
        bound(lambda case: case.alpha, lambda case: case.joint_surrogate(case.rollout_states), more=_undiscounted_more),
    ),
)
