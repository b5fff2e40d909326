"""The actor turns observations into a team policy."""

import itertools
from collections.abc import Sequence

import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tf_agents.networks import network
from tf_agents.typing import types

from tf_marl.networks.architecture import Architecture
from tf_marl.networks.head import Head
from tf_marl.networks.layers import spread
from tf_marl.networks.torso import Torso
from tf_marl.ops import categorical


class Actor(network.Network):
    """Computes decentralised policies: agent i's actions depend only on its own observations and its id.

    Args:
        observation_spec: dict of specs of one environment's observation.
        groups: [N] ints from 0, the group of each agent; agents of one group share their weights.
        architecture: sizes and kinds of the layers.
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

    def call(self, observation, step_type=None, network_state=(), training=False, decisions=None):
        """Computes the team distribution of one step or of sequences.

        Args:
            observation: dict of tensors [B, ...] or [B, T, ...].
            step_type: [B] or [B, T] int32; the recurrent state is zeroed before first steps.
            network_state: [B, N, H], recurrent state before the first step; () means zeros, or no GRU.
            training: ignored.
            decisions: [D] int32, indices in the flattened [B, N] or [B, T, N]; the logits of all others are 0 where an
                action is available. None computes all.
        Returns:
            The team distribution, with batch shape [B] or [B, T] and event shape [N], and the recurrent state after the
            last step.
        """
        features, network_state = self.torso(observation, step_type, network_state, decisions=decisions)
        return self.policy(features, observation, decisions=decisions), network_state

    def policy(
        self,
        features: tf.Tensor,
        observation: types.NestedTensor,
        agents: tf.Tensor | None = None,
        decisions: tf.Tensor | None = None,
    ) -> tfd.Independent:
        """Computes the team distribution from the torso's features.

        Args:
            features: [..., N, H], or [D, H] with `decisions`.
            observation: dict that holds `avail_actions`, [..., N, A] bool.
            agents: [R] int32, which agents are on the agent axis (N is R then); None means all N in order.
            decisions: [D] int32, indices in the flattened [..., N], whose features these are; None means all.
        Returns:
            A distribution with batch shape [...] and event shape [N].
        """
        available = observation["avail_actions"]
        logits = spread(self._head(features, agents), decisions, available.shape[:-1])
        return categorical.team_distribution(categorical.mask_logits(logits, available))
