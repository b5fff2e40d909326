"""Q-network and mixer rate a team's joint actions together."""

import tensorflow as tf
from tf_agents.typing import types

from tf_marl.networks import QNetwork
from tf_marl.networks.mixers import Mixer


class TeamValue(tf.Module):
    """Holds a Q-network and a mixer, and computes the values of joint actions.

    Args:
        q_network: the agents' action values.
        mixer: turns the values of the agents' own actions into K joint ones.
    """

    def __init__(self, q_network: QNetwork, mixer: Mixer):
        super().__init__("team_value")
        self.q_network, self.mixer = q_network, mixer
        q_network.create_variables()

    def of(self, q: tf.Tensor, action: tf.Tensor, observation: types.NestedTensor) -> tf.Tensor:
        """Computes the joint values of actions.

        Args:
            q: [..., N, A], the agents' action values.
            action: [..., N] int32.
            observation: dict of tensors [..., ...]; the mixer reads `alive` and `state`.
        Returns:
            Joint values, [..., K].
        """
        chosen = tf.reduce_sum(q * tf.one_hot(action, q.shape[-1], dtype=q.dtype), axis=-1)
        return self.mixer(chosen, observation)
