"""Off-policy learners keep earlier rollouts, and take gradient steps on sequences that are drawn from them.

Shapes: B environments, T steps, N agents; S sequences in a gradient step. A sequence is T rows of one environment
(`agents/replay.py`).
"""

import abc
from collections.abc import Iterable
from typing import Annotated, Any

import pydantic
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.exploration import Exploration, Fraction
from tf_marl.agents.learner import Learner, Metrics, Rollout
from tf_marl.agents.replay import Priorities, Replay, Sequences, sequences
from tf_marl.compile import graph
from tf_marl.config import STRICT, Count, fields
from tf_marl.networks import Architecture
from tf_marl.ops import masked

Share = Annotated[float, pydantic.Field(gt=0, le=1)]
# How many times the outputs of all layers, for one batch, a gradient step holds in memory.
_HELD_OUTPUTS = 3.0


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class OffPolicyConfig(Architecture, Exploration):
    """Holds the settings of off-policy learners: those of architecture and exploration, and these."""

    gamma: Fraction = 0.99  # per env step
    # Rows of the latest rollouts that are kept to learn from; places among them are int32.
    replay_rows: Annotated[Count, pydantic.Field(lt=2**31)] = 200_000
    num_updates: Count = 16  # gradient steps per rollout
    batch_size: Count = 32  # sequences per gradient step; a rollout has one per environment
    # Sequences are drawn by their errors to this power, and their errors weighed by their probabilities to the other
    # power, with its sign changed (Schaul et al. 2016); 0 draws uniformly.
    priority_exponent: Fraction = 0.0
    importance_exponent: Fraction = 0.6
    burn_in: pydantic.NonNegativeInt = 0  # rows at a sequence's start that only bring its recurrent states up to date
    adam_epsilon: pydantic.PositiveFloat = 1e-5
    max_grad_norm: pydantic.PositiveFloat | None = 10.0  # None does not clip
    # How far the target networks move towards those that learn, and after how many gradient steps: 1 and 200 for a
    # copy now and then, 0.01 and 1 for a slow follower.
    target_rate: Share = 1.0
    target_every: Count = 200  # gradient steps
    seed: pydantic.NonNegativeInt = 0  # of the weights and of the batches

    @pydantic.model_validator(mode="after")
    def _burns_in_what_has_a_state(self):
        if self.burn_in and self.rnn == "none":
            raise ValueError('burn_in: only with rnn = "gru"; there are no recurrent states')
        return self


class OffPolicyLearner(Learner):
    """Describes a team that learns from a replay: it adds each rollout, then takes some gradient steps.

    Args:
        section: gin's name for the settings.
        config: all settings.
        time_step_spec: of one environment.
        action_spec: int32 [N].
        **parts: policies and weights, as in `Learner`. The collect policy's `info` holds `policy_state`.
    """

    replay: Replay
    recorded: tuple[str, ...]  # names of the scalars that a gradient step gives
    optimizers: list[Any]  # Keras'

    def __init__(
        self,
        section: str,
        config: OffPolicyConfig,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        **parts: Any,
    ):
        self._section, self.config = section, config
        # What replay counts and epsilon follows.
        self._rollouts = tf.Variable(0, dtype=tf.int64, trainable=False, name="rollouts")
        self._env_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="env_steps")
        priorities = None
        if config.priority_exponent:
            # One for each row: a checkpoint is read before the first rollout tells how many sequences there are.
            # After a change of the setting, the error of reading it gives the variable's name.
            name = f"{section}.replay_rows"
            self._priorities = tf.Variable(tf.zeros([config.replay_rows]), trainable=False, name=name)
            priorities = Priorities(self._priorities, config.priority_exponent, config.importance_exponent)
        super().__init__(time_step_spec, action_spec, **parts)
        self.replay = Replay(config.replay_rows, self._rollouts, f"{section}.replay_rows", priorities)

    @abc.abstractmethod
    def gradient_step(self, batch: Sequences, weight: tf.Tensor, seed: tf.Tensor) -> tuple[Metrics, tf.Tensor]:
        """Takes one gradient step.

        Args:
            batch: [S, T, ...].
            weight: [S], importance weights of the sequences' errors.
            seed: [2] int32.
        Returns:
            Scalars of the names in `recorded`, and the sequences' new priorities, [S].
        """

    @abc.abstractmethod
    def observe(self, new: Sequences) -> None:
        """Adds a rollout's observations to the running statistics that normalise them.

        Args:
            new: [B, T, ...].
        """

    def epsilon(self) -> tf.Tensor:
        """Returns the present probability of a random action, a scalar."""
        return self.config.epsilon(self._env_steps)

    def check(self, num_envs: int, num_steps: int) -> None:
        self.replay.num_rollouts(num_envs, num_steps)
        if (burn_in := self.config.burn_in) >= num_steps:
            raise ValueError(
                f"{self._section}.burn_in = {burn_in}: sequences of {num_steps} env steps then leave nothing to learn"
                " from; lower it"
            )

    def counts(self, batch: Sequences) -> tf.Tensor:
        """Returns which rows there is something to learn from, [S, T] bool: neither boundaries nor those of burn-in.

        Args:
            batch: [S, T, ...].
        """
        return ~batch.boundary & (tf.range(batch.reward.shape[1]) >= self.config.burn_in)

    def learn(self, rollout: Rollout) -> Metrics:
        """Adds a rollout to the replay, and takes gradient steps on sequences drawn from it.

        Args:
            rollout: fresh experience, tensors [B, T, ...].
        Returns:
            Scalars, means over the gradient steps, and `value/epsilon`, the probability of a random action in the
            rollout.
        """
        new, epsilon = sequences(rollout), self.epsilon()
        self.replay.add(new)
        metrics = self._learn_from_replay()
        self.observe(new)
        self._env_steps.assign_add(tf.reduce_sum(tf.cast(~new.boundary, tf.int64)))
        return metrics | {"value/epsilon": epsilon}

    @graph.converted
    def _learn_from_replay(self) -> Metrics:
        config = self.config
        totals = dict.fromkeys(self.recorded, tf.constant(0.0))
        root = tf.constant([config.seed, 9], tf.int32)
        for _ in tf.range(config.num_updates):
            seed = tf.random.experimental.stateless_fold_in(root, self.train_step_counter)
            batch, draw = self.replay.sample(config.batch_size, seed)
            seed = tf.random.experimental.stateless_fold_in(seed, 1)
            told, priority = self.gradient_step(batch, draw.weight, seed)
            self.replay.set_priorities(draw.rows, priority)
            totals = {name: total + told[name] for name, total in totals.items()}
        return {name: total / config.num_updates for name, total in totals.items()}

    def step(self, optimizer: Any, gradients: list[tf.Tensor], variables: list[tf.Variable]) -> tf.Tensor:
        """Moves some weights by their gradients, clipped to `max_grad_norm`.

        Args:
            optimizer: of these weights.
            gradients: one tensor per variable, shaped like it.
            variables: the weights.
        Returns:
            The gradients' norm before clipping, a scalar.
        """
        norm = tf.linalg.global_norm(gradients)
        if self.config.max_grad_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.config.max_grad_norm, norm)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return norm

    def target_share(self) -> tf.Tensor:
        """Counts a gradient step, and returns how far the target networks move after it, a scalar in [0, 1]."""
        config, step = self.config, self.train_step_counter.assign_add(1)
        return tf.where(step % config.target_every == 0, config.target_rate, 0.0)

    # What training and checkpoints ask for.

    @property
    def learning_variables(self) -> list[tf.Variable]:
        return [*self.variables, *(variable for optimizer in self.optimizers for variable in optimizer.variables())]

    def settings(self) -> dict[str, Any]:
        options = fields(self._section, self.config)
        del options[f"{self._section}.seed"]  # recorded as the run's seed
        return options

    def outputs_per_row(self) -> int:
        """Returns how many numbers the layers of the networks that learn put out for one row."""
        num_agents = self.action_spec.shape[0]
        return num_agents * widths(self.actor.trainable_variables)

    def memory_kept(self, num_envs: int, num_steps: int) -> dict[str, float]:
        config = self.config
        leaves = tf.nest.flatten(self.policy.trajectory_spec)
        row = sum(leaf.shape.num_elements() * leaf.dtype.size for leaf in leaves)  # bytes
        rows = self.replay.num_rollouts(num_envs, num_steps) * num_envs * (num_steps + 1)
        batch = config.batch_size * num_steps
        held = _HELD_OUTPUTS * 4 * self.outputs_per_row()  # bytes
        return {
            f"{self._section}.replay_rows = {config.replay_rows:,}": rows * row / 1e9,
            f"{self._section}.batch_size = {config.batch_size:,}": batch * (held + 2 * row) / 1e9,
        }


def priority(error: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Computes the priorities of sequences from their errors.

        0.9 max |error| + 0.1 mean |error|                      Kapturowski et al. 2019, section 2.3

    Args:
        error: [S, T, ...], of the values.
        counts: bool, shaped like `error`, the values that count.
    Returns:
        Priorities, [S]; none is 0, so every sequence can be drawn again.
    """
    error, axes = tf.where(counts, tf.abs(error), 0.0), list(range(1, len(error.shape)))
    return 0.9 * tf.reduce_max(error, axes) + 0.1 * masked.mean(error, counts, axes) + 1e-6


def widths(weights: Iterable[tf.Variable]) -> int:
    """Returns how many numbers the layers with these weights put out for one agent."""
    return sum(weight.shape[-1] for weight in weights if weight.shape.rank > 1)
