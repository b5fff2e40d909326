"""Initial weights are drawn anew at every call, each time from another seed."""

from collections.abc import Iterator

import tensorflow as tf

from tf_marl.networks.architecture import Architecture


class Orthogonal(tf.keras.initializers.Initializer):
    """Draws orthogonal weights, at each call from the next seed.

    Args:
        gain: factor on the orthogonal matrix.
        seeds: one is taken at each call.
    """

    def __init__(self, gain: float, seeds: Iterator[int]):
        self._gain, self._seeds = gain, seeds

    def __call__(self, shape, dtype=None, **kwargs):
        return tf.keras.initializers.Orthogonal(self._gain, seed=next(self._seeds))(shape, dtype)


class FanIn(tf.keras.initializers.Initializer):
    """Draws weights uniformly between -1 / sqrt(inputs) and 1 / sqrt(inputs), at each call from the next seed.

    Args:
        seeds: one is taken at each call.
        inputs: number of inputs of the layer; None takes the size of the weights' first axis.
    """

    def __init__(self, seeds: Iterator[int], inputs: int | None = None):
        self._seeds, self._inputs = seeds, inputs

    def __call__(self, shape, dtype=None, **kwargs):
        bound = (self._inputs or shape[0]) ** -0.5
        return tf.keras.initializers.RandomUniform(-bound, bound, seed=next(self._seeds))(shape, dtype)


def initializer(architecture: Architecture, gain: float, seeds: Iterator[int]) -> tf.keras.initializers.Initializer:
    """Returns the initializer that an architecture names.

    Args:
        architecture: its field `initializer` is the name.
        gain: factor on orthogonal weights; `fan_in` ignores it.
        seeds: one is taken each time weights are drawn.
    """
    return FanIn(seeds) if architecture.initializer == "fan_in" else Orthogonal(gain, seeds)
