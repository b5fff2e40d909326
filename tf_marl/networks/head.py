"""What is made of features: logits or values."""

from collections.abc import Iterator, Sequence

import tensorflow as tf

from tf_marl.networks.architecture import Architecture
from tf_marl.networks.initializers import initializer
from tf_marl.networks.layers import AgentDense


class Head(tf.keras.layers.Layer):
    """Features [..., N, H] -> [..., N, outputs]."""

    def __init__(
        self,
        groups: Sequence[int],
        outputs: int,
        gain: float,
        architecture: Architecture,
        seeds: Iterator[int],
        name: str = "head",
    ):
        super().__init__(name=name)
        hidden = initializer(architecture, architecture.hidden_gain, seeds)
        self._activation = tf.keras.activations.get(architecture.activation)
        self._hidden = [
            AgentDense(groups, units, hidden, name=f"hidden_{i}") for i, units in enumerate(architecture.head_hidden)
        ]
        self.last = AgentDense(groups, outputs, initializer(architecture, gain, seeds), name="last")

    def call(self, x: tf.Tensor, agents: tf.Tensor | None = None) -> tf.Tensor:
        for layer in self._hidden:
            x = self._activation(layer(x, agents))
        return self.last(x, agents)
