"""The critic estimates the return that the team still gets."""

import itertools
from collections.abc import Sequence

import tensorflow as tf
from tf_agents.networks import network
from tf_agents.typing import types

from tf_marl.networks.architecture import Architecture
from tf_marl.networks.head import Head
from tf_marl.networks.layers import spread
from tf_marl.networks.normalizer import RunningNormalizer
from tf_marl.networks.torso import Torso
from tf_marl.ops import masked


class Critic(network.Network):
    """Estimates values: one per agent, [..., N], or one for the team, [..., 1].

    Args:
        observation_spec: dict of specs of one environment's observation.
        groups: [N] ints from 0, the group of each agent; agents of one group share their weights.
        architecture: sizes and kinds of the layers.
        seed: of the initial weights.
        inputs: `obs`, what the agent sees; `state`, the state of the whole battle; or both.
        team: whether there is one value for the team. With `state` alone as input the network has one output; with
            `obs` the value is the mean of the living agents' outputs.
        fills_dead: whether a dead agent's value is the mean of its living team mates' values. They receive the same
            team reward, so the critic can learn from the living agents alone.
        value_decay: decay per update of running statistics of the returns; the head then learns returns normalised to
            mean 0 and variance 1 (PopArt: van Hasselt et al. 2016). None does not normalise.
        torso: the actor's torso, to share it; None gives the critic a torso of its own.
    """

    def __init__(
        self,
        observation_spec: types.NestedTensorSpec,
        groups: Sequence[int],
        architecture: Architecture,
        seed: int,
        inputs: Sequence[str] = ("obs",),
        team: bool = False,
        fills_dead: bool = True,
        value_decay: float | None = None,
        torso: Torso | None = None,
        name: str = "Critic",
    ):
        seeds = itertools.count(seed)
        self._has_one_output = team and "obs" not in inputs
        if self._has_one_output:
            groups = [0]
        torso = torso or Torso(observation_spec, inputs, groups, architecture, seeds)
        super().__init__(input_tensor_spec=observation_spec, state_spec=torso.state_spec, name=name)
        self.torso = torso
        self.team = team
        self.num_values = 1 if team else len(groups)  # K
        self.fills_dead = (fills_dead or team) and len(groups) > 1  # a dead agent's own output is not used
        self._head = Head(groups, 1, architecture.critic_gain, architecture, seeds)
        self._normalizer = None if value_decay is None else RunningNormalizer(1, value_decay, name="normalize_returns")

    def call(self, observation, step_type=None, network_state=(), training=False, decisions=None):
        """Computes the values of one step or of sequences.

        Args:
            observation: dict of tensors [B, ...] or [B, T, ...].
            step_type: [B] or [B, T] int32; the recurrent state is zeroed before first steps.
            network_state: [B, N, H], recurrent state before the first step; () means zeros, or no GRU.
            training: ignored.
            decisions: [D] int32, indices in the flattened [B, N] or [B, T, N]; the values of all other living agents
                are wrong. None computes all; a network with one output always does.
        Returns:
            Values in units of reward, [B, K] or [B, T, K], K being N or 1, and the recurrent state after the last step.
        """
        decisions = None if self._has_one_output else decisions
        features, network_state = self.torso(observation, step_type, network_state, decisions=decisions)
        return self.value(features, observation, decisions), network_state

    def value(
        self, features: tf.Tensor, observation: types.NestedTensor, decisions: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Computes the values from the torso's features.

        Args:
            features: [..., N, H], or [..., 1, H] of a network with one output, or [D, H] with `decisions`.
            observation: dict that holds `alive`, [..., N] bool.
            decisions: [D] int32, indices in the flattened [..., N], whose features these are; None means all.
        Returns:
            Values in units of reward, [..., N] or [..., 1].
        """
        value = self._head(features)
        value = value if decisions is None else spread(value, decisions, observation["alive"].shape)
        value = tf.squeeze(self._normalizer.denormalise(value) if self._normalizer else value, axis=-1)
        if value.shape[-1] == 1:
            return value
        alive = observation["alive"]
        of_living = masked.mean(value, alive, axis=-1, keepdims=True)
        if self.team:
            return of_living
        return tf.where(alive, value, of_living) if self.fills_dead else value

    def normalise(self, value: tf.Tensor) -> tf.Tensor:
        """Converts values or returns to the units that the head learns.

        Args:
            value: tensor of any shape, in units of reward.
        Returns:
            Normalised values, shaped like `value`; `value` itself without normalisation.
        """
        return self._normalizer(value[..., None])[..., 0] if self._normalizer else value

    def observe_returns(self, returns: tf.Tensor, mask: tf.Tensor) -> None:
        """Adds returns to the running statistics, and rescales the last layer so that no value changes (PopArt, eq. 9).

        It does nothing if values are not normalised.

        Args:
            returns: [..., K], in units of reward.
            mask: [..., K] bool, the returns that count.
        """
        if self._normalizer is None:
            return
        mean, std = tf.identity(self._normalizer.mean), self._normalizer.std
        self._normalizer.update(returns[..., None], mask)
        last, new_std = self._head.last, self._normalizer.std
        last.kernel.assign(last.kernel * std / new_std)
        last.bias.assign((last.bias * std + mean - self._normalizer.mean) / new_std)
