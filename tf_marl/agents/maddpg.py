"""MADDPG improves each agent's policy by the gradient of a centralised critic in its action.

    y_t = TD(lambda) return of  Q'(s, a'),  a' drawn from the target policies            Lowe et al. 2017, eq. 6
    critic: mean of (y_t - Q(s_t, a_t))^2
    policies: mean over agents k of  Q(s_t, (a_-k, mu_k(o_k)))  is raised                eq. 5

Actions are discrete: mu_k draws a one-hot action, through which the gradient passes as through a softmax (Jang et al.
2017). Team mates' actions a_-k are those of the replay. All agents receive the team's reward, so one critic serves all.

Shapes: B environments, T steps, N agents, A actions; S sequences in a gradient step.
"""

from collections.abc import Sequence
from typing import Any

import gin
import numpy as np
import pydantic
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.exploration import ExploringPolicy, Fraction
from tf_marl.agents.learner import Metrics
from tf_marl.agents.off_policy import OffPolicyConfig, OffPolicyLearner, Share, priority, widths
from tf_marl.agents.optimizers import adam, follow
from tf_marl.agents.policy import TeamPolicy
from tf_marl.agents.replay import Sequences
from tf_marl.compile import graph, shards
from tf_marl.config import STRICT, Count, naming
from tf_marl.networks import Actor
from tf_marl.networks.joint_action_critic import TeamActionCritic
from tf_marl.ops import categorical, masked, returns

_NORMS = ("grad_norm/actor", "grad_norm/critic")


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class MaddpgConfig(OffPolicyConfig):
    """Holds the settings of MADDPG: those of all off-policy learners, and these."""

    lambda_: Fraction = 0.0  # TD(lambda)'s trace decay per env step; 0 is the paper's one-step return
    actor_learning_rate: pydantic.PositiveFloat = 5e-4  # of Adam
    critic_learning_rate: pydantic.PositiveFloat = 5e-4  # of Adam
    temperature: pydantic.PositiveFloat = 1.0  # of the softmax that gradients pass through
    logit_penalty: pydantic.NonNegativeFloat = 1e-3  # on the mean square of the logits of available actions
    target_rate: Share = 0.01
    target_every: Count = 1


class MaddpgAgent(OffPolicyLearner):
    """Learns by MADDPG; all agents share their weights.

    `policy` takes each agent's most probable action, `collect_policy` draws, and mixes in random actions. `learn` gives
    `loss/policy`, the mean value of the agents' actions with its sign changed; `loss/value`; `loss/entropy` (nats);
    `grad_norm/actor` and `grad_norm/critic`, the gradients' norms before clipping; `value/chosen` and `value/target`,
    the values of the joint actions taken and what they are fitted to; and `value/epsilon`.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        config: all settings.
    """

    config: MaddpgConfig
    recorded = ("loss/policy", "loss/value", "loss/entropy", "value/chosen", "value/target", *_NORMS)

    def __init__(self, time_step_spec: ts.TimeStep, action_spec: types.NestedTensorSpec, config: MaddpgConfig):
        observation_spec, everyone = time_step_spec.observation, [0] * action_spec.shape[0]
        seeds = [int(seed) for seed in np.random.SeedSequence(config.seed).generate_state(2)]
        self.actor, self.target_actor = (Actor(observation_spec, everyone, config, seeds[0]) for _ in range(2))
        self.actor.create_variables()
        self.target_actor.create_variables()
        self.critic, self.target_critic = (TeamActionCritic(observation_spec, config, seeds[1]) for _ in range(2))
        spec = (time_step_spec, action_spec)
        super().__init__(
            "maddpg",
            config,
            *spec,
            policy=TeamPolicy(*spec, self.actor, greedy=True),
            collect_policy=ExploringPolicy(*spec, self.actor, self.epsilon),
            weights={"actor": self.actor, "critic": self.critic},
        )
        self._learning = [self.actor.trainable_variables, list(self.critic.trainable_variables)]
        rates = config.actor_learning_rate, config.critic_learning_rate
        self.optimizers = [adam(*pair, config.adam_epsilon) for pair in zip(rates, self._learning, strict=True)]
        self._gradients = graph.function(self._gradients_of_shard, jit_compile=True)

    def observe(self, new: Sequences) -> None:
        decides = ~new.boundary
        self.actor.torso.observe(new.before, decides[..., None] & new.before["alive"])
        self.critic.observe(new.before["state"], decides)

    def gradient_step(self, batch: Sequences, weight: tf.Tensor, seed: tf.Tensor) -> tuple[Metrics, tf.Tensor]:
        steps, decisions = (tf.cast(learns, tf.float32) for learns in self._learns(batch))
        counted = [tf.reduce_sum(weight[:, None] * rows) for rows in (steps, tf.reduce_sum(decisions, axis=-1))]
        share = tf.math.divide_no_nan(weight[:, None], tf.stack(counted))
        noise = categorical.gumbel([2, *batch.observation["avail_actions"].shape], seed)
        parts = shards.side_by_side(self._gradients, batch, share, noise[0], noise[1, :, :-1])
        summed, priorities = zip(*parts, strict=True)
        told, gradients = tf.nest.map_structure(lambda *leaves: tf.add_n(leaves), *summed)
        norms = [self.step(*of_network) for of_network in zip(self.optimizers, gradients, self._learning, strict=True)]
        target_share = self.target_share()
        follow(self.target_actor, self.actor, target_share)
        follow(self.target_critic, self.critic, target_share)
        return told | dict(zip(_NORMS, norms, strict=True)), tf.concat(priorities, axis=0)

    def _gradients_of_shard(
        self, batch: Sequences, share: tf.Tensor, target_noise: tf.Tensor, noise: tf.Tensor
    ) -> tuple[tuple[Metrics, list[list[tf.Tensor]]], tf.Tensor]:
        """Returns what some of a batch's sequences contribute to its means, and to the actor's and critic's gradients.

        Their priorities, [S], come last.

        Args:
            batch: these sequences, [S, T, ...].
            share: [S, 2], weights of each of their steps and decisions in the means.
            target_noise: [S, T + 1, N, A], Gumbel noise for the target policies' actions.
            noise: [S, T, N, A], for the agents' actions.
        """
        of_steps, of_decisions = self._learns(batch)
        state, available = batch.before["state"], batch.before["avail_actions"]
        taken = tf.one_hot(batch.action, available.shape[-1])

        def mean(x: tf.Tensor) -> tf.Tensor:
            if len(x.shape) == 2:
                return tf.reduce_sum(tf.where(of_steps, x, 0.0) * share[:, :1])
            return tf.reduce_sum(tf.where(of_decisions, x, 0.0) * share[:, 1:, None])

        target = self.returns(batch, target_noise)
        with tf.GradientTape() as tape:
            chosen = self.critic(state, taken[..., None, :, :])[..., 0]
            value_loss = mean(tf.square(target - chosen))
        critic_gradients = tape.gradient(value_loss, self._learning[1])
        own = tf.eye(taken.shape[-2])[..., None]  # [N, N, 1]
        with tf.GradientTape() as tape:
            agents = _policies(self.actor, batch.before, batch.step_type[:, :-1], batch.state)
            logits = agents.logits_parameter()
            drawn = categorical.straight_through(logits, noise, self.config.temperature)
            joint = own * drawn[..., None, :, :] + (1.0 - own) * taken[..., None, :, :]  # [S, T, N, N, A]
            policy_loss = -mean(self.critic(state, joint))
            penalty = mean(masked.mean(tf.square(logits), available, axis=-1))
            objective = policy_loss + self.config.logit_penalty * penalty
        told = {
            "loss/policy": policy_loss,
            "loss/value": value_loss,
            "loss/entropy": mean(agents.entropy()),
            "value/chosen": mean(chosen),
            "value/target": mean(target),
        }
        gradients = [tape.gradient(objective, self._learning[0]), critic_gradients]
        return (told, gradients), priority(target - chosen, of_steps)

    def returns(self, batch: Sequences, noise: tf.Tensor) -> tf.Tensor:
        """Computes the returns that the critic is fitted to.

        Args:
            batch: [S, T, ...].
            noise: [S, T + 1, N, A], Gumbel noise, by which the target policies' actions are drawn.
        Returns:
            Returns, [S, T]; values of boundaries are of no use.
        """
        agents = _policies(self.target_actor, batch.observation, batch.step_type, batch.state)
        drawn = categorical.straight_through(agents.logits_parameter(), noise, self.config.temperature)
        value = self.target_critic(batch.observation["state"], drawn[..., None, :, :])[..., 0]
        value, bootstrap = value[:, :-1], value[:, -1]
        rows = batch.reward, batch.discount, value, bootstrap, self.config.gamma
        return returns.gae(*rows, self.config.lambda_, batch.boundary) + value

    def _learns(self, batch: Sequences) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns which steps, [S, T] bool, and which decisions, [S, T, N] bool, count: those of the living."""
        decisions = self.counts(batch)[..., None] & batch.before["alive"]
        return tf.reduce_any(decisions, axis=-1), decisions

    def outputs_per_row(self) -> int:
        num_agents, num_actions = self.time_step_spec.observation["avail_actions"].shape
        joint_actions = num_agents * (num_agents * num_actions + widths(self.critic.trainable_variables))
        return super().outputs_per_row() + joint_actions


def _policies(actor: Actor, observation: types.NestedTensor, step_type: tf.Tensor, state: Any) -> Any:
    """Returns the agents' own policies, batch shape [S, T, N]; `state` are the recurrent states before, or ()."""
    team, _ = actor(observation, step_type=step_type, network_state=state)
    return categorical.agent_distribution(team)


@gin.configurable(denylist=["time_step_spec", "action_spec", "seed", "unit_types"])
def maddpg(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    **options: Any,
) -> MaddpgAgent:
    """Makes a team that learns by MADDPG (Lowe et al. 2017) for discrete actions.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: ignored, because all agents share their weights.
        **options: fields of `MaddpgConfig`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    del unit_types
    with naming("maddpg"):
        config = MaddpgConfig(**options)
    return MaddpgAgent(time_step_spec, action_spec, config)
