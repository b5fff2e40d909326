"""Statistics of what counts: entries that a mask admits."""

import tensorflow as tf


def mean(x: tf.Tensor, mask: tf.Tensor, axis: int | None = None, keepdims: bool = False) -> tf.Tensor:
    """Mean of `x` where `mask` is True, along an axis or of everything; 0 if it is nowhere.

    Args: x float and mask bool, of one shape.
    """
    total = tf.reduce_sum(tf.where(mask, x, 0.0), axis, keepdims)  # not a product: what is hidden may be inf or NaN
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(mask, x.dtype), axis, keepdims))


def normalise(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Zero mean and unit variance over the entries that `mask` admits; what it does not admit becomes 0."""
    middle = mean(x, mask)
    variance = mean(tf.square(x - middle), mask)
    return tf.where(mask, (x - middle) * tf.math.rsqrt(variance + 1e-8), 0.0)
