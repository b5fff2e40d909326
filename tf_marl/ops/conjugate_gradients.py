"""The method of conjugate gradients solves large linear systems by products with the matrix alone."""

from collections.abc import Callable

import tensorflow as tf


def conjugate_gradients(
    product: Callable[[tf.Tensor], tf.Tensor], b: tf.Tensor, num_iterations: int, tolerance: float = 1e-6
) -> tf.Tensor:
    """Solves A x = b for a symmetric positive definite matrix A (Hestenes and Stiefel 1952).

    In exact arithmetic it needs as many iterations as A has distinct eigenvalues. Stopped early, x is the best solution
    in the span of b, A b, A^2 b, ..., measured by (x - A^-1 b)' A (x - A^-1 b).

    Args:
        product: maps v, [P], to A v, [P].
        b: right side, [P].
        num_iterations: the largest number of products.
        tolerance: it stops where the norm of b - A x is at most this share of b's norm.
    Returns:
        x, [P].
    """
    enough = tolerance**2 * tf.reduce_sum(tf.square(b))

    def body(i, x, residual, direction, size):
        image = product(direction)
        step = tf.math.divide_no_nan(size, tf.reduce_sum(direction * image))
        x += step * direction
        residual -= step * image
        new_size = tf.reduce_sum(tf.square(residual))
        return i + 1, x, residual, residual + tf.math.divide_no_nan(new_size, size) * direction, new_size

    start = (0, tf.zeros_like(b), b, b, tf.reduce_sum(tf.square(b)))
    _, x, *_ = tf.while_loop(lambda i, x, r, d, size: (i < num_iterations) & (size > enough), body, start)
    return x
