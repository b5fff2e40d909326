"""A Q-network gives the value of each action of each agent; as an actor, it takes the best one."""

from typing import Any

import tensorflow as tf
from tf_agents.typing import types

from tf_marl.networks.actor import Actor
from tf_marl.ops import categorical


class QNetwork(Actor):
    """Computes action values Q_k(o_k, a), which depend only on agent k's own observations and its id.

    It is built as an actor is. The team distribution that it gives puts all probability on each agent's best available
    action, so whatever plays or exports an actor plays or exports the greedy policy.
    """

    def values(
        self,
        observation: types.NestedTensor,
        step_type: tf.Tensor,
        network_state: Any = (),
        action: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, Any]:
        """Computes the action values of one step or of sequences.

        Args:
            observation: dict of tensors [B, ...] or [B, T, ...].
            step_type: [B] or [B, T] int32; the recurrent state is zeroed before first steps.
            network_state: [B, N, H], recurrent state before the first step; () means zeros, or no GRU.
            action: [B, T - 1, N] int32, the actions of all but the last step, which sequences need if the network
                observes the last action; else it is ignored.
        Returns:
            Action values in units of reward, [B, N, A] or [B, T, N, A], those of unavailable actions among them; and
            the recurrent state after the last step.
        """
        features, network_state = self.torso(observation, step_type, network_state, action=action)
        return self._head(features), network_state

    def logits(self, outputs: tf.Tensor, avail_actions: tf.Tensor) -> tf.Tensor:
        greedy = categorical.epsilon_greedy(outputs, avail_actions)
        # Values that overflow must not pass for a choice: exported policies refuse NaN.
        return tf.where(tf.reduce_all(tf.math.is_finite(outputs), axis=-1, keepdims=True), greedy, float("nan"))
