"""The actor turns observations into a team policy."""

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

# Entries of an observation that have an axis of agents.
OF_AGENTS = ("obs", "avail_actions", "alive")


class Actor(network.Network):
    """Computes decentralised policies: agent i's actions depend only on its own observations and its id.

    Args:
        observation_spec: dict of specs of one environment's observation.
        groups: [N] ints from 0, the group of each agent; agents of one group share their weights.
        architecture: sizes and kinds of the layers.
        seed: of the initial weights.
        observes_last_action: whether each agent's own last action is an input, too; it is part of the recurrent state.
    """

    def __init__(
        self,
        observation_spec: types.NestedTensorSpec,
        groups: Sequence[int],
        architecture: Architecture,
        seed: int,
        observes_last_action: bool = False,
        name: str = "Actor",
    ):
        seeds = itertools.count(seed)
        num_actions = observation_spec["avail_actions"].shape[-1]
        remembered = num_actions if observes_last_action else 0
        torso = Torso(observation_spec, ["obs"], groups, architecture, seeds, remembered)
        super().__init__(input_tensor_spec=observation_spec, state_spec=torso.state_spec, name=name)
        self.torso, self._architecture = torso, architecture
        self._head = Head(groups, num_actions, architecture.actor_gain, architecture, seeds)

    def call(self, observation, step_type=None, network_state=(), training=False):
        """Computes the team distribution of one step or of sequences.

        Args:
            observation: dict of tensors [B, ...] or [B, T, ...].
            step_type: [B] or [B, T] int32; the recurrent state is zeroed before first steps.
            network_state: [B, N, H], recurrent state before the first step; () means zeros, or no GRU.
            training: ignored.
        Returns:
            The team distribution, with batch shape [B] or [B, T] and event shape [N], and the recurrent state after the
            last step.
        """
        features, network_state = self.torso(observation, step_type, network_state)
        return self.policy(features, observation), network_state

    def alone(self) -> "Actor":
        """Returns an actor of one agent, with layers like this one's.

        Its variables are those of one agent here, in the same order: `[...]` where the variable of this network is
        [G, ...], or [N, ...] for the ids. Its own initial weights are of no use.
        """
        spec = self.input_tensor_spec
        one = {name: tf.TensorSpec([1, *spec[name].shape[1:]], spec[name].dtype, name) for name in OF_AGENTS}
        return Actor(one, [0], self._architecture, seed=0, name="ActorAlone")

    def policy(
        self, features: tf.Tensor, observation: types.NestedTensor, agents: tf.Tensor | None = None
    ) -> tfd.Independent:
        """Computes the team distribution from the torso's features.

        Args:
            features: [..., N, H].
            observation: dict that holds `avail_actions`, [..., N, A] bool.
            agents: [R] int32, which agents are on the agent axis (N is R then); None means all N in order.
        Returns:
            A distribution with batch shape [...] and event shape [N].
        """
        return categorical.team_distribution(self.logits(self._head(features, agents), observation["avail_actions"]))

    def policies_of(
        self, decisions: tf.Tensor, features: tf.Tensor, observation: types.NestedTensor
    ) -> tfd.Categorical:
        """Computes the agents' own policies for some decisions.

        Args:
            decisions: [D] int32, indices in the flattened [..., N].
            features: [D, H], the torso's for these decisions.
            observation: dict that holds `avail_actions`, [..., N, A] bool.
        Returns:
            A distribution with batch shape [D] over the actions.
        """
        available = observation["avail_actions"]
        rows = tf.gather(tf.reshape(available, [-1, available.shape[-1]]), decisions)
        return categorical.distribution(self.logits(self._head(features), rows))

    def logits(self, outputs: tf.Tensor, avail_actions: tf.Tensor) -> tf.Tensor:
        """Returns the logits of the agents' policies.

        Args:
            outputs: [..., A], the head's.
            avail_actions: [..., A] bool, True where an action may be taken.
        Returns:
            Masked logits, [..., A].
        """
        return categorical.mask_logits(outputs, avail_actions)
