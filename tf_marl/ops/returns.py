"""Generalised advantage estimation weighs how much better than expected the actions of a rollout turned out.

`discount` is 0 only where the task itself ended, so nothing is bootstrapped past that point. At a time limit the task
did not end: `discount` stays 1, and the value of the true last observation stands for the rewards that would have
followed. As in TF-Agents, that last observation has a row of its own, the boundary between two episodes, at which the
action is ignored. The row before the boundary bootstraps from its value. Nothing is learned from the boundary row
itself.
"""

import tensorflow as tf


def gae(
    reward: tf.Tensor,
    discount: tf.Tensor,
    value: tf.Tensor,
    bootstrap_value: tf.Tensor,
    gamma: float,
    lambda_: float,
    boundary: tf.Tensor | None = None,
    trace: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes generalised advantage estimates.

        delta_t = r_t + gamma d_t V(s_t+1) - V(s_t)             Schulman et al. 2016, eq. 16
        A_t = delta_t + gamma lambda d_t c_t+1 A_t+1,   A_T = 0, and A_t = 0 at boundaries

    The weights c of the trace are 1 in plain GAE. If a row's actions are less probable under a policy of interest than
    under the one that acted, a weight below 1 lets what came of them count for less, as in V-trace.

    Args:
        reward: [B, T], of the transition from row t.
        discount: [B, T], 0 where that transition ended the task, else 1.
        value: [B, T, ...], the critic's values; the agents of a trailing axis share reward and discount.
        bootstrap_value: [B, ...], value of the observation after the last row.
        gamma: discount factor per env step.
        lambda_: trace decay per env step.
        boundary: [B, T] bool, True at rows that hold the last observation of an episode; None means there are none.
        trace: [B, T], the weights c_t, shared by the agents; None means 1.
    Returns:
        Advantages, shaped like `value`. The returns to train a critic on are advantage + value.
    """
    if boundary is None:
        boundary = tf.zeros_like(discount, tf.bool)

    def time_first(x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(x, [1, 0, *range(2, len(x.shape))])

    def per_value(x: tf.Tensor) -> tf.Tensor:
        """Transposes [B, T] to [T, B, 1, ...], to broadcast against the values."""
        x = time_first(x)
        return tf.reshape(x, tf.concat([tf.shape(x), tf.ones([len(value.shape) - 2], tf.int32)], axis=0))

    values = time_first(value)
    next_value = tf.concat([values[1:], bootstrap_value[None]], axis=0)
    within = per_value(tf.cast(~boundary, value.dtype))
    decay = gamma * per_value(discount)
    delta = within * (per_value(reward) + decay * next_value - values)
    carry = within * decay * lambda_
    if trace is not None:  # that of the last row is not used, because nothing comes after it
        carry *= per_value(tf.concat([trace[:, 1:], tf.ones_like(trace[:, :1])], axis=1))
    advantage = tf.scan(
        lambda later, row: row[0] + row[1] * later,
        (delta, carry),
        initializer=tf.zeros_like(bootstrap_value),
        reverse=True,
    )
    return time_first(advantage)


def n_step(
    reward: tf.Tensor,
    discount: tf.Tensor,
    value: tf.Tensor,
    bootstrap_value: tf.Tensor,
    gamma: float,
    n: int,
    boundary: tf.Tensor,
) -> tf.Tensor:
    """Computes n-step returns: n rewards, then a value. They end early where the episode or the rollout does.

        G_t = r_t + gamma r_t+1 + ... + gamma^n V(s_t+n)        Sutton & Barto 2018, eq. 7.1

    Args:
        reward: [B, T], of the transition from row t.
        discount: [B, T], 0 where that transition ended the task, else 1.
        value: [B, T, ...], of each row's observation; the agents of a trailing axis share reward and discount.
        bootstrap_value: [B, ...], value of the observation after the last row.
        gamma: discount factor per env step.
        n: number of rewards, at least 1.
        boundary: [B, T] bool, True at rows that hold the last observation of an episode.
    Returns:
        Returns, shaped like `value`; at boundaries they are the value.
    """

    def per_value(x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, tf.concat([tf.shape(x), tf.ones([len(value.shape) - 2], tf.int32)], axis=0))

    reward, discount, boundary = per_value(reward), per_value(discount), per_value(boundary)
    total = value
    for _ in range(n):
        following = tf.concat([total[:, 1:], bootstrap_value[:, None]], axis=1)
        total = tf.where(boundary, value, reward + gamma * discount * following)
    return total
