"""Initial weights, drawn anew at every call, each from a seed of its own."""

from collections.abc import Iterator

import tensorflow as tf

from tf_marl.networks.architecture import Architecture


class Orthogonal(tf.keras.initializers.Initializer):
    """Orthogonal weights, drawn anew at every call from a seed of its own."""

    def __init__(self, gain: float, seeds: Iterator[int]):
        self._gain, self._seeds = gain, seeds

    def __call__(self, shape, dtype=None, **kwargs):
        return tf.keras.initializers.Orthogonal(self._gain, seed=next(self._seeds))(shape, dtype)


class FanIn(tf.keras.initializers.Initializer):
    """Uniform weights within 1 / sqrt(inputs); inputs are the first axis if not given. Drawn as `Orthogonal` is."""

    def __init__(self, seeds: Iterator[int], inputs: int | None = None):
        self._seeds, self._inputs = seeds, inputs

    def __call__(self, shape, dtype=None, **kwargs):
        bound = (self._inputs or shape[0]) ** -0.5
        return tf.keras.initializers.RandomUniform(-bound, bound, seed=next(self._seeds))(shape, dtype)


def initializer(architecture: Architecture, gain: float, seeds: Iterator[int]) -> tf.keras.initializers.Initializer:
    return FanIn(seeds) if architecture.initializer == "fan_in" else Orthogonal(gain, seeds)
