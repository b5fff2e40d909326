"""Learners whose learning rates are plain settings share one optimiser."""

import tensorflow as tf


def adam(rate: float, variables: list[tf.Variable], epsilon: float = 1e-7) -> tf.keras.optimizers.legacy.Adam:
    """Makes Adam (Kingma & Ba 2015), with its variables, so that a checkpoint of an agent that has not learned is whole.

    Args:
        rate: learning rate.
        variables: that it will move.
        epsilon: keeps a step finite where gradients are tiny.
    """
    # A function, because Keras makes a variable of a number, which a checkpoint then sets back to its old value.
    made = tf.keras.optimizers.legacy.Adam(lambda: rate, epsilon=epsilon)
    made._create_all_weights(variables)
    return made
