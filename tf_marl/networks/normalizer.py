"""Observations and returns are normalised by their running mean and standard deviation."""

import tensorflow as tf

_MIN_VARIANCE = 1e-4  # so that a feature that has never varied is not scaled up without bound when it first does


class RunningNormalizer(tf.keras.layers.Layer):
    """Keeps the mean and variance of the vectors seen so far, and normalises vectors to mean 0 and variance 1.

    Args:
        size: F, length of the vectors; each feature has statistics of its own.
        decay: weight of earlier vectors at each update; 1 weighs all vectors alike.
        clip: bound on the normalised values, in standard deviations; None does not clip.
    """

    def __init__(self, size: int, decay: float = 1.0, clip: float | None = None, name: str = "normalizer"):
        super().__init__(name=name)
        self._decay, self._clip = decay, clip
        self._count = self.add_weight("count", [], initializer="zeros", trainable=False)
        self.mean = self.add_weight("mean", [size], initializer="zeros", trainable=False)
        self._variance = self.add_weight("variance", [size], initializer="ones", trainable=False)

    @property
    def std(self) -> tf.Tensor:
        """Returns the running standard deviation, [F], at least 0.01."""
        return tf.sqrt(tf.maximum(self._variance, _MIN_VARIANCE))

    def update(self, x: tf.Tensor, mask: tf.Tensor) -> None:
        """Adds vectors to the statistics, by the parallel form of Welford's algorithm (Chan et al. 1979).

        Args:
            x: [..., F], vectors.
            mask: [...] bool, the vectors that count.
        """
        count = tf.reduce_sum(tf.cast(mask, x.dtype))
        axes = list(range(len(x.shape) - 1))
        x = tf.where(mask[..., None], x, 0.0)
        mean = tf.math.divide_no_nan(tf.reduce_sum(x, axes), count)
        off_mean = tf.where(mask[..., None], x - mean, 0.0)
        variance = tf.math.divide_no_nan(tf.reduce_sum(tf.square(off_mean), axes), count)
        before = self._decay * self._count
        share = tf.math.divide_no_nan(count, before + count)
        shift = mean - self.mean
        self._variance.assign(
            (1.0 - share) * self._variance + share * variance + share * (1.0 - share) * tf.square(shift)
        )
        self.mean.assign_add(share * shift)
        self._count.assign(before + count)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Normalises vectors and clips them.

        Args:
            x: [..., F], vectors.
        Returns:
            Normalised vectors, [..., F].
        """
        x = (x - self.mean) / self.std
        return x if self._clip is None else tf.clip_by_value(x, -self._clip, self._clip)

    def denormalise(self, x: tf.Tensor) -> tf.Tensor:
        """Computes the vectors whose normalised values are `x`: the inverse of `call`, except for its clipping.

        Args:
            x: [..., F], normalised vectors.
        Returns:
            Vectors, [..., F], in their own units.
        """
        return self.mean + self.std * x
