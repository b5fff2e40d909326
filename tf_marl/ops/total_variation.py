"""Total variation between an old and a new team policy: the size of the trust region.

    TV(p, q) = 1/2 sum_a |p(a) - q(a)| = sum_a max(0, p(a) - q(a)) = E_p[max(0, 1 - q(a) / p(a))]

The joint policy is the product of the agents' own, so its total variation lies between quantities that are cheap:

    max_k TV_k <= joint TV <= 1 - prod_k (1 - TV_k) <= sum_k TV_k

The sum is the paper's (Proposition 2); it reaches N, where a total variation never passes 1. The product is tighter and
does not: agents that couple their old and new actions as well as each can, agree all at once with probability
prod_k (1 - TV_k).

Every function takes the team's TFP distributions or its masked logits [..., N, A]. A dead agent has one action left,
so its total variation is 0 and it drops out by itself: N is the number of the living.
"""

import math
from typing import NamedTuple, TypeAlias

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tf_marl.ops import categorical

Team: TypeAlias = tf.Tensor | tfd.Distribution

TABLE_SIZE = 2**20  # numbers worked on at a time, which bounds the memory: a dozen tables of them, 8 bytes each
_LARGEST_HALF = 2**26  # joint actions of half a team; more fit no memory


class JointTV(NamedTuple):
    """A joint policy's total variation at each state, [...] each."""

    value: tf.Tensor
    standard_error: tf.Tensor  # 0 where exact
    exact: tf.Tensor  # bool; else Monte Carlo


def _logits(team: Team) -> tf.Tensor:
    """[..., N, A] of a team's agents, as log-probabilities up to a constant."""
    if isinstance(team, tfd.Distribution):
        return categorical.agent_distribution(team).logits_parameter()
    return tf.convert_to_tensor(team)


def agent_tv(old: Team, new: Team) -> tf.Tensor:
    """Total variation of each agent's own policy, exact: [..., N], in [0, 1]."""
    return 0.5 * tf.reduce_sum(tf.abs(tf.nn.softmax(_logits(new)) - tf.nn.softmax(_logits(old))), axis=-1)


def joint_tv_lower_bound(old: Team, new: Team) -> tf.Tensor:
    """Lower bound on the joint policy's total variation, max_k TV_k: [...], in [0, 1]."""
    return tf.reduce_max(agent_tv(old, new), axis=-1)


def joint_tv_sum_bound(old: Team, new: Team) -> tf.Tensor:
    """Upper bound on the joint policy's total variation, sum_k TV_k: [...], in [0, N] (the paper's Proposition 2)."""
    return tf.reduce_sum(agent_tv(old, new), axis=-1)


def joint_tv_product_bound(old: Team, new: Team) -> tf.Tensor:
    """The tighter upper bound 1 - prod_k (1 - TV_k): [...], in [0, 1]."""
    return product_bound(agent_tv(old, new))


def product_bound(tv: tf.Tensor) -> tf.Tensor:
    """1 - prod_k (1 - TV_k), without cancellation where they are small. Args: tv [..., N]. Returns: [...]."""
    return -tf.math.expm1(tf.reduce_sum(tf.math.log1p(-tf.minimum(tv, 1.0)), axis=-1))


def joint_tv_exact(old: Team, new: Team) -> tf.Tensor:
    """Total variation of the joint policy, exact: [...], in [0, 1].

    It sums over all joint actions without making each: the team is split in two halves, the joint actions a and b of
    either are made, and b sorted by the ratio q(b) / p(b). With each a, those b count that come before p(a) / q(a):

        sum_ab max(0, p(a) p(b) - q(a) q(b)) = sum_a (p(a) P(a) - q(a) Q(a)),   P(a) = sum of p(b) over those b

    so that time and memory grow with the root of the number of joint actions: ten agents with six actions each have 60
    million, and halves of 7,776. Actions that the old policy never takes contribute nothing and are left out. States
    are taken in batches of like size. Computed in float64.

    Raises:
        tf.errors.InvalidArgumentError: half a team has more than 2^26 joint actions.
    """
    p, q, counts = _support(old, new)
    # Large and small in turn, so that the halves are alike.
    halves = [(p[:, i::2], q[:, i::2], counts[:, i::2]) for i in range(2)]
    size = _larger_half(counts)
    fits = tf.debugging.assert_less_equal(
        size, tf.cast(_LARGEST_HALF, size.dtype), "joint_tv_exact: too many joint actions; use joint_tv_monte_carlo"
    )
    with tf.control_dependencies([fits]):  # else a graph makes the tables meanwhile
        order = tf.argsort(size, direction="DESCENDING")

    def too_large(states: tf.Tensor) -> tf.Tensor:
        num_states = tf.shape(states)[0]
        table = tf.cast(num_states, size.dtype) * _larger_half(tf.reduce_max(tf.gather(counts, states), axis=0))
        return (table > TABLE_SIZE) & (num_states > 1)

    def batch(start: tf.Tensor, joint_tv: tf.Tensor):
        most = tf.maximum(1, tf.cast(TABLE_SIZE / size[order[start]], tf.int32))
        # Fewer, where states of like size owe it to other agents and would fill each other's tables up.
        (states,) = tf.while_loop(
            too_large, lambda states: (states[: (tf.shape(states)[0] + 1) // 2],), (order[start : start + most],)
        )
        (p1, q1), (p2, q2) = (joint_probabilities(*(tf.gather(leaf, states) for leaf in half)) for half in halves)
        by_ratio = tf.argsort(tf.where(p2 > 0, q2 / p2, math.inf))
        p2, q2 = (tf.gather(leaf, by_ratio, batch_dims=1) for leaf in (p2, q2))
        before = tf.searchsorted(tf.where(p2 > 0, q2 / p2, math.inf), tf.where(q1 > 0, p1 / q1, math.inf))
        p_before, q_before = (
            tf.gather(tf.pad(tf.cumsum(leaf, axis=1), [[0, 0], [1, 0]]), before, batch_dims=1) for leaf in (p2, q2)
        )
        tv = tf.reduce_sum(p1 * p_before - q1 * q_before, axis=1)
        return start + tf.shape(states)[0], tf.tensor_scatter_nd_update(joint_tv, states[:, None], tv)

    num_states = tf.shape(size)[0]
    _, joint_tv = tf.while_loop(
        lambda start, _: start < num_states, batch, (0, tf.zeros_like(size)), parallel_iterations=1
    )
    return _per_state(tf.clip_by_value(joint_tv, 0.0, 1.0), old, new)


def joint_tv_monte_carlo(old: Team, new: Team, num_samples: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Total variation of the joint policy from joint actions of the old one: E_old[max(0, 1 - joint ratio)].

    That is bounded in [0, 1], where 1/2 E_old|joint ratio - 1|, which has the same mean, has heavy tails.

    Args:
        old, new: the team's.
        num_samples: at each state, at least 2.
        seed: [2] int32.
    Returns:
        The estimate, [...], unbiased, and its standard error, [...].
    """
    old_log_prob, new_log_prob = (tf.nn.log_softmax(leaf) for leaf in _both(old, new))
    num_agents, num_actions = old_log_prob.shape[-2:]
    old_log_prob = tf.reshape(old_log_prob, [-1, num_actions])
    log_ratio = tf.reshape(new_log_prob, [-1, num_actions]) - old_log_prob
    rows = tf.shape(log_ratio)[0]
    per_turn = tf.clip_by_value(TABLE_SIZE // tf.maximum(rows, 1), 1, num_samples)

    def turn(i: tf.Tensor, total: tf.Tensor, total_of_squares: tf.Tensor):
        turn_seed = tf.random.experimental.stateless_fold_in(seed, i)
        action = tf.random.stateless_categorical(old_log_prob, per_turn, turn_seed, dtype=tf.int32)
        joint_log_ratio = tf.gather(log_ratio, action, batch_dims=1)
        joint_log_ratio = tf.reshape(joint_log_ratio, [tf.shape(total)[0], num_agents, per_turn])
        loss = tf.maximum(0.0, -tf.math.expm1(tf.reduce_sum(joint_log_ratio, axis=1)))
        loss = tf.where(i * per_turn + tf.range(per_turn) < num_samples, loss, 0.0)
        return i + 1, total + tf.reduce_sum(loss, axis=1), total_of_squares + tf.reduce_sum(tf.square(loss), axis=1)

    zeros = tf.zeros([rows // num_agents], old_log_prob.dtype)
    _, total, total_of_squares = tf.while_loop(
        lambda i, *_: i * per_turn < num_samples, turn, (0, zeros, zeros), parallel_iterations=1
    )
    mean = total / num_samples
    variance = tf.maximum(total_of_squares / num_samples - tf.square(mean), 0.0) / (num_samples - 1)
    return _per_state(mean, old, new), _per_state(tf.sqrt(variance), old, new)


def joint_tv(
    old: Team,
    new: Team,
    max_joint_actions: float = 2**22,
    num_samples: int = 1024,
    seed: tf.Tensor | tuple[int, int] = (0, 0),
) -> JointTV:
    """Total variation of the joint policy: exact at states with few joint actions, Monte Carlo at the others.

    Args:
        old, new: the team's.
        max_joint_actions: that the old policy may take, up to which it is computed exactly.
        num_samples, seed: for the others, as for `joint_tv_monte_carlo`.
    """
    old, new = _both(old, new)
    _, _, counts = _support(old, new)
    exact = tf.reduce_prod(tf.cast(counts, tf.float64), axis=-1) <= max_joint_actions
    num_agents, num_actions = old.shape[-2:]
    teams = [tf.reshape(leaf, [-1, num_agents, num_actions]) for leaf in (old, new)]
    few, many = (tf.where(mask)[:, 0] for mask in (exact, ~exact))
    value = joint_tv_exact(*(tf.gather(team, few) for team in teams))
    estimate, error = joint_tv_monte_carlo(tf.gather(teams[0], many), tf.gather(teams[1], many), num_samples, seed)
    order = tf.argsort(tf.concat([few, many], axis=0))
    return JointTV(
        _per_state(tf.gather(tf.concat([value, estimate], axis=0), order), old, new),
        _per_state(tf.gather(tf.concat([tf.zeros_like(value), error], axis=0), order), old, new),
        _per_state(exact, old, new, exact.dtype),
    )


def _both(old: Team, new: Team) -> tuple[tf.Tensor, tf.Tensor]:
    """The logits of either, [..., N, A]."""
    old, new = _logits(old), _logits(new)
    shape = tf.broadcast_dynamic_shape(tf.shape(old), tf.shape(new))
    static = tf.broadcast_static_shape(old.shape, new.shape)
    return tuple(tf.ensure_shape(tf.broadcast_to(leaf, shape), static) for leaf in (old, new))


def _support(old: Team, new: Team) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Probabilities [S, N, A] of S states in float64, and the number of actions [S, N] that the old policy may take.

    Those actions come first; the agents with most of them come first.
    """
    p, q = (tf.nn.softmax(tf.cast(leaf, tf.float64)) for leaf in _both(old, new))
    p, q = (tf.reshape(leaf, [-1, *leaf.shape[-2:]]) for leaf in (p, q))
    by_probability = tf.argsort(p, direction="DESCENDING")
    p, q = (tf.gather(leaf, by_probability, batch_dims=2) for leaf in (p, q))
    counts = tf.math.count_nonzero(p > 0, axis=-1, dtype=tf.int32)
    by_count = tf.argsort(counts, direction="DESCENDING")
    return tuple(tf.gather(leaf, by_count, batch_dims=1) for leaf in (p, q, counts))


def _larger_half(counts: tf.Tensor) -> tf.Tensor:
    """Joint actions of the larger half of a team, float64. Args: counts [..., N], of actions. Returns: [...]."""
    halves = [tf.reduce_prod(tf.cast(counts[..., i::2], tf.float64), axis=-1) for i in range(2)]
    return tf.reduce_max(halves, axis=0)


def joint_probabilities(p: tf.Tensor, q: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """[S, J] each, of the joint actions of some agents; where an agent has fewer actions than at other states, 0.

    Args: p, q [S, N, A] and counts [S, N], as of `_support`.
    """
    num_states = tf.shape(p)[0]
    joint_p = joint_q = tf.ones([num_states, 1], p.dtype)
    for agent in range(p.shape[1]):
        num_actions = tf.reduce_max(counts[:, agent])
        joint_p, joint_q = (
            tf.reshape(joint[:, :, None] * leaf[:, None, agent, :num_actions], [num_states, -1])
            for joint, leaf in ((joint_p, p), (joint_q, q))
        )
    return joint_p, tf.where(joint_p > 0, joint_q, 0.0)


def _per_state(x: tf.Tensor, old: Team, new: Team, dtype: tf.DType | None = None) -> tf.Tensor:
    """[S] -> [...], in the dtype of the logits if none is given."""
    logits, _ = _both(old, new)
    return tf.ensure_shape(tf.reshape(tf.cast(x, dtype or logits.dtype), tf.shape(logits)[:-2]), logits.shape[:-2])
