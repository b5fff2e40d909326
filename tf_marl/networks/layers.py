"""Layers serve N agents at once; the agents of one group share their weights.

The agent axis normally holds the whole team in order. A call may name other agents instead (`agents`, [R] indices,
possibly repeated): the axis then has size R, and row r uses the weights of agent `agents[r]`. That serves exported
models, which decide for single agents.
"""

import math
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
    """Adds weights to a layer: one set for each of G groups, `[G, *shape]`, or `shape` alone if there is one group.

    They start at zero unless an initializer is given.
    """
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
    """Returns each agent's weights, [N, ...] or [R, ...] with `agents`; weights that all agents share stay [...]."""
    if max(groups) == 0:
        return tf.convert_to_tensor(weights)
    return tf.gather(weights, groups if agents is None else tf.gather(groups, agents))


def spread(x: tf.Tensor, decisions: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Puts what belongs to some decisions to its place among all.

    Args:
        x: [D, ...], one entry for each of the decisions.
        decisions: [D] int32, indices in the flattened [..., N].
        shape: [...] and N, known statically.

    Returns:
        The entries in their places, [..., N, ...]; 0 elsewhere.
    """
    entry = x.shape[1:]
    return tf.reshape(tf.scatter_nd(decisions[:, None], x, [math.prod(shape), *entry]), [*shape, *entry])


class AgentDense(tf.keras.layers.Layer):
    """Applies a dense layer to the features of N agents, [..., N, F] -> [..., N, units].

    Args:
        groups: [N] ints from 0, the group of each agent; agents of one group share their weights.
        units: number of outputs.
        initializer: of the kernel; the bias starts at 0.
        bias: whether the layer has a bias.
        is_first: whether the input is an observation, which needs no gradient; it only matters for counting operations.
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
        self.bias = _add_weights(self, "bias", self._groups, [self._units]) if self._has_bias else None

    def call(self, x: tf.Tensor, agents: tf.Tensor | None = None) -> tf.Tensor:
        """Computes the layer's outputs.

        Args:
            x: [..., N, F], or [..., 1, F] where all agents have the same input.
            agents: [R] int32, which agents are on the agent axis; None means all N in order.
        Returns:
            Outputs, [..., N, units], or [..., R, units] with `agents`; [..., 1, units] where `x` has one row and all
            agents share weights.
        """
        kernel = _of_agents(self.kernel, self._groups, agents)
        if len(kernel.shape) == 2:
            # TensorFlow computes a plain product, the bias and a relu in one pass.
            y = tf.matmul(x, kernel) if len(x.shape) == 2 else tf.tensordot(x, kernel, 1)
            return tf.nn.bias_add(y, self.bias) if self._has_bias else y
        _, features, units = kernel.shape
        num_agents = len(self._groups) if agents is None else tf.shape(agents)[0]
        x = tf.repeat(x, num_agents, axis=-2) if x.shape[-2] == 1 else x
        rows = tf.reshape(x, [-1, num_agents, features])  # XLA is slow at products over several row axes
        y = tf.einsum("rni,nio->rno", rows, kernel)
        y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [units]], axis=0))
        return y + _of_agents(self.bias, self._groups, agents) if self._has_bias else y


class GRU(tf.keras.layers.Layer):
    """Applies a gated recurrent unit (`ops/gru.py`) to each agent's sequence, [T, B, N, F] -> [T, B, N, units].

    Args:
        groups: [N] ints from 0, the group of each agent; agents of one group share their weights.
        units: size of the hidden state.
        initializer: of the kernels; the biases start at 0.
    """

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
        """Computes the hidden states after each step.

        Args:
            x: [T, B, N, F], inputs.
            state: [B, N, units], hidden state before the first step.
            keep: [T, B], 0 where the step starts from a state of zeros (a new episode), 1 elsewhere.
            agents: [R] int32, which agents are on the agent axis (N is R then); None means all N in order.
        Returns:
            Hidden states, [T, B, N, units].
        """
        kernel, bias = (_of_agents(weights, self._groups, agents) for weights in (self._kernel, self._bias))
        return gru.unroll(self._input(x, agents), state, keep, kernel, bias)
