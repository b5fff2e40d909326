"""Weights move by Adam at a rate that is a plain setting; those of a target network follow others."""

import tensorflow as tf


def adam(rate: float, variables: list[tf.Variable], epsilon: float = 1e-7) -> tf.keras.optimizers.legacy.Adam:
    """Makes Adam (Kingma & Ba 2015) with its variables, which a checkpoint holds before the first step, too.

    Args:
        rate: learning rate.
        variables: that it will move.
        epsilon: keeps a step finite where gradients are tiny.
    """
    # A function, because Keras makes a variable of a number, which a checkpoint then sets back to its old value.
    made = tf.keras.optimizers.legacy.Adam(lambda: rate, epsilon=epsilon)
    made._create_all_weights(variables)
    return made


def follow(target: tf.Module, online: tf.Module, share: tf.Tensor) -> None:
    """Moves all weights and statistics of a target network towards those of the network that learns.

    Args:
        target: the target network.
        online: the network that learns; it has the same layers.
        share: scalar in [0, 1]; 1 makes them equal.
    """
    for mine, theirs in zip(target.variables, online.variables, strict=True):
        mine.assign(share * theirs + (1.0 - share) * mine)  # exactly equal for 1, unchanged for 0
