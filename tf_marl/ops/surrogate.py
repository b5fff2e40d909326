"""Probability ratios and PPO's objectives (Schulman et al. 2017); pure functions, nothing averaged, nothing logged.

IPPO clips every agent's ratio by itself (the independent ratio); joint-ratio PPO clips their product.
"""

import tensorflow as tf


def independent_ratio(log_prob: tf.Tensor, old_log_prob: tf.Tensor) -> tf.Tensor:
    """New over old probability of each agent's own action.

    Args:
        log_prob: [..., N].
        old_log_prob: [..., N]; a constant for the gradient.
    Returns:
        [..., N].
    """
    return tf.exp(log_prob - tf.stop_gradient(old_log_prob))


def joint_ratio(log_prob: tf.Tensor, old_log_prob: tf.Tensor) -> tf.Tensor:
    """New over old probability of the team's joint action: the product of the agents' ratios, taken in log space.

    Args:
        log_prob: [..., N]; a dead agent's is 0, its ratio 1.
        old_log_prob: [..., N]; a constant for the gradient.
    Returns:
        [...].
    """
    return tf.exp(tf.reduce_sum(log_prob - tf.stop_gradient(old_log_prob), axis=-1))


def clipped_surrogate(ratio: tf.Tensor, advantage: tf.Tensor, epsilon: float | tf.Tensor | None) -> tf.Tensor:
    """Pessimistic policy objective, one term per ratio.

        min(r A, clip(r, 1 - eps, 1 + eps) A)            Schulman et al. 2017, eq. 7

    Args:
        ratio: [B, T, N] for independent ratios, [B, T] for the joint one.
        advantage: shaped like `ratio`; a constant for the gradient.
        epsilon: half-width of the clip range, dimensionless; a number, or a tensor that broadcasts against `ratio`;
            None does not clip.
    Returns:
        Terms to maximise, shaped like `ratio`; the caller masks dead agents and averages.
    """
    advantage = tf.stop_gradient(advantage)
    if epsilon is None:
        return ratio * advantage
    return tf.minimum(ratio * advantage, tf.clip_by_value(ratio, 1.0 - epsilon, 1.0 + epsilon) * advantage)


def squared_value_loss(value: tf.Tensor, returns: tf.Tensor) -> tf.Tensor:
    """1/2 (V - R)^2 term by term. Args: value and returns of one shape; returns are a constant for the gradient."""
    return 0.5 * tf.square(value - tf.stop_gradient(returns))


def huber_value_loss(value: tf.Tensor, returns: tf.Tensor, delta: float) -> tf.Tensor:
    """Squared up to an error of `delta`, linear beyond, so that a few far returns do not rule (Huber 1964).

        1/2 e^2 where |e| <= delta, delta (|e| - delta / 2) elsewhere,   e = V - R

    Args: value and returns of one shape; returns are a constant for the gradient; delta in their units.
    """
    error = tf.abs(value - tf.stop_gradient(returns))
    near = tf.minimum(error, delta)
    return near * (error - 0.5 * near)


def clip_value(value: tf.Tensor, old_value: tf.Tensor, value_clip: float) -> tf.Tensor:
    """The value kept within `value_clip` of the old one, whose loss PPO's value clipping takes where it is the larger.

    Args: value and old_value of one shape; old_value is a constant for the gradient; value_clip in their units.
    """
    old_value = tf.stop_gradient(old_value)
    return old_value + tf.clip_by_value(value - old_value, -value_clip, value_clip)
