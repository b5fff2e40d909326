"""Actor and critic run together in one pass."""

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tf_agents.typing import types

from tf_marl.compile import graph
from tf_marl.networks.actor import Actor
from tf_marl.networks.critic import Critic


class ActorCritic(tf.Module):
    """Holds actor and critic and evaluates both in one pass; they have a torso each or share one.

    For recurrent networks `state_spec` is {"actor": ..., "critic": ...}, each [N, H]; with a shared torso the actor's
    state serves both and "critic" is (). For feed-forward networks `state_spec` is ().

    Args:
        actor: network of the team policy.
        critic: network of the values; its torso may be the actor's. None leaves the values out: they are None then.
    """

    def __init__(self, actor: Actor, critic: Critic | None = None):
        super().__init__("actor_critic")
        self.actor, self.critic = actor, critic
        self.shares_torso = critic is not None and actor.torso is critic.torso
        self.state_spec: Any = ()
        if actor.state_spec:
            self.state_spec = {"actor": actor.state_spec, "critic": ()}
            if critic is not None and not self.shares_torso:
                self.state_spec["critic"] = critic.state_spec
        torsos = [network.torso for network in (actor, critic) if network is not None]
        self._can_skip = not actor.state_spec and all(torso.shares_weights for torso in torsos)
        for network in (actor, critic):
            if network is not None:
                network.create_variables()

    def decisions(self, mask: tf.Tensor) -> tf.Tensor | None:
        """Returns the decisions to compute if only some count; in a battle a third do not.

        Args:
            mask: [B, N] or [B, T, N] bool, the decisions that count.
        Returns:
            Their indices in the flattened mask, [D] int32; or None, which stands for all, where nothing can be left
            out: with recurrent networks, which need every step, with agents that have weights of their own, and in
            programs of XLA.
        """
        if not self._can_skip or graph.is_for_xla():
            return None
        return tf.cast(tf.where(tf.reshape(mask, [-1]))[:, 0], tf.int32)

    def __call__(
        self, observation: types.NestedTensor, step_type: tf.Tensor, state: types.NestedTensor
    ) -> tuple[tfd.Independent, tf.Tensor | None, types.NestedTensor]:
        """Evaluates both networks on one step, [B, ...], or on sequences, [B, T, ...].

        Args:
            observation: dict of tensors [B, ...] or [B, T, ...], as in the observation spec.
            step_type: [B] or [B, T] int32; recurrent states start anew at first steps.
            state: recurrent states before the first step, [B, N, H] each, shaped like `state_spec`.
        Returns:
            The team distribution, batch shape [B] or [B, T] and event shape [N]; the values, [B, K] or [B, T, K], K
            being N or 1; and the recurrent states after the last step, shaped like `state`.
        """
        actor_state, critic_state = (state["actor"], state["critic"]) if self.state_spec else ((), ())
        critic, value = self.critic, None
        if critic is not None and self.shares_torso:
            features, actor_state = self.actor.torso(observation, step_type, actor_state)
            team, value = self.actor.policy(features, observation), critic.value(features, observation)
        else:
            team, actor_state = self.actor(observation, step_type, actor_state)
            if critic is not None:
                value, critic_state = critic(observation, step_type, critic_state)
        return team, value, {"actor": actor_state, "critic": critic_state} if self.state_spec else ()

    def of_decisions(
        self, decisions: tf.Tensor, observation: types.NestedTensor
    ) -> tuple[tfd.Categorical, tf.Tensor | None]:
        """Evaluates both networks for some decisions alone.

        Args:
            decisions: [D] int32, indices in the flattened [B, N] or [B, T, N], from `decisions`.
            observation: dict of tensors [B, ...] or [B, T, ...], as in the observation spec.
        Returns:
            The agents' own policies, batch shape [D]; and values, [B, K] or [B, T, K], K being N or 1, which are wrong
            for other agents that live.
        """
        features, _ = self.actor.torso(observation, decisions=decisions)
        agents = self.actor.policies_of(decisions, features, observation)
        if self.critic is None:
            return agents, None
        if self.shares_torso:
            return agents, self.critic.value(features, observation, decisions)
        return agents, self.critic(observation, decisions=decisions)[0]


def training_flops(networks: tf.Module) -> int:
    """Counts the floating-point operations of all matrix products in one forward and backward pass.

    Args:
        networks: module whose layers have been built.
    Returns:
        Operations per row of a rollout, that is per env step of one environment.
    """
    return sum(getattr(layer, "training_flops", 0) for layer in networks.submodules)
