"""Actor and critic both end with a head, which turns features into logits or values."""

from collections.abc import Iterator, Sequence

import tensorflow as tf

from tf_marl.networks.architecture import Architecture
from tf_marl.networks.initializers import initializer
from tf_marl.networks.layers import AgentDense


class Head(tf.keras.layers.Layer):
    """Computes outputs of each agent from its features, [..., N, H] -> [..., N, outputs].

    Args:
        groups: [N] ints from 0, the group of each agent; agents of one group share their weights.
        outputs: number of outputs per agent.
        gain: of the orthogonal initial weights of the last layer.
        architecture: sizes and kinds of the layers.
        seeds: of the initial weights; one is taken for each matrix that is drawn.
    """

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
        """Computes the outputs.

        Args:
            x: [..., N, H], features.
            agents: [R] int32, which agents are on the agent axis (N is R then); None means all N in order.
        Returns:
            Outputs, [..., N, outputs].
        """
        for layer in self._hidden:
            x = self._activation(layer(x, agents))
        return self.last(x, agents)
