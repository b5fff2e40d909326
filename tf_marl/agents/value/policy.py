"""A team of Q-networks explores by taking random actions now and then."""

from collections.abc import Callable, Sequence

import tensorflow as tf
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.policy import TeamPolicy
from tf_marl.agents.value.networks import TeamValue
from tf_marl.networks import QNetwork
from tf_marl.ops import categorical


class GreedyPolicy(TeamPolicy):
    """Takes each agent's best action, and remembers it for a Q-network that observes the last one.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        q_network: the agents' action values.
        info_spec: of the policy's `info`; () is none.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        q_network: QNetwork,
        info_spec: types.NestedTensorSpec = (),
    ):
        super().__init__(time_step_spec, action_spec, q_network, info_spec=info_spec)
        self._q_network = q_network

    def _action(self, time_step, policy_state, seed=None):
        step = super()._action(time_step, policy_state, seed)
        return step._replace(state=self._q_network.torso.remember(step.state, step.action))


class EpsilonGreedyPolicy(GreedyPolicy):
    """Takes a random available action with probability epsilon, each agent for itself, else the best one.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        team_value: Q-network and mixer.
        epsilon: returns the present probability of a random action, a scalar.
        record: which of these entries the `info` holds. `value`, [B, K], is that of the greedy joint action.
            `policy_state`, [B, N, H], holds the recurrent states before the step.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        team_value: TeamValue,
        epsilon: Callable[[], tf.Tensor],
        record: Sequence[str],
    ):
        self._team_value, self._epsilon, self._record = team_value, epsilon, record
        q_network = team_value.q_network
        specs = {
            "value": tf.TensorSpec([team_value.mixer.num_values], tf.float32, "value"),
            "policy_state": q_network.state_spec,
        }
        info_spec = {name: specs[name] for name in record}
        super().__init__(time_step_spec, action_spec, q_network, info_spec)

    def _distribution(self, time_step, policy_state):
        observation = time_step.observation
        q, after = self._team_value.q_network.values(observation, time_step.step_type, policy_state)
        avail_actions = observation["avail_actions"]
        team = categorical.team_distribution(categorical.epsilon_greedy(q, avail_actions, self._epsilon()))
        info = {"policy_state": policy_state}
        if "value" in self._record:
            info["value"] = self._team_value.of(q, categorical.greedy(q, avail_actions), observation)
        return policy_step.PolicyStep(team, after, {name: info[name] for name in self._record})

    def _variables(self):
        return list(self._team_value.variables)
