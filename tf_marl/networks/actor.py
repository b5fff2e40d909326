"""Who decides."""

import itertools
from collections.abc import Sequence

import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tf_agents.networks import network
from tf_agents.typing import types

from tf_marl.networks.architecture import Architecture
from tf_marl.networks.head import Head
from tf_marl.networks.torso import Torso
from tf_marl.ops import categorical


class Actor(network.Network):
    """Decentralised policies: agent i's actions depend on its own observations and id alone.

    Args:
        observation_spec: of one environment.
        groups: [N], as in `AgentDense`.
        architecture: sizes.
        seed: of the initial weights.
    """

    def __init__(
        self,
        observation_spec: types.NestedTensorSpec,
        groups: Sequence[int],
        architecture: Architecture,
        seed: int,
        name: str = "Actor",
    ):
        seeds = itertools.count(seed)
        torso = Torso(observation_spec, ["obs"], groups, architecture, seeds)
        super().__init__(input_tensor_spec=observation_spec, state_spec=torso.state_spec, name=name)
        num_actions = observation_spec["avail_actions"].shape[-1]
        self.torso = torso
        self._head = Head(groups, num_actions, architecture.actor_gain, architecture, seeds)

    def call(self, observation, step_type=None, network_state=(), training=False):
        """Observation dict [B, ...] or [B, T, ...] -> team distribution of that batch shape and event [N]."""
        features, network_state = self.torso(observation, step_type, network_state)
        return self.policy(features, observation), network_state

    def policy(
        self, features: tf.Tensor, observation: types.NestedTensor, agents: tf.Tensor | None = None
    ) -> tfd.Independent:
        """The rest of `call`, after the torso."""
        logits = categorical.mask_logits(self._head(features, agents), observation["avail_actions"])
        return categorical.team_distribution(logits)
