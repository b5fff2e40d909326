"""Layers for N agents at once, which share weights within their group.

The agent axis holds the whole team in order, or, told who is on it (`agents`, [R] indices), any R agents, some more
than once: what serves single agents' decisions is a team made of the rows at hand.
"""

from collections.abc import Sequence

import tensorflow as tf

from tf_marl.ops import gru


def _add_weights(
    layer: tf.keras.layers.Layer,
    name: str,
    groups: Sequence[int],
    shape: Sequence[int],
    initializer: tf.keras.initializers.Initializer | None = None,
) -> tf.Variable:
    """Weights for each group of agents, [G, *shape]; those of all alike, without the first axis. Zeros by default."""
    num_groups = max(groups) + 1
    draw = initializer or tf.keras.initializers.Zeros()
    if num_groups == 1:
        return layer.add_weight(name, shape, initializer=draw)
    return layer.add_weight(
        name,
        [num_groups, *shape],
        initializer=lambda _, dtype=None: tf.stack([draw(shape, dtype) for _ in range(num_groups)]),
    )


def _of_agents(weights: tf.Variable, groups: Sequence[int], agents: tf.Tensor | None = None) -> tf.Tensor:
    """Each agent's weights, [N, ...], or those of `agents`, [R, ...]; what all share, as it is."""
    if max(groups) == 0:
        return tf.convert_to_tensor(weights)
    return tf.gather(weights, groups if agents is None else tf.gather(groups, agents))


class AgentDense(tf.keras.layers.Layer):
    """A dense layer for N agents, [..., N, F] -> [..., N, units].

    Args:
        groups: [N], each agent's group, from 0; agents of one group share their weights.
        units: outputs.
        initializer: of the kernel; a bias starts at 0.
        bias: whether there is one.
        is_first: whether the input is an observation, which nobody asks a gradient for.
    """

    def __init__(
        self,
        groups: Sequence[int],
        units: int,
        initializer: tf.keras.initializers.Initializer,
        bias: bool = True,
        is_first: bool = False,
        name: str = "dense",
    ):
        super().__init__(name=name)
        self._groups, self._units, self._initializer, self._has_bias = groups, units, initializer, bias
        self._num_products = 2 if is_first else 3

    def build(self, shape):
        num_inputs = shape[-2] if max(self._groups) == 0 else len(self._groups)
        self.training_flops = self._num_products * 2 * num_inputs * shape[-1] * self._units
        self.kernel = _add_weights(self, "kernel", self._groups, [shape[-1], self._units], self._initializer)
        if self._has_bias:
            self.bias = _add_weights(self, "bias", self._groups, [self._units])

    def call(self, x: tf.Tensor, agents: tf.Tensor | None = None) -> tf.Tensor:
        """x may have an agent axis of size 1, for what all agents see alike."""
        kernel = _of_agents(self.kernel, self._groups, agents)
        if len(kernel.shape) == 2:
            y = tf.tensordot(x, kernel, 1)
        else:
            _, features, units = kernel.shape
            num_agents = len(self._groups) if agents is None else tf.shape(agents)[0]
            x = tf.repeat(x, num_agents, axis=-2) if x.shape[-2] == 1 else x
            rows = tf.reshape(x, [-1, num_agents, features])  # XLA is slow at products over several row axes
            y = tf.einsum("rni,nio->rno", rows, kernel)
            y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [units]], axis=0))
        return y + _of_agents(self.bias, self._groups, agents) if self._has_bias else y


class GRU(tf.keras.layers.Layer):
    """A gated recurrent unit per agent (`ops/gru.py`): [T, B, N, F] -> [T, B, N, units]. Args: as `AgentDense`."""

    def __init__(
        self,
        groups: Sequence[int],
        units: int,
        initializer: tf.keras.initializers.Initializer,
        name: str = "gru",
    ):
        super().__init__(name=name)
        self._groups = groups
        self._input = AgentDense(groups, 3 * units, initializer, name="input")
        self._kernel = _add_weights(
            self,
            "kernel",
            groups,
            [units, 3 * units],
            lambda shape, dtype=None: tf.concat([initializer([units, units], dtype) for _ in range(3)], axis=-1),
        )
        self._bias = _add_weights(self, "bias", groups, [units])
        self._units = units

    def build(self, shape):
        self.training_flops = 3 * 2 * shape[-2] * self._units * 3 * self._units

    def call(self, x: tf.Tensor, state: tf.Tensor, keep: tf.Tensor, agents: tf.Tensor | None = None) -> tf.Tensor:
        """Args: state [B, N, units] before the first step; keep [T, B], 0 where the step forgets it."""
        kernel, bias = (_of_agents(weights, self._groups, agents) for weights in (self._kernel, self._bias))
        return gru.unroll(self._input(x, agents), state, keep, kernel, bias)
