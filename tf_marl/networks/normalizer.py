"""Running mean and standard deviation, of observations or of returns."""

import tensorflow as tf

_MIN_VARIANCE = 1e-4  # of what never varies; what begins to vary is not blown up without bound


class RunningNormalizer(tf.keras.layers.Layer):
    """Keeps the mean and variance of vectors seen so far, and brings vectors to mean 0 and variance 1.

    Args:
        size: F, of the vectors; each feature by itself.
        decay: weight of what was seen before, at each update; 1 forgets nothing.
        clip: bound on normalised values, in standard deviations; None is none.
    """

    def __init__(self, size: int, decay: float = 1.0, clip: float | None = None, name: str = "normalizer"):
        super().__init__(name=name)
        self._decay, self._clip = decay, clip
        self._count = self.add_weight("count", [], initializer="zeros", trainable=False)
        self.mean = self.add_weight("mean", [size], initializer="zeros", trainable=False)
        self._variance = self.add_weight("variance", [size], initializer="ones", trainable=False)

    @property
    def std(self) -> tf.Tensor:
        """[F]."""
        return tf.sqrt(tf.maximum(self._variance, _MIN_VARIANCE))

    def update(self, x: tf.Tensor, mask: tf.Tensor) -> None:
        """Takes in vectors, by the parallel form of Welford's algorithm (Chan et al. 1979).

        Args:
            x: [..., F].
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
        """[..., F] -> [..., F]."""
        x = (x - self.mean) / self.std
        return x if self._clip is None else tf.clip_by_value(x, -self._clip, self._clip)

    def denormalise(self, x: tf.Tensor) -> tf.Tensor:
        """What `call` makes `x` of, without the clip."""
        return self.mean + self.std * x
