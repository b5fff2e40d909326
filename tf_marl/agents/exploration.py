"""Learners that explore by random actions take fewer and fewer of them."""

from collections.abc import Callable
from typing import Annotated

import pydantic
import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.policy import TeamPolicy
from tf_marl.config import STRICT, Count
from tf_marl.networks import Actor
from tf_marl.ops import categorical

Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Exploration:
    """Holds the settings of epsilon, the probability of a random action, which falls linearly with the env steps."""

    epsilon_start: Fraction = 1.0
    epsilon_end: Fraction = 0.05
    epsilon_env_steps: Count = 100_000  # env steps until it has fallen

    def epsilon(self, env_steps: tf.Tensor) -> tf.Tensor:
        """Returns the probability of a random action, a scalar.

        Args:
            env_steps: scalar integer, what the learner has learned from so far.
        """
        share = tf.minimum(tf.cast(env_steps, tf.float32) / self.epsilon_env_steps, 1.0)
        return self.epsilon_start + share * (self.epsilon_end - self.epsilon_start)


def explored(team: tfd.Independent, avail_actions: tf.Tensor, epsilon: "tf.Tensor | float") -> tf.Tensor:
    """Returns the masked logits, [..., N, A], of a team's policies mixed with random actions.

    Args:
        team: the team distribution, batch shape [...].
        avail_actions: [..., N, A] bool.
        epsilon: probability of a random action, a scalar.
    """
    probabilities = categorical.agent_distribution(team).probs_parameter()
    return categorical.with_random(probabilities, avail_actions, epsilon)


class ExploringPolicy(TeamPolicy):
    """Samples from the agents' policies, mixed with random actions; its `info` holds `policy_state`, [B, N, H].

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        actor: network from observations to the team distribution.
        epsilon: returns the present probability of a random action, a scalar.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        actor: Actor,
        epsilon: Callable[[], tf.Tensor],
    ):
        self._epsilon = epsilon
        super().__init__(time_step_spec, action_spec, actor, info_spec={"policy_state": actor.state_spec})

    def _distribution(self, time_step, policy_state):
        step = super()._distribution(time_step, policy_state)
        logits = explored(step.action, time_step.observation["avail_actions"], self._epsilon())
        return policy_step.PolicyStep(categorical.team_distribution(logits), step.state, {"policy_state": policy_state})
