"""The team's policy as TF-Agents knows policies."""

import tensorflow as tf
from tf_agents.networks import network
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.ops import categorical


class TeamPolicy(tf_policy.TFPolicy):
    """Every agent acts by its own distribution: samples from it, or takes its mode.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        actor: observation -> team distribution.
        greedy: whether to take the most probable action (the first of equals).
        record_logits: whether `info` carries the masked `logits` [B, N, A] that acted, from which a learner knows the
            old policy in full.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        actor: network.Network,
        greedy: bool = False,
        record_logits: bool = False,
    ):
        self._actor = actor
        self._greedy = greedy
        self._record_logits = record_logits
        shape = time_step_spec.observation["avail_actions"].shape
        super().__init__(
            time_step_spec,
            action_spec,
            policy_state_spec=actor.state_spec,
            info_spec={"logits": tf.TensorSpec(shape, tf.float32, "logits")} if record_logits else (),
            clip=False,
        )

    def _variables(self):
        return self._actor.variables

    def _distribution(self, time_step, policy_state):
        team, policy_state = self._actor(
            time_step.observation, step_type=time_step.step_type, network_state=policy_state
        )
        info = {"logits": categorical.agent_distribution(team).logits_parameter()} if self._record_logits else ()
        return policy_step.PolicyStep(team, policy_state, info)

    def _action(self, time_step, policy_state, seed=None):
        """Args: seed [2] int32, or None to draw from TensorFlow's global generator."""
        step = self._distribution(time_step, policy_state)
        action = step.action.mode() if self._greedy else step.action.sample(seed=seed)
        return step._replace(action=action)
