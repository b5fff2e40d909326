"""Who judges."""

import itertools
from collections.abc import Sequence

import tensorflow as tf
from tf_agents.networks import network
from tf_agents.typing import types

from tf_marl.networks.architecture import Architecture
from tf_marl.networks.head import Head
from tf_marl.networks.normalizer import RunningNormalizer
from tf_marl.networks.torso import Torso
from tf_marl.ops import masked


class Critic(network.Network):
    """Values of what the team awaits: one per agent, [..., N], or one for the team, [..., 1].

    Args:
        observation_spec: of one environment.
        groups: [N], as in `AgentDense`.
        architecture: sizes.
        seed: of the initial weights.
        inputs: `obs`, what the agent sees; `state`, of the whole battle; or both.
        team: one value for the team: from `state` alone that is the network's only one, else the mean over the living.
        fills_dead: a dead agent's value is the mean of its living team mates', who await the same team reward; so the
            critic may learn from the living alone.
        value_decay: None, or the head learns returns brought to mean 0 and variance 1 by running statistics with that
            decay per update (PopArt: van Hasselt et al. 2016).
        torso: an actor's, to share; by default the critic has its own.
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
        if team and "obs" not in inputs:
            groups = [0]
        torso = torso or Torso(observation_spec, inputs, groups, architecture, seeds)
        super().__init__(input_tensor_spec=observation_spec, state_spec=torso.state_spec, name=name)
        self.torso = torso
        self.team = team
        self.num_values = 1 if team else len(groups)  # K
        self._fills_dead = fills_dead
        self._head = Head(groups, 1, architecture.critic_gain, architecture, seeds)
        self._normalizer = None if value_decay is None else RunningNormalizer(1, value_decay, name="normalize_returns")

    def call(self, observation, step_type=None, network_state=(), training=False):
        """Observation dict [B, ...] or [B, T, ...] -> values [..., N or 1]."""
        features, network_state = self.torso(observation, step_type, network_state)
        return self.value(features, observation), network_state

    def value(self, features: tf.Tensor, observation: types.NestedTensor) -> tf.Tensor:
        """The rest of `call`, after the torso."""
        value = self._head(features)
        value = tf.squeeze(self._normalizer.denormalise(value) if self._normalizer else value, axis=-1)
        if value.shape[-1] == 1:
            return value
        alive = observation["alive"]
        of_living = masked.mean(value, alive, axis=-1, keepdims=True)
        if self.team:
            return of_living
        return tf.where(alive, value, of_living) if self._fills_dead else value

    def normalise(self, value: tf.Tensor) -> tf.Tensor:
        """Values or returns in the units that the head learns. Any shape."""
        return self._normalizer(value[..., None])[..., 0] if self._normalizer else value

    def observe_returns(self, returns: tf.Tensor, mask: tf.Tensor) -> None:
        """Takes returns into the statistics and the last layer along, so that no value changes (PopArt, eq. 9).

        Args:
            returns: [..., N or 1].
            mask: shaped like `returns`, bool; those that count.
        """
        if self._normalizer is None:
            return
        mean, std = tf.identity(self._normalizer.mean), self._normalizer.std
        self._normalizer.update(returns[..., None], mask)
        last, new_std = self._head.last, self._normalizer.std
        last.kernel.assign(last.kernel * std / new_std)
        last.bias.assign((last.bias * std + mean - self._normalizer.mean) / new_std)
