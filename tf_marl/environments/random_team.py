"""A team that takes any available action: what a trained one is compared with, in every world."""

import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step


class RandomTeam(tf_policy.TFPolicy):
    """Takes one of the available actions of each agent, all with the same probability.

    Args:
        time_step_spec: the world's.
        action_spec: the world's.
    """

    def _variables(self):
        return []

    def _action(self, time_step, policy_state, seed=None):
        available = time_step.observation["avail_actions"]  # [B, N, A]
        shape = tf.shape(available)
        noise = tf.random.uniform(shape) if seed is None else tf.random.stateless_uniform(shape, seed)
        action = tf.argmax(tf.where(available, noise, -1.0), axis=-1, output_type=tf.int32)
        return policy_step.PolicyStep(action, policy_state, ())
