"""Collecting experience: policy and environment in turn, compiled into one program.

XLA keeps one core busy on a CPU, so the environments are dealt out in equal shards, one compiled rollout each, which
TensorFlow runs side by side.
"""

import os
from typing import NamedTuple

import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from tf_marl.environments.functional import FunctionalCore, State


class Tally(NamedTuple):
    """Sums over the episodes that ended in a rollout, and the env steps it took; float32 scalars."""

    env_steps: tf.Tensor  # joint actions; starting an episode is none
    episodes: tf.Tensor
    returns: tf.Tensor
    battles_won: tf.Tensor
    env_steps_of_episodes: tf.Tensor


class Progress(NamedTuple):
    """Where a batch of environments stands between two rollouts."""

    state: State
    episode_return: tf.Tensor  # [B], of the episode under way
    episode_length: tf.Tensor  # [B] env steps


class Rollout(NamedTuple):
    """B environments, T rows; some rows are boundaries between episodes."""

    experience: trajectory.Trajectory  # [B, T, ...]
    final_time_step: ts.TimeStep  # [B, ...]
    tally: Tally


def start(core: FunctionalCore, seed: tf.Tensor) -> Progress:
    """Fresh episodes in all environments."""
    return Progress(core.reset(seed), tf.zeros([core.num_envs]), tf.zeros([core.num_envs]))


def collect(
    core: FunctionalCore, policy: tf_policy.TFPolicy, progress: Progress, seed: tf.Tensor, num_steps: int
) -> tuple[Progress, Rollout]:
    """Plays `num_steps` steps in every environment; a pure function, made to be compiled.

    Args:
        core: the environments.
        policy: chooses the actions; its `info` is kept with them.
        progress: where the environments stand.
        seed: [2] int32, of policy and environments.
        num_steps: T.
    Returns:
        Where the environments stand now, and the rollout.
    """

    def step(t, progress, time_step, tally):
        policy_seed, env_seed = tf.unstack(
            tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(seed, t), 2)
        )
        action_step = policy.action(time_step, seed=policy_seed)
        state = core.step(progress.state, action_step.action, env_seed)
        next_time_step = core.time_step(state)
        row = trajectory.from_transition(time_step, action_step, next_time_step)

        first, last = next_time_step.is_first(), next_time_step.is_last()
        played = tf.cast(~first, tf.float32)
        ended = tf.cast(last, tf.float32)
        episode_return = tf.where(first, 0.0, progress.episode_return + next_time_step.reward)
        episode_length = tf.where(first, 0.0, progress.episode_length + 1.0)
        tally = Tally(
            env_steps=tally.env_steps + tf.reduce_sum(played),
            episodes=tally.episodes + tf.reduce_sum(ended),
            returns=tally.returns + tf.reduce_sum(ended * episode_return),
            battles_won=tally.battles_won + tf.reduce_sum(ended * tf.cast(core.info(state)["battle_won"], tf.float32)),
            env_steps_of_episodes=tally.env_steps_of_episodes + tf.reduce_sum(ended * episode_length),
        )
        return Progress(state, episode_return, episode_length), next_time_step, tally, row

    time_step = core.time_step(progress.state)
    tally = Tally(*[tf.constant(0.0)] * len(Tally._fields))
    row_spec = policy.trajectory_spec
    rows = tf.nest.map_structure(
        lambda spec: tf.TensorArray(spec.dtype, num_steps, element_shape=[core.num_envs, *spec.shape]), row_spec
    )

    def body(t, progress, time_step, tally, rows):
        progress, time_step, tally, row = step(t, progress, time_step, tally)
        rows = tf.nest.map_structure(lambda array, leaf: array.write(t, leaf), rows, row)
        return t + 1, progress, time_step, tally, rows

    _, progress, time_step, tally, rows = tf.while_loop(
        lambda t, *_: t < num_steps, body, (0, progress, time_step, tally, rows)
    )

    def batch_first(array: tf.TensorArray) -> tf.Tensor:
        stacked = array.stack()
        return tf.transpose(stacked, [1, 0, *range(2, len(stacked.shape))])

    experience = tf.nest.map_structure(batch_first, rows)
    return progress, Rollout(experience, time_step, tally)


class Collector(tf.Module):
    """Environments that go on from rollout to rollout; their state lives in variables, so a checkpoint holds it."""

    def __init__(
        self, core: FunctionalCore, policy: tf_policy.TFPolicy, num_steps: int, seed: int, num_shards: int | None = None
    ):
        """
        Args:
            core: all the environments.
            policy: chooses the actions.
            num_steps: T, of each rollout.
            seed: root of all chance in the rollouts.
            num_shards: programs side by side, a divisor of the number of environments; by default one a core.
        """
        super().__init__("collector")
        self.num_shards = num_shards or shards_per_core(core.num_envs)
        if core.num_envs % self.num_shards:
            raise ValueError(f"num_shards = {self.num_shards} does not divide num_envs = {core.num_envs}")
        shard = core.resize(core.num_envs // self.num_shards)
        self._seed = tf.constant([seed, 2], tf.int32)
        self._count = tf.Variable(0, dtype=tf.int32, trainable=False, name="rollouts")
        self._collect = tf.function(
            lambda progress, seed: collect(shard, policy, progress, seed, num_steps), jit_compile=True
        )
        self._progress = [
            tf.nest.map_structure(lambda leaf: tf.Variable(leaf, trainable=False), start(shard, self._shard_seed(i)))
            for i in range(self.num_shards)
        ]

    def _shard_seed(self, shard: int) -> tf.Tensor:
        fold_in = tf.random.experimental.stateless_fold_in
        return fold_in(fold_in(self._seed, self._count), shard)

    def collect(self) -> Rollout:
        """The next rollout of all environments."""
        self._count.assign_add(1)
        rollouts = []
        for i, variables in enumerate(self._progress):
            before = tf.nest.map_structure(tf.convert_to_tensor, variables)
            after, rollout = self._collect(before, self._shard_seed(i))
            tf.nest.map_structure(lambda variable, leaf: variable.assign(leaf), variables, after)
            rollouts.append(rollout)
        if self.num_shards == 1:
            return rollouts[0]
        experience, final_time_step, tallies = zip(*rollouts, strict=True)
        return Rollout(
            tf.nest.map_structure(lambda *shards: tf.concat(shards, axis=0), *experience),
            tf.nest.map_structure(lambda *shards: tf.concat(shards, axis=0), *final_time_step),
            tf.nest.map_structure(lambda *shards: tf.add_n(shards), *tallies),
        )


def shards_per_core(num_envs: int) -> int:
    """How many equal shards to deal environments out in: one a core, where that divides them; one on a GPU."""
    if tf.config.list_physical_devices("GPU"):
        return 1
    return max(shards for shards in range(1, len(os.sched_getaffinity(0)) + 1) if num_envs % shards == 0)
