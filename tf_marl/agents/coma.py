"""COMA credits each agent with what its own action added, while its team mates do what they did.

    A_k = Q(s, a) - sum_b pi_k(b | h_k) Q(s, (a_-k, b))         Foerster et al. 2018, eq. 4
    gradient of  sum_k A_k log pi_k(a_k | h_k)

The critic is fitted to TD(lambda) returns of a target network's values of the actions taken. The agents' policies are
mixed with random actions, fewer and fewer of them. Learning is on-policy, from the same rollouts as PPO's.

Shapes: B environments, T steps, N agents, A actions. A rollout is B sequences of T rows (`agents/replay.py`).
"""

from collections.abc import Sequence
from typing import Any

import gin
import numpy as np
import pydantic
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.exploration import Exploration, ExploringPolicy, Fraction, explored
from tf_marl.agents.learner import Learner, Metrics, Rollout
from tf_marl.agents.optimizers import adam, follow
from tf_marl.agents.policy import TeamPolicy
from tf_marl.agents.replay import Sequences, sequences
from tf_marl.compile import graph, shards
from tf_marl.config import STRICT, Count, fields, naming
from tf_marl.networks import Actor, Architecture
from tf_marl.networks.joint_action_critic import JointActionCritic
from tf_marl.ops import categorical, masked, returns


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class ComaConfig(Architecture, Exploration):
    """Holds the settings of COMA: those of the networks' architecture and of exploration, and these."""

    epsilon_start: Fraction = 0.5
    epsilon_end: Fraction = 0.01
    gamma: Fraction = 0.99  # per env step
    lambda_: Fraction = 0.8  # TD(lambda)'s trace decay per env step
    actor_learning_rate: pydantic.PositiveFloat = 5e-4  # of Adam
    critic_learning_rate: pydantic.PositiveFloat = 5e-4  # of Adam
    max_grad_norm: pydantic.PositiveFloat = 10.0  # of each network by itself
    num_critic_steps: Count = 8  # the critic's gradient steps per rollout; the actor takes one
    target_every: Count = 20  # rollouts between two copies of the critic to the target network
    seed: pydantic.NonNegativeInt = 0  # of the weights, and of the actions that are drawn to bootstrap from


def counterfactual_advantage(q: tf.Tensor, logits: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """Computes how much better an agent's action is than its policy's average, while its team mates do what they did.

        A_k = Q(s, a) - sum_b pi_k(b | h_k) Q(s, (a_-k, b))         Foerster et al. 2018, eq. 4

    Args:
        q: [..., N, A], values of each agent's actions, given its team mates'.
        logits: [..., N, A], masked, of the agents' policies.
        action: [..., N] int32, the joint action.
    Returns:
        Advantages, [..., N], whose mean under the agent's policy is 0.
    """
    baseline = tf.reduce_sum(tf.nn.softmax(logits) * q, axis=-1)
    return _of_action(q, action) - baseline


class ComaAgent(Learner):
    """Learns by COMA; all agents share their weights.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        config: all settings.
    """

    def __init__(self, time_step_spec: ts.TimeStep, action_spec: types.NestedTensorSpec, config: ComaConfig):
        self.config = config
        seeds = [int(seed) for seed in np.random.SeedSequence(config.seed).generate_state(2)]
        observation_spec = time_step_spec.observation
        self.actor = Actor(observation_spec, [0] * action_spec.shape[0], config, seeds[0])
        self.actor.create_variables()
        self.critic, self.target = (JointActionCritic(observation_spec, config, seeds[1]) for _ in range(2))
        self._env_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="env_steps")
        super().__init__(
            time_step_spec,
            action_spec,
            policy=TeamPolicy(time_step_spec, action_spec, self.actor, greedy=True),
            collect_policy=ExploringPolicy(time_step_spec, action_spec, self.actor, self.epsilon),
            weights={"actor": self.actor, "critic": self.critic},
        )
        self._optimizers = [
            adam(config.actor_learning_rate, self.actor.trainable_variables),
            adam(config.critic_learning_rate, self.critic.trainable_variables),
        ]
        compiled = graph.function(jit_compile=config.rnn != "none")
        self._compiled_logits, self._actor_gradients = compiled(self._logits), compiled(self._gradients_of_shard)

    def epsilon(self) -> tf.Tensor:
        """Returns the present probability of a random action, a scalar."""
        return self.config.epsilon(self._env_steps)

    def learn(self, rollout: Rollout) -> Metrics:
        """Fits the critic in some gradient steps, then takes one for the policy.

        Args:
            rollout: fresh experience, tensors [B, T, ...].
        Returns:
            Scalars `loss/policy`, `loss/value` (the mean over the critic's steps), `loss/entropy` (nats), the
            gradients' norms before clipping, `grad_norm/actor` and `grad_norm/critic`, and `value/epsilon`, the
            probability of a random action in the rollout.
        """
        rows, config = sequences(rollout), self.config
        epsilon = self.epsilon()
        learns = ~rows.boundary[..., None] & rows.before["alive"]  # [B, T, N]
        logits = shards.on_rows(self._compiled_logits, rows)  # [B, T + 1, N, A]
        # No action was taken after the last row; the policy draws one to bootstrap from.
        step = tf.cast(self.train_step_counter, tf.int32)  # TFP refuses seeds of 64 bits
        seed = tf.random.experimental.stateless_fold_in([config.seed, 10], step)
        last = categorical.distribution(logits[:, -1]).sample(seed=seed)
        action = tf.concat([rows.action, last[:, None]], axis=1)
        target = self._returns(rows, action)
        critic_metrics = [self._critic_step(rows, target, learns) for _ in range(config.num_critic_steps)]
        metrics = {name: tf.add_n([told[name] for told in critic_metrics]) / len(critic_metrics) for name in _CRITIC}
        q = self.critic(rows.before, rows.action)
        advantage = counterfactual_advantage(q, logits[:, :-1], rows.action)
        metrics |= self._actor_step(rows, advantage, learns)
        self.actor.torso.observe(rows.before, learns)
        self.critic.observe(rows.before, rows.action, learns)
        self._env_steps.assign_add(tf.reduce_sum(tf.cast(~rows.boundary, tf.int64)))
        copies = self.train_step_counter.assign_add(1) % config.target_every == 0
        follow(self.target, self.critic, tf.cast(copies, tf.float32))
        return metrics | {"value/epsilon": epsilon}

    def _logits(self, rows: Sequences) -> tf.Tensor:
        team, _ = self.actor(rows.observation, step_type=rows.step_type, network_state=rows.state)
        return explored(team, rows.observation["avail_actions"], self.epsilon())

    def _returns(self, rows: Sequences, action: tf.Tensor) -> tf.Tensor:
        """Returns what the values of the actions taken are fitted to, [B, T, N].

        A dead agent's value is the mean of its living team mates', who receive the same reward.

        Args:
            rows: [B, T, ...].
            action: [B, T + 1, N] int32.
        """
        value, alive = _of_action(self.target(rows.observation, action), action), rows.observation["alive"]
        value = tf.where(alive, value, masked.mean(value, alive, axis=-1, keepdims=True))
        value, bootstrap = value[:, :-1], value[:, -1]
        config = self.config
        return value + returns.gae(
            rows.reward, rows.discount, value, bootstrap, config.gamma, config.lambda_, rows.boundary
        )

    def _critic_step(self, rows: Sequences, target: tf.Tensor, learns: tf.Tensor) -> Metrics:
        with tf.GradientTape() as tape:
            value = _of_action(self.critic(rows.before, rows.action), rows.action)
            loss = masked.mean(tf.square(target - value), learns)
        variables = self.critic.trainable_variables
        norm = self._step(self._optimizers[1], tape.gradient(loss, variables), variables)
        return {"loss/value": loss, "grad_norm/critic": norm}

    def _actor_step(self, rows: Sequences, advantage: tf.Tensor, learns: tf.Tensor) -> Metrics:
        share = tf.where(learns, tf.math.divide_no_nan(1.0, tf.reduce_sum(tf.cast(learns, tf.float32))), 0.0)
        parts = shards.side_by_side(self._actor_gradients, rows, advantage, share)
        metrics, gradients = tf.nest.map_structure(lambda *leaves: tf.add_n(leaves), *parts)
        norm = self._step(self._optimizers[0], gradients, self.actor.trainable_variables)
        return metrics | {"grad_norm/actor": norm}

    def _gradients_of_shard(
        self, rows: Sequences, advantage: tf.Tensor, share: tf.Tensor
    ) -> tuple[Metrics, list[tf.Tensor]]:
        """Returns what some sequences contribute to the policy's loss and its gradient.

        Args:
            rows: these sequences, [S, T, ...].
            advantage: [S, T, N].
            share: [S, T, N], weight of each decision in the means.
        """
        with tf.GradientTape() as tape:
            agents = categorical.distribution(self._logits(rows)[:, :-1])
            loss = -tf.reduce_sum(share * advantage * agents.log_prob(rows.action))
        metrics = {"loss/policy": loss, "loss/entropy": tf.reduce_sum(share * agents.entropy())}
        return metrics, tape.gradient(loss, self.actor.trainable_variables)

    def _step(self, optimizer: Any, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable]) -> tf.Tensor:
        """Takes a gradient step and returns the gradient's norm before clipping, a scalar."""
        gradients, norm = tf.clip_by_global_norm(gradients, self.config.max_grad_norm)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return norm

    @property
    def learning_variables(self) -> list[tf.Variable]:
        return [*self.variables, *(variable for optimizer in self._optimizers for variable in optimizer.variables())]

    def settings(self) -> dict[str, Any]:
        options = fields("coma", self.config)
        del options["coma.seed"]  # recorded as the run's seed
        return options

    def memory_per_row(self) -> float:
        num_agents, num_actions = self.time_step_spec.observation["avail_actions"].shape
        widths = sum(weight.shape[-1] for weight in self.trainable_variables if weight.shape.rank > 1)
        return 3.0 * (widths + num_agents * num_actions)


_CRITIC = ("loss/value", "grad_norm/critic")


def _of_action(q: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(q * tf.one_hot(action, q.shape[-1], dtype=q.dtype), axis=-1)


@gin.configurable(denylist=["time_step_spec", "action_spec", "seed", "unit_types"])
def coma(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    **options: Any,
) -> ComaAgent:
    """Makes a team that learns by COMA (Foerster et al. 2018).

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: ignored, because all agents share their weights.
        **options: fields of `ComaConfig`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    del unit_types
    with naming("coma"):
        config = ComaConfig(**options)
    return ComaAgent(time_step_spec, action_spec, config)
