"""Statistics are taken over only those entries of a tensor that a mask selects."""

from collections.abc import Sequence

import tensorflow as tf


def mean(x: tf.Tensor, mask: tf.Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> tf.Tensor:
    """Computes the mean of `x` where `mask` is True.

    Args:
        x: tensor of any shape, float.
        mask: bool, shaped like `x`.
        axis: axis or axes to average over; None averages over all entries.
        keepdims: whether the averaged axes stay, with size 1.
    Returns:
        The mean, a scalar or shaped like `x` without `axis`; 0 where the mask selects nothing.
    """
    total = tf.reduce_sum(tf.where(mask, x, 0.0), axis, keepdims)  # not a product: hidden entries may be inf or NaN
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(mask, x.dtype), axis, keepdims))


def normalise(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Normalises `x` to mean 0 and variance 1 over the entries that `mask` selects.

    Args:
        x: tensor of any shape, float.
        mask: bool, shaped like `x`.
    Returns:
        Normalised values, shaped like `x`; 0 where `mask` is False.
    """
    middle = mean(x, mask)
    variance = mean(tf.square(x - middle), mask)
    return tf.where(mask, (x - middle) * tf.math.rsqrt(variance + 1e-8), 0.0)
