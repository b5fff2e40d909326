"""The weights: an actor that turns observations into a team policy, and a critic that turns them into values.

Both are shared by all agents and told apart by an agent id: a learned vector per agent in the first layer, which is
what appending a one-hot id to the observation amounts to, without the copy.
"""

import itertools
from collections.abc import Sequence

import tensorflow as tf
from tf_agents.networks import network
from tf_agents.typing import types

from tf_marl.ops import categorical


class AgentMLP(tf.keras.layers.Layer):
    """Shared feed-forward network over the observations of N agents: [..., N, O] -> [..., N, outputs].

    Hidden layers are orthogonal with gain sqrt(2) and start without bias; the last layer has its own gain, small for a
    policy that starts close to uniform.
    """

    def __init__(
        self, num_agents: int, hidden: Sequence[int], outputs: int, activation: str, output_gain: float, seed: int
    ):
        super().__init__(name="mlp")
        seeds = itertools.count(seed)

        def orthogonal(gain: float) -> tf.keras.initializers.Initializer:
            return tf.keras.initializers.Orthogonal(gain, seed=next(seeds))

        first, *rest = hidden
        self._activation = tf.keras.activations.get(activation)
        self._first = tf.keras.layers.Dense(first, kernel_initializer=orthogonal(2**0.5), name="first")
        self._agent_id = self.add_weight("agent_id", [num_agents, first], initializer="zeros")
        self._rest = [
            tf.keras.layers.Dense(size, activation, kernel_initializer=orthogonal(2**0.5), name=f"hidden_{i}")
            for i, size in enumerate(rest)
        ]
        self._last = tf.keras.layers.Dense(outputs, kernel_initializer=orthogonal(output_gain), name="last")

    def call(self, obs: tf.Tensor) -> tf.Tensor:
        x = self._activation(self._first(obs) + self._agent_id)
        for layer in self._rest:
            x = layer(x)
        return self._last(x)


class Actor(network.Network):
    """Decentralised policies: agent i's actions depend on its own observation and id alone."""

    def __init__(
        self, observation_spec: types.NestedTensorSpec, hidden: Sequence[int], activation: str, seed: int, name="Actor"
    ):
        super().__init__(input_tensor_spec=observation_spec, state_spec=(), name=name)
        num_agents, num_actions = observation_spec["avail_actions"].shape
        self._mlp = AgentMLP(num_agents, hidden, num_actions, activation, output_gain=0.01, seed=seed)

    def call(self, observation, step_type=None, network_state=(), training=False):
        """Observation dict [...] -> team distribution with batch [...] and event [N]."""
        logits = categorical.mask_logits(self._mlp(observation["obs"]), observation["avail_actions"])
        return categorical.team_distribution(logits), network_state


class Critic(network.Network):
    """One value per agent, [..., N], from what that agent observes."""

    def __init__(
        self, observation_spec: types.NestedTensorSpec, hidden: Sequence[int], activation: str, seed: int, name="Critic"
    ):
        super().__init__(input_tensor_spec=observation_spec, state_spec=(), name=name)
        num_agents = observation_spec["obs"].shape[0]
        self._mlp = AgentMLP(num_agents, hidden, 1, activation, output_gain=1.0, seed=seed)

    def call(self, observation, step_type=None, network_state=(), training=False):
        """Observation dict [...] -> values [..., N]."""
        return tf.squeeze(self._mlp(observation["obs"]), axis=-1), network_state
