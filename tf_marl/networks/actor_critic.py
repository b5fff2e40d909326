"""Both, and what a step of learning costs them."""

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tf_agents.typing import types

from tf_marl.networks.actor import Actor
from tf_marl.networks.critic import Critic


class ActorCritic(tf.Module):
    """Actor and critic in one pass, of a torso of their own each or of one that they share.

    `state_spec` is {"actor": ..., "critic": ...} if they are recurrent, where a shared torso's state is the actor's;
    else it is ().
    """

    def __init__(self, actor: Actor, critic: Critic):
        super().__init__("actor_critic")
        self.actor, self.critic = actor, critic
        self.shares_torso = actor.torso is critic.torso
        self.state_spec: Any = ()
        if actor.state_spec:
            self.state_spec = {"actor": actor.state_spec, "critic": () if self.shares_torso else critic.state_spec}
        actor.create_variables()
        critic.create_variables()

    def __call__(
        self, observation: types.NestedTensor, step_type: tf.Tensor, state: types.NestedTensor
    ) -> tuple[tfd.Independent, tf.Tensor, types.NestedTensor]:
        """Returns: team distribution, values [..., N or 1], the state after the last step."""
        actor_state, critic_state = (state["actor"], state["critic"]) if self.state_spec else ((), ())
        if self.shares_torso:
            features, actor_state = self.actor.torso(observation, step_type, actor_state)
            team, value = self.actor.policy(features, observation), self.critic.value(features, observation)
        else:
            team, actor_state = self.actor(observation, step_type, actor_state)
            value, critic_state = self.critic(observation, step_type, critic_state)
        return team, value, {"actor": actor_state, "critic": critic_state} if self.state_spec else ()


def training_flops(networks: tf.Module) -> int:
    """Floating-point operations of all matrix products in a forward and a backward pass over one row of a rollout."""
    return sum(getattr(layer, "training_flops", 0) for layer in networks.submodules)
