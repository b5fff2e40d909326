"""Decentralised PPO, top to bottom: act, advantage, loss, update.

One learner for the whole family. An agent is an actor, a critic and two optimisers; what tells IPPO from its relatives
is what the critic sees and how the ratio is formed (`variants.py`).

Shapes: B environments, T steps, N agents, A actions, R = B * T rows.
"""

from typing import Annotated, Literal, NamedTuple

import pydantic
import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.networks import network
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from tf_marl.agents.policy import TeamPolicy
from tf_marl.config import STRICT, Count
from tf_marl.ops import categorical, returns, surrogate

Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class PPOConfig:
    """Everything a user may set about the learner; what suits a map is in `gin/`."""

    # gin writes lists and tuples alike
    hidden: Annotated[tuple[Count, ...], pydantic.Field(min_length=1, strict=False)] = (128, 128)
    activation: Literal["relu", "tanh"] = "relu"
    actor_learning_rate: pydantic.PositiveFloat = 5e-4
    critic_learning_rate: pydantic.PositiveFloat = 1e-3
    learning_rate_schedule: Literal["constant", "linear"] = "constant"  # linear: to 0 at the end of training
    adam_epsilon: pydantic.PositiveFloat = 1e-5
    max_grad_norm: pydantic.PositiveFloat = 0.5  # of each network by itself
    gamma: Fraction = 0.99  # per env step
    lambda_: Fraction = 0.95  # per env step
    clip_range: pydantic.PositiveFloat = 0.2  # half-width epsilon of the ratio's range
    entropy_coefficient: pydantic.NonNegativeFloat = 0.01  # nats
    num_epochs: Count = 4  # passes over a rollout
    num_minibatches: Count = 4  # gradient steps per pass
    seed: pydantic.NonNegativeInt = 0  # of the weights and of the minibatches


_LOSSES = ("loss/policy", "loss/value", "loss/entropy", "grad_norm/actor", "grad_norm/critic")


class Batch(NamedTuple):
    """A rollout with advantages, row by row: every field [R, ...]."""

    observation: dict[str, tf.Tensor]
    action: tf.Tensor  # [R, N] int32
    old_log_prob: tf.Tensor  # [R, N]
    advantage: tf.Tensor  # [R, N], normalised over what `learns` admits
    returns: tf.Tensor  # [R, N]
    learns: tf.Tensor  # [R, N] bool: a living agent, not at the boundary of two episodes


def _take(batch: Batch, rows: tf.Tensor) -> Batch:
    return tf.nest.map_structure(lambda leaf: tf.gather(leaf, rows), batch)


def learning_mask(experience: trajectory.Trajectory) -> tf.Tensor:
    """[B, T, N] bool: the decisions that count, those of living agents outside episode boundaries."""
    return experience.observation["alive"] & ~experience.is_boundary()[..., None]


class PPOAgent(tf_agent.TFAgent):
    """PPO for a team that TF-Agents sees as one agent with an int32 [N] action.

    `policy` acts greedily, `collect_policy` samples and records the masked `logits` it acted with. Dead agents have one
    action left, hence ratio 1 and entropy 0; they are in no loss and no statistic. The critic too learns from the
    living only: a dead agent's value is the mean of its living team mates', who await the same team reward.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        actor: network.Network,
        critic: network.Network,
        config: PPOConfig,
    ):
        self.config = config
        self.actor = actor
        self.critic = critic
        actor.create_variables()
        critic.create_variables()
        # How much of training is done, in [0, 1]; whoever runs the training keeps it up to date.
        self.progress = tf.Variable(0.0, trainable=False, name="progress")
        self._actor_optimizer = self._optimizer(config.actor_learning_rate)
        self._critic_optimizer = self._optimizer(config.critic_learning_rate)
        super().__init__(
            time_step_spec,
            action_spec,
            policy=TeamPolicy(time_step_spec, action_spec, actor, greedy=True),
            collect_policy=TeamPolicy(time_step_spec, action_spec, actor, record_logits=True),
            train_sequence_length=None,
            train_step_counter=tf.Variable(0, dtype=tf.int64, trainable=False, name="train_step"),
        )

    def update(self, experience: trajectory.Trajectory, final_time_step: ts.TimeStep) -> dict[str, tf.Tensor]:
        """One PPO update from a fresh rollout.

        Args:
            experience: [B, T, ...], at least `num_minibatches` rows; `policy_info` holds the `logits` that acted.
            final_time_step: [B, ...], what the environments showed after the last row.
        Returns:
            Scalars averaged over all gradient steps: `loss/policy`, `loss/value`, `loss/entropy` (nats),
            `grad_norm/actor`, `grad_norm/critic` (before clipping).
        """
        batch = self._batch(experience, final_time_step)
        num_rows = tf.shape(batch.action)[0]
        size = num_rows // self.config.num_minibatches
        seed = tf.random.experimental.stateless_fold_in([self.config.seed, 1], self.train_step_counter)
        totals = dict.fromkeys(_LOSSES, tf.constant(0.0))
        for epoch in tf.range(self.config.num_epochs):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(num_rows), tf.random.experimental.stateless_fold_in(seed, epoch)
            )
            for i in tf.range(self.config.num_minibatches):
                rows = order[i * size : (i + 1) * size]
                step = self._gradient_step(_take(batch, rows))
                totals = {name: total + step[name] for name, total in totals.items()}
        self.train_step_counter.assign_add(1)
        return {name: total / (self.config.num_epochs * self.config.num_minibatches) for name, total in totals.items()}

    def _train(self, experience: trajectory.Trajectory, weights=None) -> tf_agent.LossInfo:
        """TF-Agents' way in: [B, T + 1] rows, of which the last only lends its observation's value."""
        del weights
        final = ts.TimeStep(
            step_type=experience.step_type[:, -1],
            reward=experience.reward[:, -1],
            discount=experience.discount[:, -1],
            observation={name: leaf[:, -1] for name, leaf in experience.observation.items()},
        )
        metrics = self.update(tf.nest.map_structure(lambda leaf: leaf[:, :-1], experience), final)
        return tf_agent.LossInfo(loss=metrics["loss/policy"] + metrics["loss/value"], extra=metrics)

    def _optimizer(self, learning_rate: float) -> tf.keras.optimizers.Optimizer:
        def scheduled() -> tf.Tensor:
            left = 1.0 - self.progress if self.config.learning_rate_schedule == "linear" else 1.0
            return learning_rate * left

        # Keras' legacy Adam is one fused op per variable; the newer one is many small ones.
        return tf.keras.optimizers.legacy.Adam(learning_rate=scheduled, epsilon=self.config.adam_epsilon)

    def _team_value(self, observation: dict[str, tf.Tensor]) -> tf.Tensor:
        """Values [..., N]; the dead get their living team mates' mean."""
        value, _ = self.critic(observation)
        alive = observation["alive"]
        living = tf.cast(alive, value.dtype)
        mean = tf.math.divide_no_nan(
            tf.reduce_sum(value * living, axis=-1, keepdims=True), tf.reduce_sum(living, axis=-1, keepdims=True)
        )
        return tf.where(alive, value, mean)

    def _batch(self, experience: trajectory.Trajectory, final_time_step: ts.TimeStep) -> Batch:
        learns = learning_mask(experience)
        value = self._team_value(experience.observation)
        advantage = returns.gae(
            experience.reward,
            experience.discount,
            value,
            self._team_value(final_time_step.observation),
            self.config.gamma,
            self.config.lambda_,
            boundary=experience.is_boundary(),
        )
        old = categorical.agent_distribution(categorical.team_distribution(experience.policy_info["logits"]))
        batch = Batch(
            observation=experience.observation,
            action=experience.action,
            old_log_prob=old.log_prob(experience.action),
            advantage=surrogate.normalise(advantage, learns),
            returns=advantage + value,
            learns=learns,
        )
        return tf.nest.map_structure(lambda leaf: tf.reshape(leaf, [-1, *leaf.shape[2:]]), batch)

    def policy_loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """The clipped surrogate, to minimise, and the entropy in nats; means over the decisions that count."""
        team, _ = self.actor(batch.observation)
        agents = categorical.agent_distribution(team)
        ratio = surrogate.independent_ratio(agents.log_prob(batch.action), batch.old_log_prob)
        gain = surrogate.clipped_surrogate(ratio, batch.advantage, self.config.clip_range)
        return -surrogate.masked_mean(gain, batch.learns), surrogate.masked_mean(agents.entropy(), batch.learns)

    def value_loss(self, batch: Batch) -> tf.Tensor:
        """Squared error of the critic on the returns, halved; the mean over living agents."""
        value, _ = self.critic(batch.observation)
        return surrogate.masked_mean(surrogate.squared_value_loss(value, batch.returns), batch.learns)

    def _gradient_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            policy_loss, entropy = self.policy_loss(batch)
            loss = policy_loss - self.config.entropy_coefficient * entropy
        actor_norm = self._apply(self._actor_optimizer, tape, loss, self.actor.trainable_variables)
        with tf.GradientTape() as tape:
            value_loss = self.value_loss(batch)
        critic_norm = self._apply(self._critic_optimizer, tape, value_loss, self.critic.trainable_variables)
        return {
            "loss/policy": policy_loss,
            "loss/value": value_loss,
            "loss/entropy": entropy,
            "grad_norm/actor": actor_norm,
            "grad_norm/critic": critic_norm,
        }

    def _apply(self, optimizer, tape: tf.GradientTape, loss: tf.Tensor, variables) -> tf.Tensor:
        """One clipped step; returns the gradient's norm before clipping."""
        gradients, norm = tf.clip_by_global_norm(tape.gradient(loss, variables), self.config.max_grad_norm)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return norm
