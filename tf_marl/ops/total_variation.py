"""Total variation (TV) between the old and the new team policy measures the size of the trust region.

    TV(p, q) = 1/2 sum_a |p(a) - q(a)| = sum_a max(0, p(a) - q(a)) = E_p[max(0, 1 - q(a) / p(a))]

The joint policy is the product of the agents' own policies, so quantities that are cheap to compute bound its TV:

    max_k TV_k <= joint TV <= 1 - prod_k (1 - TV_k) <= sum_k TV_k

The sum bound is Proposition 2 of the paper "Monotonic Improvement Guarantees under Non-stationarity for Decentralized
PPO". It can reach N, although a TV is never above 1. The product bound is tighter and never above 1. It holds because a
coupling of each agent's old and new action can make them agree with probability 1 - TV_k. With independent couplings
all agents agree with probability prod_k (1 - TV_k).

Both grow like N where all agents change alike. The joint TV itself grows like sqrt(N), and so do bounds by divergences
that add up or multiply over independent agents:

    1 - prod_k BC_k <= joint TV <= sqrt(1 - prod_k BC_k^2),   BC_k = sum_a sqrt(p_k(a) q_k(a))     Le Cam 1986
    joint TV <= sqrt(1/2 sum_k KL(p_k || q_k))                                                     Pinsker

BC is the Bhattacharyya coefficient, 1 minus the squared Hellinger distance. With few agents the product bound is the
smallest, with many the Hellinger bound; `joint_tv_upper_bound` is the smallest of all at each state.

Every function takes the team's TFP distributions or masked logits [..., N, A]. A dead agent has one available action,
so its TV is 0 and it does not change any of these quantities.
"""

import math
from typing import NamedTuple, TypeAlias

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tf_marl.ops import categorical

Team: TypeAlias = tf.Tensor | tfd.Distribution

TABLE_SIZE = 2**20  # entries of one table; it bounds the memory: about a dozen tables at a time, 8 bytes an entry
_LARGEST_HALF = 2**26  # joint actions of half a team; tables of more do not fit in memory


class JointTV(NamedTuple):
    """Holds the total variation of a joint policy at each state; every field is a tensor [...]."""

    value: tf.Tensor
    standard_error: tf.Tensor  # of the Monte Carlo estimate, 0 where the value is exact
    exact: tf.Tensor  # bool: computed exactly; elsewhere estimated by Monte Carlo


def _logits(team: Team) -> tf.Tensor:
    """Returns the logits [..., N, A] of a team's agents: log-probabilities up to a constant."""
    if isinstance(team, tfd.Distribution):
        return categorical.agent_distribution(team).logits_parameter()
    return tf.convert_to_tensor(team)


def agent_tv(old: Team, new: Team) -> tf.Tensor:
    """Computes the exact total variation of each agent's own policy.

    Args:
        old: team distribution or masked logits [..., N, A].
        new: team distribution or masked logits [..., N, A].
    Returns:
        TV_k, [..., N], in [0, 1].
    """
    return 0.5 * tf.reduce_sum(tf.abs(tf.nn.softmax(_logits(new)) - tf.nn.softmax(_logits(old))), axis=-1)


def joint_tv_lower_bound(old: Team, new: Team) -> tf.Tensor:
    """Computes the lower bound max_k TV_k on the total variation of the joint policy.

    Args:
        old: team distribution or masked logits [..., N, A].
        new: team distribution or masked logits [..., N, A].
    Returns:
        The bound, [...], in [0, 1].
    """
    return tf.reduce_max(agent_tv(old, new), axis=-1)


def joint_tv_sum_bound(old: Team, new: Team) -> tf.Tensor:
    """Computes the upper bound sum_k TV_k on the total variation of the joint policy (Proposition 2 of the paper).

    Args:
        old: team distribution or masked logits [..., N, A].
        new: team distribution or masked logits [..., N, A].
    Returns:
        The bound, [...], in [0, N].
    """
    return tf.reduce_sum(agent_tv(old, new), axis=-1)


def joint_tv_product_bound(old: Team, new: Team) -> tf.Tensor:
    """Computes the upper bound 1 - prod_k (1 - TV_k) on the total variation of the joint policy.

    It is at most as large as the sum bound sum_k TV_k.

    Args:
        old: team distribution or masked logits [..., N, A].
        new: team distribution or masked logits [..., N, A].
    Returns:
        The bound, [...], in [0, 1].
    """
    return product_bound(agent_tv(old, new))


def product_bound(tv: tf.Tensor) -> tf.Tensor:
    """Computes 1 - prod_k (1 - TV_k), without cancellation where the TV_k are small.

    Args:
        tv: [..., N], total variation of each agent.
    Returns:
        The bound on the joint total variation, [...], in [0, 1].
    """
    return -tf.math.expm1(tf.reduce_sum(tf.math.log1p(-tf.minimum(tv, 1.0)), axis=-1))


class Bounds(NamedTuple):
    """Holds a lower and an upper bound on the total variation of a joint policy; both are tensors [...]."""

    lower: tf.Tensor
    upper: tf.Tensor


def joint_tv_hellinger_bounds(old: Team, new: Team) -> Bounds:
    """Computes bounds on the total variation of the joint policy from the agents' squared Hellinger distances.

        1 - prod_k BC_k <= joint TV <= sqrt(1 - prod_k BC_k^2),   BC_k = sum_a sqrt(p_k(a) q_k(a)) = 1 - H_k^2

    The coefficient of a product of policies is the product of their coefficients (Le Cam 1986). Where all agents change
    alike and a little, the upper bound grows like sqrt(N) and the sum bound like N. The coefficients are computed from
    H_k^2 = 1/2 sum_a (sqrt(p_k) - sqrt(q_k))^2, so that small changes do not cancel.

    Args:
        old: team distribution or masked logits [..., N, A].
        new: team distribution or masked logits [..., N, A].
    Returns:
        The bounds, [...] each, in [0, 1].
    """
    roots = [tf.exp(0.5 * tf.nn.log_softmax(_logits(team))) for team in (old, new)]
    squared_distance = 0.5 * tf.reduce_sum(tf.math.squared_difference(*roots), axis=-1)
    log_coefficient = tf.reduce_sum(tf.math.log1p(-tf.minimum(squared_distance, 1.0)), axis=-1)
    return Bounds(-tf.math.expm1(log_coefficient), tf.sqrt(-tf.math.expm1(2.0 * log_coefficient)))


def joint_tv_pinsker_bound(old: Team, new: Team) -> tf.Tensor:
    """Computes Pinsker's upper bound sqrt(1/2 sum_k KL(old_k || new_k)) on the total variation of the joint policy.

    The KL divergence of a product of policies is the sum of their divergences. PPO implementations record the mean KL,
    so this is the bound that can be read off their logs, up to the mean.

    Args:
        old: team distribution or masked logits [..., N, A].
        new: team distribution or masked logits [..., N, A].
    Returns:
        The bound, [...], in [0, 1]; 1 where an agent's new policy never takes an action that its old policy takes.
    """
    old_log_prob, new_log_prob = (tf.nn.log_softmax(_logits(team)) for team in (old, new))
    p, q = tf.exp(old_log_prob), tf.exp(new_log_prob)
    # KL = sum_a (q - p - p d) with d = log(q / p): no term is negative, so no two of them cancel. For a small d a term
    # is the rest of exp's series, p (exp(d) - 1 - d).
    d = new_log_prob - old_log_prob
    series = p * tf.square(d) / 2.0 * (1.0 + d / 3.0 * (1.0 + d / 4.0 * (1.0 + d / 5.0)))
    terms = tf.where(tf.abs(d) < 0.1, series, q - p - tf.math.multiply_no_nan(d, p))
    return tf.minimum(tf.sqrt(0.5 * tf.reduce_sum(terms, axis=[-2, -1])), 1.0)


def joint_tv_upper_bound(old: Team, new: Team) -> tf.Tensor:
    """Computes the smallest upper bound on the total variation of the joint policy that is known without its table.

    It is the smallest, at each state, of the product bound, the Hellinger bound and Pinsker's.

    Args:
        old: team distribution or masked logits [..., N, A].
        new: team distribution or masked logits [..., N, A].
    Returns:
        The bound, [...], in [0, 1].
    """
    bounds = (
        joint_tv_product_bound(old, new),
        joint_tv_hellinger_bounds(old, new).upper,
        joint_tv_pinsker_bound(old, new),
    )
    return tf.reduce_min(tf.stack(bounds), axis=0)


def joint_tv_bound_of_ratios(epsilon: tf.Tensor, num_agents: tf.Tensor) -> tf.Tensor:
    """Computes how large the joint policy's total variation can be if all ratios are in [1 - epsilon, 1 + epsilon].

        joint TV <= min( 1/2 sqrt((1 + epsilon^2)^N - 1),  1 - (1 - epsilon / 2)^N )

    The range holds for all actions of every agent. The first bound: E_old[(ratio_k - 1)^2] <= epsilon^2, agents are
    independent and their ratios have mean 1, so E_old[(joint ratio - 1)^2] <= (1 + epsilon^2)^N - 1, and the joint TV
    is 1/2 E_old|joint ratio - 1|. The second is the product bound, as TV_k = 1/2 E_old|ratio_k - 1| <= epsilon / 2.

    Args:
        epsilon: [...], half-width of the ratios' range, dimensionless.
        num_agents: [...] or scalar, N, in the dtype of `epsilon`.
    Returns:
        The bound, [...], in [0, 1].
    """
    by_moments = 0.5 * tf.sqrt(tf.math.expm1(num_agents * tf.math.log1p(tf.square(epsilon))))
    by_coupling = -tf.math.expm1(num_agents * tf.math.log1p(-tf.minimum(0.5 * epsilon, 1.0)))
    return tf.minimum(by_moments, by_coupling)


def joint_tv_exact(old: Team, new: Team) -> tf.Tensor:
    """Computes the exact total variation of the joint policy.

    The sum runs over all joint actions, but they are not enumerated one by one. The team is split into two halves with
    joint actions a and b. The b are sorted by their ratio q(b) / p(b). For each a, the b with q(b) / p(b) < p(a) / q(a)
    are the ones that contribute, and cumulative sums give their probabilities P(a) under the old and Q(a) under the new
    policy:

        sum_ab max(0, p(a) p(b) - q(a) q(b)) = sum_a (p(a) P(a) - q(a) Q(a)),   P(a) = sum of p(b) over those b

    So time and memory grow with the square root of the number of joint actions: ten agents with six actions each have
    60 million, and each half has 7,776. Actions that the old policy never takes contribute nothing and are left out.
    States with similar numbers of joint actions are processed together in batches. The computation is in float64.

    Args:
        old: team distribution or masked logits [..., N, A].
        new: team distribution or masked logits [..., N, A].
    Returns:
        The joint total variation, [...], in [0, 1], in the dtype of the logits.
    Raises:
        tf.errors.InvalidArgumentError: half a team has more than 2^26 joint actions at some state.
    """
    p, q, counts = _support(old, new)
    # The agents are sorted by their number of actions; taking every second one makes halves of similar size.
    halves = [(p[:, i::2], q[:, i::2], counts[:, i::2]) for i in range(2)]
    size = _larger_half(counts)
    fits = tf.debugging.assert_less_equal(
        size, tf.cast(_LARGEST_HALF, size.dtype), "joint_tv_exact: too many joint actions; use joint_tv_monte_carlo"
    )
    with tf.control_dependencies([fits]):  # otherwise a graph may build the tables before the check
        order = tf.argsort(size, direction="DESCENDING")

    def too_large(states: tf.Tensor) -> tf.Tensor:
        num_states = tf.shape(states)[0]
        table = tf.cast(num_states, size.dtype) * _larger_half(tf.reduce_max(tf.gather(counts, states), axis=0))
        return (table > TABLE_SIZE) & (num_states > 1)

    def batch(start: tf.Tensor, joint_tv: tf.Tensor):
        most = tf.maximum(1, tf.cast(TABLE_SIZE / size[order[start]], tf.int32))
        # A table is as wide as the largest count of each agent. States of equal size whose agents differ in their
        # counts make it wider than that size, so the batch is halved until the table fits.
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
    """Estimates the total variation of the joint policy from sampled joint actions of the old policy.

        joint TV = E_old[max(0, 1 - joint ratio)]

    Each sample lies in [0, 1]. The equal expectation `1/2 E_old|joint ratio - 1|` would have heavy tails.

    Args:
        old: team distribution or masked logits [..., N, A].
        new: team distribution or masked logits [..., N, A].
        num_samples: joint actions sampled at each state, at least 2.
        seed: [2] int32.
    Returns:
        The unbiased estimate, [...], and its standard error, [...].
    """
    old_log_prob, new_log_prob = (tf.nn.log_softmax(leaf) for leaf in _both(old, new))
    num_agents, num_actions = old_log_prob.shape[-2:]
    old_log_prob = tf.reshape(old_log_prob, [-1, num_actions])
    log_ratio = tf.reshape(new_log_prob, [-1, num_actions]) - old_log_prob
    cumulative = tf.cumsum(tf.exp(old_log_prob), axis=-1)
    rows = tf.shape(log_ratio)[0]
    per_turn = tf.clip_by_value(TABLE_SIZE // tf.maximum(rows, 1), 1, num_samples)

    def turn(i: tf.Tensor, total: tf.Tensor, total_of_squares: tf.Tensor):
        turn_seed = tf.random.experimental.stateless_fold_in(seed, i)
        # One uniform number per action, looked up in the distribution function; `tf.random.stateless_categorical` draws
        # a number for each possible action.
        uniform = tf.random.stateless_uniform([rows, per_turn], turn_seed, dtype=old_log_prob.dtype)
        action = tf.searchsorted(cumulative, uniform * cumulative[:, -1:], side="right")
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
    """Computes the joint policy's total variation: exactly where there are few joint actions, else by Monte Carlo.

    Args:
        old: team distribution or masked logits [..., N, A].
        new: team distribution or masked logits [..., N, A].
        max_joint_actions: a state is computed exactly if the old policy takes at most this many joint actions there.
        num_samples: joint actions sampled at each of the other states, at least 2.
        seed: [2] int32, for the samples.
    Returns:
        A `JointTV` of tensors [...].
    Raises:
        tf.errors.InvalidArgumentError: `max_joint_actions` admits a state where half a team has more than 2^26 joint
            actions.
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
    """Returns the logits of both teams, broadcast to one shape [..., N, A]."""
    old, new = _logits(old), _logits(new)
    shape = tf.broadcast_dynamic_shape(tf.shape(old), tf.shape(new))
    static = tf.broadcast_static_shape(old.shape, new.shape)
    return tuple(tf.ensure_shape(tf.broadcast_to(leaf, shape), static) for leaf in (old, new))


def _support(old: Team, new: Team) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns both policies' probabilities, sorted so that the actions in use come first.

    The actions of each agent are in descending order of their old probability; the agents are in descending order of
    their number of actions.

    Returns:
        Old and new probabilities, [S, N, A] each in float64, of S states; and counts [S, N] int32, how many actions of
        each agent the old policy takes with a probability above 0.
    """
    p, q = (tf.nn.softmax(tf.cast(leaf, tf.float64)) for leaf in _both(old, new))
    p, q = (tf.reshape(leaf, [-1, *leaf.shape[-2:]]) for leaf in (p, q))
    by_probability = tf.argsort(p, direction="DESCENDING")
    p, q = (tf.gather(leaf, by_probability, batch_dims=2) for leaf in (p, q))
    counts = tf.math.count_nonzero(p > 0, axis=-1, dtype=tf.int32)
    by_count = tf.argsort(counts, direction="DESCENDING")
    return tuple(tf.gather(leaf, by_count, batch_dims=1) for leaf in (p, q, counts))


def _larger_half(counts: tf.Tensor) -> tf.Tensor:
    """Computes how many joint actions the larger half of a team has.

    Args:
        counts: [..., N] int32, actions of each agent.
    Returns:
        The number of joint actions, [...] float64.
    """
    halves = [tf.reduce_prod(tf.cast(counts[..., i::2], tf.float64), axis=-1) for i in range(2)]
    return tf.reduce_max(halves, axis=0)


def joint_probabilities(p: tf.Tensor, q: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the probabilities of all J joint actions of some agents, under the old and the new policy.

    J is the product over the agents of their largest number of actions at any of the states. Where an agent has fewer
    actions at a state, the surplus joint actions have probability 0 in both results.

    Args:
        p: [S, N, A] float64, old probabilities at S states; each agent's actions are in descending order of
            probability.
        q: [S, N, A] float64, new probabilities of the same actions.
        counts: [S, N] int32, how many actions of each agent have an old probability above 0.
    Returns:
        Old and new probabilities of the joint actions, [S, J] each.
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
    """Reshapes [S] to [...], the batch shape of the teams, and casts to `dtype` or else to the dtype of the logits."""
    logits, _ = _both(old, new)
    return tf.ensure_shape(tf.reshape(tf.cast(x, dtype or logits.dtype), tf.shape(logits)[:-2]), logits.shape[:-2])
