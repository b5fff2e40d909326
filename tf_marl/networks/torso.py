"""What the agents know: their observations through dense layers, then a GRU if wanted."""

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.networks.architecture import Architecture
from tf_marl.networks.initializers import FanIn, initializer
from tf_marl.networks.layers import GRU, AgentDense
from tf_marl.networks.normalizer import RunningNormalizer

_OBSERVATION_CLIP = 10.0  # standard deviations


class Torso(tf.keras.layers.Layer):
    """What the agents know, as features [..., N, H].

    Args:
        observation_spec: of one environment.
        inputs: entries of the observation; those without an agent axis are seen by all.
        groups: [N], as in `AgentDense`.
        architecture: sizes.
        seeds: of the initial weights.
    """

    def __init__(
        self,
        observation_spec: types.NestedTensorSpec,
        inputs: Sequence[str],
        groups: Sequence[int],
        architecture: Architecture,
        seeds: Iterator[int],
        name: str = "torso",
    ):
        super().__init__(name=name)
        hidden = initializer(architecture, architecture.hidden_gain, seeds)
        first, *rest = architecture.hidden
        self.inputs = {name: observation_spec[name] for name in inputs}
        self.normalizers = {
            name: RunningNormalizer(spec.shape[-1], clip=_OBSERVATION_CLIP, name=f"normalize_{name}")
            for name, spec in self.inputs.items()
            if architecture.normalize_observations
        }
        self._activation = tf.keras.activations.get(architecture.activation)
        self._first = {
            name: AgentDense(groups, first, hidden, bias=name == inputs[0], is_first=True, name=f"first_{name}")
            for name in inputs
        }
        ids: Any = "zeros"
        if architecture.initializer == "fan_in":  # an id is one of the first layer's inputs
            ids = FanIn(seeds, len(groups) + sum(spec.shape[-1] for spec in self.inputs.values()))
        self._agent_id = self.add_weight("agent_id", [len(groups), first], initializer=ids)
        self._rest = [AgentDense(groups, units, hidden, name=f"hidden_{i}") for i, units in enumerate(rest)]
        self._gru = None
        self.state_spec: Any = ()
        if architecture.rnn == "gru":
            self._gru = GRU(groups, architecture.rnn_units, initializer(architecture, 1.0, seeds))
            self.state_spec = tf.TensorSpec([len(groups), architecture.rnn_units], tf.float32, "gru")

    def call(
        self,
        observation: types.NestedTensor,
        step_type: tf.Tensor | None = None,
        state: Any = (),
        agents: tf.Tensor | None = None,
    ):
        """Returns: features, and the state after the last step."""
        x = tf.convert_to_tensor(self._agent_id) if agents is None else tf.gather(self._agent_id, agents)
        for name, spec in self.inputs.items():
            leaf = observation[name]
            leaf = self.normalizers[name](leaf) if self.normalizers else leaf
            x += self._first[name](leaf if len(spec.shape) == 2 else leaf[..., None, :], agents)
        x = self._activation(x)
        for layer in self._rest:
            x = self._activation(layer(x, agents))
        if self._gru is None:
            return x, ()
        if isinstance(state, tuple):  # none given
            state = tf.zeros([tf.shape(x)[0], *self.state_spec.shape])
        if len(x.shape) == 3:  # one step
            x = self._gru(x[None], state, _keep(step_type, x)[None], agents)[0]
            return x, x
        x = self._gru(tf.transpose(x, [1, 0, 2, 3]), state, tf.transpose(_keep(step_type, x)), agents)
        return tf.transpose(x, [1, 0, 2, 3]), x[-1]

    def observe(self, observation: types.NestedTensor, counts: tf.Tensor) -> None:
        """Takes observations into the running statistics, if there are any. Args: counts [..., N] bool."""
        for name, normalizer in self.normalizers.items():
            of_agents = len(self.inputs[name].shape) == 2
            normalizer.update(observation[name], counts if of_agents else tf.reduce_any(counts, axis=-1))


def _keep(step_type: tf.Tensor | None, x: tf.Tensor) -> tf.Tensor:
    """0 at the first steps of episodes, else 1; [B] or [B, T], as `x` [..., N, H] is."""
    if step_type is None:
        return tf.ones(tf.shape(x)[:-2], x.dtype)
    return tf.cast(step_type != ts.StepType.FIRST, x.dtype)
