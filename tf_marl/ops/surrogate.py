"""PPO's losses are built from ratios of new to old action probabilities (Schulman et al. 2017).

IPPO and MAPPO clip the ratio of each agent by itself (the independent ratio). Joint-ratio PPO clips the product of the
agents' ratios, and CoPPO clips something in between (the coordinated ratio). All functions are pure and return one term
per entry; the caller masks and averages the terms.
"""

import tensorflow as tf


def independent_ratio(log_prob: tf.Tensor, old_log_prob: tf.Tensor) -> tf.Tensor:
    """Computes the new over the old probability of each agent's own action.

    Args:
        log_prob: [..., N], under the current weights.
        old_log_prob: [..., N], under the policy that acted; a constant for the gradient.
    Returns:
        Ratios, [..., N].
    """
    return tf.exp(log_prob - tf.stop_gradient(old_log_prob))


def joint_ratio(log_prob: tf.Tensor, old_log_prob: tf.Tensor) -> tf.Tensor:
    """Computes the new over the old probability of the team's joint action: the product of the agents' ratios.

    The product is a sum in log space. A dead agent has log-probability 0 before and after, so its factor is 1.

    Args:
        log_prob: [..., N], under the current weights.
        old_log_prob: [..., N], under the policy that acted; a constant for the gradient.
    Returns:
        Joint ratios, [...].
    """
    return tf.exp(tf.reduce_sum(log_prob - tf.stop_gradient(old_log_prob), axis=-1))


def coordinated_ratio(log_prob: tf.Tensor, old_log_prob: tf.Tensor, inner_epsilon: float) -> tf.Tensor:
    """Computes each agent's ratio times the clipped product of its team mates' ratios.

        clip(prod_{j != k} r_j, 1 - eps2, 1 + eps2) r_k                 CoPPO, Wu et al. 2021

    With eps2 = 0 it is the independent ratio, without a bound on eps2 the joint one. Gradients reach the team mates
    through the product where it is inside its range.

    Args:
        log_prob: [..., N], under the current weights.
        old_log_prob: [..., N], under the policy that acted; a constant for the gradient.
        inner_epsilon: eps2, half-width of the product's clip range, in [0, 1).
    Returns:
        Coordinated ratios, [..., N].
    """
    log_ratio = log_prob - tf.stop_gradient(old_log_prob)
    others = tf.exp(tf.reduce_sum(log_ratio, axis=-1, keepdims=True) - log_ratio)
    return tf.clip_by_value(others, 1.0 - inner_epsilon, 1.0 + inner_epsilon) * tf.exp(log_ratio)


def sequential_surrogates(ratio: tf.Tensor, advantage: tf.Tensor) -> tf.Tensor:
    """Computes what each agent's change adds to the joint surrogate if the agents change one after another.

        prod_{j < k} r_j (r_k - 1) A                           HAPPO, Kuba et al. 2022

    The terms of one joint action add up to (prod_k r_k - 1) A in every order of the agents.

    Args:
        ratio: independent ratios, [..., N], in the order in which the agents change; 1 for the dead.
        advantage: [...], of the team.
    Returns:
        The terms, [..., N]; that of an agent with ratio 1 is 0.
    """
    before = tf.math.cumprod(ratio, axis=-1, exclusive=True)
    return tf.math.multiply_no_nan(before, ratio - 1.0) * advantage[..., None]  # `before` may be infinite


def clipped_surrogate(ratio: tf.Tensor, advantage: tf.Tensor, epsilon: float | tf.Tensor | None) -> tf.Tensor:
    """Computes the pessimistic policy objective, one term per ratio.

        min(r A, clip(r, 1 - eps, 1 + eps) A)            Schulman et al. 2017, eq. 7

    Args:
        ratio: [B, T, N] for independent ratios, [B, T] for the joint one.
        advantage: shaped like `ratio`, or [..., 1] for one advantage of the team; a constant for the gradient.
        epsilon: half-width of the clip range, dimensionless: a number, or a tensor that broadcasts against `ratio`.
            None does not clip.
    Returns:
        Terms to maximise, shaped like `ratio`; the caller masks dead agents and averages.
    """
    advantage = tf.stop_gradient(advantage)
    if epsilon is None:
        return ratio * advantage
    return tf.minimum(ratio * advantage, tf.clip_by_value(ratio, 1.0 - epsilon, 1.0 + epsilon) * advantage)


def squared_value_loss(value: tf.Tensor, returns: tf.Tensor) -> tf.Tensor:
    """Computes the squared value loss 1/2 (V - R)^2, term by term.

    Args:
        value: V, tensor of any shape.
        returns: R, shaped like `value`; a constant for the gradient.
    Returns:
        Losses, shaped like `value`.
    """
    return 0.5 * tf.square(value - tf.stop_gradient(returns))


def huber_value_loss(value: tf.Tensor, returns: tf.Tensor, delta: float) -> tf.Tensor:
    """Computes the Huber loss of values, term by term (Huber 1964).

    It is squared up to an error of `delta` and linear beyond, so a few outlying returns do not dominate the gradient.

        1/2 e^2 where |e| <= delta, delta (|e| - delta / 2) elsewhere,   e = V - R

    Args:
        value: V, tensor of any shape.
        returns: R, shaped like `value`; a constant for the gradient.
        delta: error at which the loss becomes linear, in the units of `value`.
    Returns:
        Losses, shaped like `value`.
    """
    error = tf.abs(value - tf.stop_gradient(returns))
    near = tf.minimum(error, delta)
    return near * (error - 0.5 * near)


def clip_value(value: tf.Tensor, old_value: tf.Tensor, value_clip: float) -> tf.Tensor:
    """Clips values to within `value_clip` of the old ones.

    PPO's value clipping takes the larger of two losses, that of the value and that of this clipped value.

    Args:
        value: tensor of any shape.
        old_value: shaped like `value`; a constant for the gradient.
        value_clip: largest distance from the old value, in the units of `value`.
    Returns:
        Clipped values, shaped like `value`.
    """
    old_value = tf.stop_gradient(old_value)
    return old_value + tf.clip_by_value(value - old_value, -value_clip, value_clip)
