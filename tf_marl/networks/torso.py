"""Actor and critic both begin with a torso: observations pass through dense layers, then a GRU if wanted.

A torso may also see each agent's own last action. Then its state ends with that action, as a one-hot vector: `remember`
puts it there once it is chosen, and zeros stand for no action yet.
"""

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
_LAST_ACTION = "last_action"  # as an entry of the observation


class Torso(tf.keras.layers.Layer):
    """Computes features of each agent, [..., N, H], from its observations and its id.

    `state_spec` is [N, H] for a recurrent torso, else (); with the last action it is [N, H + A] or [N, A].
    `shares_weights` tells whether all agents share weights, `has_own_weights` whether none shares any.

    Args:
        observation_spec: dict of specs of one environment's observation.
        inputs: names of the entries to read; an entry without an agent axis, such as the state, is seen by all agents.
        groups: [N] ints from 0, the group of each agent; agents of one group share their weights.
        architecture: sizes and kinds of the layers.
        seeds: of the initial weights; one is taken for each matrix that is drawn.
        num_actions: A, if each agent's own last action is an input, too; 0 if not.
    """

    def __init__(
        self,
        observation_spec: types.NestedTensorSpec,
        inputs: Sequence[str],
        groups: Sequence[int],
        architecture: Architecture,
        seeds: Iterator[int],
        num_actions: int = 0,
        name: str = "torso",
    ):
        super().__init__(name=name)
        self._groups, self.num_agents = groups, len(groups)
        self.shares_weights, self.has_own_weights = max(groups) == 0, len(set(groups)) == len(groups)
        hidden = initializer(architecture, architecture.hidden_gain, seeds)
        first, *rest = architecture.hidden
        self.inputs = {name: observation_spec[name] for name in inputs}
        self._num_actions = num_actions
        self.normalizers = {
            name: RunningNormalizer(spec.shape[-1], clip=_OBSERVATION_CLIP, name=f"normalize_{name}")
            for name, spec in self.inputs.items()
            if architecture.normalize_observations
        }
        if num_actions:
            self.inputs[_LAST_ACTION] = tf.TensorSpec([len(groups), num_actions], tf.float32, _LAST_ACTION)
        self._activation = tf.keras.activations.get(architecture.activation)
        self._first = {
            name: AgentDense(groups, first, hidden, bias=name == inputs[0], is_first=True, name=f"first_{name}")
            for name in self.inputs
        }
        ids: Any = "zeros"
        if architecture.initializer == "fan_in":  # a one-hot id counts among the first layer's inputs
            ids = FanIn(seeds, len(groups) + sum(spec.shape[-1] for spec in self.inputs.values()))
        self._agent_id = self.add_weight("agent_id", [len(groups), first], initializer=ids)
        self._rest = [AgentDense(groups, units, hidden, name=f"hidden_{i}") for i, units in enumerate(rest)]
        self._gru = None
        self.state_spec: Any = ()
        if architecture.rnn == "gru":
            self._gru = GRU(groups, architecture.rnn_units, initializer(architecture, 1.0, seeds))
        if units := num_actions + (architecture.rnn_units if self._gru else 0):
            self.state_spec = tf.TensorSpec([len(groups), units], tf.float32, "gru")

    def call(
        self,
        observation: types.NestedTensor,
        step_type: tf.Tensor | None = None,
        state: Any = (),
        agents: tf.Tensor | None = None,
        decisions: tf.Tensor | None = None,
        action: tf.Tensor | None = None,
    ):
        """Computes the features of one step, [B, ...], or of sequences, [B, T, ...].

        Args:
            observation: dict of tensors [B, ...] or [B, T, ...].
            step_type: [B] or [B, T] int32; the recurrent state is zeroed before first steps. None means no step is a
                first.
            state: [B, N, H], recurrent state before the first step; () means zeros.
            agents: [R] int32, which agents are on the agent axis (N is R then); None means all N in order.
            decisions: [D] int32, indices in the flattened [B, N] or [B, T, N]: only these features are computed. None
                computes all. It needs a torso without a GRU whose agents share weights.
            action: [B, T - 1, N] int32, the actions of all but the last step, which sequences need if the last action
                is an input; else it is ignored.
        Returns:
            Features, [B, N, H] or [B, T, N, H], or [D, H] with `decisions`, and the recurrent state after the last
            step, [B, N, H], or () without a GRU.
        """
        if not self._num_actions:
            return self._features(observation, step_type, state, agents, decisions)
        obs = observation["obs"]
        if isinstance(state, tuple):  # none given
            state = tf.zeros([tf.shape(obs)[0], obs.shape[-2], self.state_spec.shape[-1]])
        hidden, last = state[..., : -self._num_actions], state[..., -self._num_actions :]
        nothing = tf.zeros_like(last)
        if len(obs.shape) == 4:  # sequences
            last = tf.concat([last[:, None], tf.one_hot(action, self._num_actions)], axis=1)
        observation = observation | {_LAST_ACTION: last * _keep(step_type, last)[..., None, None]}
        x, after = self._features(observation, step_type, hidden if self._gru else (), agents, decisions)
        return x, tf.concat([after, nothing], axis=-1) if self._gru else nothing

    def remember(self, state: Any, action: tf.Tensor) -> Any:
        """Puts the actions that were chosen into the recurrent state, if the last action is an input.

        Args:
            state: after the step, [B, N, H]; () without one.
            action: [B, N] int32.
        Returns:
            The state before the next step, shaped like `state`.
        """
        if not self._num_actions:
            return state
        return tf.concat([state[..., : -self._num_actions], tf.one_hot(action, self._num_actions)], axis=-1)

    def _features(
        self,
        observation: types.NestedTensor,
        step_type: tf.Tensor | None,
        state: Any,
        agents: tf.Tensor | None,
        decisions: tf.Tensor | None,
    ):
        """Computes features and the GRU's state from all inputs; arguments and results as in `call`."""
        if decisions is None:
            x = self._first_outputs(observation, agents)
        else:
            x = self._first_outputs_of(decisions, observation)
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

    def _first_outputs(self, observation: types.NestedTensor, agents: tf.Tensor | None) -> tf.Tensor:
        """Computes the first layer's outputs before its activation, [..., N, H]; arguments as in `call`."""
        x = tf.convert_to_tensor(self._agent_id) if agents is None else tf.gather(self._agent_id, agents)
        for name, layer in self._first.items():
            leaf = self._normalised(name, observation[name])
            x += layer(leaf if self._is_of_agents(name) else leaf[..., None, :], agents)
        return x

    def _first_outputs_of(self, decisions: tf.Tensor, observation: types.NestedTensor) -> tf.Tensor:
        """Computes the first layer's outputs before its activation for some decisions, [D, H].

        The id and all that agents see by themselves are one product, which saves passes over its outputs.
        """
        num_agents = len(self._groups)
        inputs, kernels = [tf.one_hot(decisions % num_agents, num_agents)], [self._agent_id]
        shared = []
        for name, layer in self._first.items():
            rows = tf.reshape(observation[name], [-1, observation[name].shape[-1]])
            if self._is_of_agents(name):
                inputs.append(self._normalised(name, tf.gather(rows, decisions)))
                kernels.append(layer.kernel)
            else:
                shared.append(tf.matmul(self._normalised(name, rows), layer.kernel))
        bias = next(layer.bias for layer in self._first.values() if layer.bias is not None)
        x = tf.nn.bias_add(tf.matmul(tf.concat(inputs, axis=-1), tf.concat(kernels, axis=0)), bias)
        return x + tf.gather(tf.add_n(shared), decisions // num_agents) if shared else x

    def _is_of_agents(self, name: str) -> bool:
        return len(self.inputs[name].shape) == 2

    def _normalised(self, name: str, leaf: tf.Tensor) -> tf.Tensor:
        return self.normalizers[name](leaf) if name in self.normalizers else leaf

    def observe(self, observation: types.NestedTensor, counts: tf.Tensor) -> None:
        """Adds observations to the running statistics that normalise them; does nothing if they are not normalised.

        Args:
            observation: dict of tensors [..., N, F], or [..., F] for entries that all agents see.
            counts: [..., N] bool, the agents whose observations count. An entry that all agents see counts where any of
                them does.
        """
        for name, normalizer in self.normalizers.items():
            of_agents = self._is_of_agents(name)
            normalizer.update(observation[name], counts if of_agents else tf.reduce_any(counts, axis=-1))


def _keep(step_type: tf.Tensor | None, x: tf.Tensor) -> tf.Tensor:
    """Returns 0 at first steps of episodes and 1 elsewhere, shaped like `x` [..., N, H] without its last two axes."""
    if step_type is None:
        return tf.ones(tf.shape(x)[:-2], x.dtype)
    return tf.cast(step_type != ts.StepType.FIRST, x.dtype)
