"""REINFORCE with a baseline takes one step of the plain policy gradient per rollout: a minimal learner.

    gradient of   sum_k log pi_k(a_k | o_k) (G - V)         Williams 1992; the baseline, Sutton & Barto 2018, 13.4

G is the discounted return of the rest of the episode. Where a rollout ends before its episode, the baseline's value of
the last observation stands for the rewards after it. The learner is a yardstick for what PPO adds, and a template: a
learner of your own needs no more than this file and its gin file.
"""

from collections.abc import Sequence
from typing import Any

import gin
import numpy as np
import pydantic
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.learner import Learner, Metrics, Rollout
from tf_marl.agents.optimizers import adam
from tf_marl.agents.policy import RecordingPolicy, TeamPolicy
from tf_marl.config import STRICT, fields, naming
from tf_marl.networks import Actor, ActorCritic, Architecture, Critic
from tf_marl.ops import categorical, masked, returns


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class ReinforceConfig(Architecture):
    """Holds the settings of REINFORCE: those of the networks' architecture, and these."""

    gamma: float = pydantic.Field(default=0.99, ge=0, le=1)  # per env step
    entropy_coefficient: pydantic.NonNegativeFloat = 0.01  # nats
    learning_rate: pydantic.PositiveFloat = 3e-3  # of Adam, for policy and baseline alike
    max_grad_norm: pydantic.PositiveFloat = 0.5  # for policy and baseline separately
    seed: pydantic.NonNegativeInt = 0  # of the weights

    @pydantic.model_validator(mode="after")
    def _has_no_memory(self):
        if self.rnn != "none":
            raise ValueError('rnn: only "none"; recurrent teams learn by ppo')
        return self


class ReinforceAgent(Learner):
    """Learns by the plain policy gradient; all agents share their weights.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        config: all settings.
    """

    def __init__(self, time_step_spec: ts.TimeStep, action_spec: types.NestedTensorSpec, config: ReinforceConfig):
        self.config = config
        seeds = [int(seed) for seed in np.random.SeedSequence(config.seed).generate_state(2)]
        everyone = [0] * action_spec.shape[0]  # one group: all share weights
        self.actor = Actor(time_step_spec.observation, everyone, config, seeds[0])
        self.baseline = Critic(time_step_spec.observation, everyone, config, seeds[1], inputs=["state"])
        networks = ActorCritic(self.actor, self.baseline)
        super().__init__(
            time_step_spec,
            action_spec,
            policy=TeamPolicy(time_step_spec, action_spec, self.actor, greedy=True),
            collect_policy=TeamPolicy(time_step_spec, action_spec, self.actor),
            weights={"actor": self.actor, "baseline": self.baseline},
            watched_policy=RecordingPolicy(time_step_spec, action_spec, networks, ["value"], greedy=True),
        )
        of_each = self.actor.trainable_variables, self.baseline.trainable_variables
        self._optimizers = [adam(config.learning_rate, variables) for variables in of_each]

    def learn(self, rollout: Rollout) -> Metrics:
        """Takes one gradient step for the policy and one for the baseline.

        Args:
            rollout: fresh experience, tensors [B, T, ...].
        Returns:
            Scalars `loss/policy`, `loss/value`, `loss/entropy` (nats), and the gradients' norms before clipping,
            `grad_norm/actor` and `grad_norm/baseline`.
        """
        experience, final = rollout
        learns = ~experience.is_boundary()[..., None] & experience.observation["alive"]  # [B, T, N]
        bootstrap, _ = self.baseline(final.observation, step_type=final.step_type)
        with tf.GradientTape(persistent=True) as tape:
            team, _ = self.actor(experience.observation, step_type=experience.step_type)
            value, _ = self.baseline(experience.observation, step_type=experience.step_type)
            agents = categorical.agent_distribution(team)
            # With a trace decay of 1, the advantage is the return of the rest of the episode minus the baseline.
            advantage = tf.stop_gradient(
                returns.gae(
                    experience.reward,
                    experience.discount,
                    value,
                    bootstrap,
                    self.config.gamma,
                    1.0,
                    boundary=experience.is_boundary(),
                )
            )
            gain = agents.log_prob(experience.action) * masked.normalise(advantage, learns)
            policy_loss, entropy = -masked.mean(gain, learns), masked.mean(agents.entropy(), learns)
            objective = policy_loss - self.config.entropy_coefficient * entropy
            value_loss = masked.mean(0.5 * tf.square(value - tf.stop_gradient(value + advantage)), learns)
        metrics = {"loss/policy": policy_loss, "loss/value": value_loss, "loss/entropy": entropy}
        losses = {"actor": objective, "baseline": value_loss}
        for (name, loss), optimizer in zip(losses.items(), self._optimizers, strict=True):
            network: Any = self.weights[name]
            variables = network.trainable_variables
            gradients = tape.gradient(loss, variables)
            gradients, metrics[f"grad_norm/{name}"] = tf.clip_by_global_norm(gradients, self.config.max_grad_norm)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
        for torso in dict.fromkeys([self.actor.torso, self.baseline.torso]):
            torso.observe(experience.observation, learns)
        self.train_step_counter.assign_add(1)
        return metrics

    @property
    def learning_variables(self) -> list[tf.Variable]:
        return [*self.variables, *(variable for optimizer in self._optimizers for variable in optimizer.variables())]

    def settings(self) -> dict[str, Any]:
        options = fields("reinforce", self.config)
        del options["reinforce.seed"]  # recorded as the run's seed
        return options

    def memory_per_row(self) -> float:
        return 2.0 * sum(weight.shape[-1] for weight in self.variables if weight.shape.rank > 1)


@gin.configurable(denylist=["time_step_spec", "action_spec", "seed", "unit_types"])
def reinforce(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    **options: Any,
) -> ReinforceAgent:
    """Makes a team that learns by REINFORCE with a baseline, which sees the state.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: ignored, because all agents share their weights.
        **options: fields of `ReinforceConfig`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    del unit_types
    with naming("reinforce"):
        config = ReinforceConfig(**options)
    return ReinforceAgent(time_step_spec, action_spec, config)
