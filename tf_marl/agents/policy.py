"""The team acts by a TF-Agents policy, which samples or takes the most probable action of each agent."""

from collections.abc import Sequence

import tensorflow as tf
from tf_agents.networks import network
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.networks import ActorCritic
from tf_marl.ops import categorical


class TeamPolicy(tf_policy.TFPolicy):
    """Plays each agent by its own action distribution: samples from it, or takes its most probable action.

    It needs only the actor, so it can be deployed. Its policy state is the recurrent state of the actor, [B, N, H], or
    () without a GRU.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        actor: network from observations to the team distribution.
        greedy: whether to take the most probable action, the first of equally probable ones, instead of sampling.
        policy_state_spec: of the policy state; None takes the actor's.
        info_spec: of the policy's `info`; () is none.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        actor: network.Network,
        greedy: bool = False,
        policy_state_spec: types.NestedTensorSpec | None = None,
        info_spec: types.NestedTensorSpec = (),
    ):
        self._actor = actor
        self._greedy = greedy
        super().__init__(
            time_step_spec,
            action_spec,
            policy_state_spec=actor.state_spec if policy_state_spec is None else policy_state_spec,
            info_spec=info_spec,
            clip=False,
        )

    def _variables(self):
        return self._actor.variables

    def _distribution(self, time_step, policy_state):
        team, policy_state = self._actor(
            time_step.observation, step_type=time_step.step_type, network_state=policy_state
        )
        return policy_step.PolicyStep(team, policy_state, ())

    def _action(self, time_step, policy_state, seed=None):
        """Chooses the actions, int32 [B, N].

        Args:
            time_step: [B, ...].
            policy_state: [B, ...], as in the policy state's spec.
            seed: [2] int32; None draws from TensorFlow's global generator.
        """
        step = self._distribution(time_step, policy_state)
        action = step.action.mode() if self._greedy else step.action.sample(seed=seed)
        return step._replace(action=action)


class RecordingPolicy(TeamPolicy):
    """Plays as `TeamPolicy` does, and records logits, values or recurrent states in its `info`.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        networks: actor and critic.
        record: which of these entries the `info` holds. `logits`, [B, N, A], are the masked logits that acted, so a
            learner knows the whole old policy. `value`, [B, K], is the critic's, K being N or 1. `policy_state` holds
            the recurrent states before the step, [B, N, H] each, so a learner can start a sequence at any row.
        greedy: whether to take the most probable action instead of sampling.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        networks: ActorCritic,
        record: Sequence[str],
        greedy: bool = False,
    ):
        self._networks = networks
        self._record = record
        avail_actions = time_step_spec.observation["avail_actions"]
        assert networks.critic is not None
        num_values = networks.critic.num_values
        specs = {
            "logits": tf.TensorSpec(avail_actions.shape, tf.float32, "logits"),
            "value": tf.TensorSpec([num_values], tf.float32, "value"),
            "policy_state": networks.state_spec,
        }
        super().__init__(
            time_step_spec,
            action_spec,
            networks.actor,
            greedy,
            policy_state_spec=networks.state_spec,
            info_spec={name: specs[name] for name in record},
        )

    def _variables(self):
        return [*self._networks.actor.variables, *self._networks.critic.variables]

    def _distribution(self, time_step, policy_state):
        team, value, after = self._networks(time_step.observation, time_step.step_type, policy_state)
        info = {
            "logits": categorical.agent_distribution(team).logits_parameter(),
            "value": value,
            "policy_state": policy_state,
        }
        return policy_step.PolicyStep(team, after, {name: info[name] for name in self._record})
