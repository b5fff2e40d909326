"""Policy and environments take turns to collect experience, within one compiled program.

On a CPU the environments are split into shards, each with a compiled rollout of its own (`compile/shards.py`).
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from tf_marl.agents.learner import Rollout
from tf_marl.compile import graph, shards
from tf_marl.environments.world import CompiledWorld, State


class Tally(NamedTuple):
    """Holds sums over the episodes that ended in a rollout, and the rollout's env steps, all as scalars."""

    env_steps: tf.Tensor  # joint actions of all environments; the step that starts an episode does not count
    episodes: tf.Tensor
    returns: tf.Tensor
    env_steps_of_episodes: tf.Tensor
    outcomes: dict[str, tf.Tensor]  # number of episodes with each of the world's outcomes


class AnyCollector(Protocol):
    """Describes what collects rollouts from a world of any kind.

    A collector is a `tf.Module`, so a checkpoint saves the variables it has.
    """

    num_shards: int
    variables: Sequence[tf.Variable]

    def collect(self) -> tuple[Rollout, Tally]:
        """Collects the next rollout of all environments.

        Returns:
            The rollout, [B, T, ...], and its tally of scalars.
        """

    def metrics(self) -> dict[str, float]:
        """Returns metrics of the environments to record besides those of the rollouts."""


class Progress(NamedTuple):
    """Holds the state of B environments between two rollouts."""

    state: State
    policy_state: types.NestedTensor  # [B, ...]
    episode_return: tf.Tensor  # [B], of the episode under way
    episode_length: tf.Tensor  # [B] env steps


def start(world: CompiledWorld, policy: tf_policy.TFPolicy, seed: tf.Tensor) -> Progress:
    """Starts fresh episodes in all environments.

    Args:
        world: B environments.
        policy: gives the initial policy state.
        seed: [2] int32.
    Returns:
        The state of the environments, [B, ...].
    """
    zeros = tf.zeros([world.num_envs])
    return Progress(world.reset(seed), policy.get_initial_state(world.num_envs), zeros, zeros)


def collect(
    world: CompiledWorld,
    policy: tf_policy.TFPolicy,
    progress: Progress,
    seed: tf.Tensor,
    num_steps: int,
    one_episode: bool = False,
) -> tuple[Progress, Rollout, Tally]:
    """Plays `num_steps` steps in every environment; a pure function of its tensors, meant to be compiled.

    Args:
        world: B environments.
        policy: chooses the actions; its `info` is recorded.
        progress: state of the environments before the first step, [B, ...].
        seed: [2] int32, for policy and environments.
        num_steps: T, env steps of the rollout.
        one_episode: whether only the first episode of each environment counts. Later rows then become boundaries, as is
            the row that holds the episode's last observation, and the tally leaves them out.
    Returns:
        The state of the environments after the last step, [B, ...], the rollout, [B, T, ...], and its tally of scalars.
    """

    def step(t, progress, time_step, over, tally):
        policy_seed, env_seed = tf.unstack(
            tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(seed, t), 2)
        )
        action_step = policy.action(time_step, progress.policy_state, seed=policy_seed)
        state = world.step(progress.state, action_step.action, env_seed)
        next_time_step = world.time_step(state)
        row = trajectory.from_transition(time_step, action_step, next_time_step)
        over |= one_episode & time_step.is_last()
        row = row._replace(
            step_type=tf.where(over, ts.StepType.LAST, row.step_type),
            next_step_type=tf.where(over, ts.StepType.LAST, row.next_step_type),
            reward=tf.where(over, 0.0, row.reward),
        )

        first, last = next_time_step.is_first(), next_time_step.is_last()
        played = tf.cast(~first & ~over, tf.float32)
        ended = tf.cast(last & ~over, tf.float32)
        episode_return = tf.where(first, 0.0, progress.episode_return + next_time_step.reward)
        episode_length = tf.where(first, 0.0, progress.episode_length + 1.0)
        info = world.info(state)
        tally = Tally(
            env_steps=tally.env_steps + tf.reduce_sum(played),
            episodes=tally.episodes + tf.reduce_sum(ended),
            returns=tally.returns + tf.reduce_sum(ended * episode_return),
            env_steps_of_episodes=tally.env_steps_of_episodes + tf.reduce_sum(ended * episode_length),
            outcomes={
                name: count + tf.reduce_sum(ended * tf.cast(info[name], tf.float32))
                for name, count in tally.outcomes.items()
            },
        )
        progress = Progress(state, action_step.state, episode_return, episode_length)
        return progress, next_time_step, over, tally, row

    time_step = world.time_step(progress.state)
    zero = tf.constant(0.0)
    tally = Tally(zero, zero, zero, zero, dict.fromkeys(world.outcomes, zero))
    row_spec = policy.trajectory_spec
    rows = tf.nest.map_structure(
        lambda spec: tf.TensorArray(spec.dtype, num_steps, element_shape=[world.num_envs, *spec.shape]), row_spec
    )

    def body(t, progress, time_step, over, tally, rows):
        progress, time_step, over, tally, row = step(t, progress, time_step, over, tally)
        rows = tf.nest.map_structure(lambda array, leaf: array.write(t, leaf), rows, row)
        return t + 1, progress, time_step, over, tally, rows

    over = tf.zeros([world.num_envs], tf.bool)
    _, progress, time_step, _, tally, rows = tf.while_loop(
        lambda t, *_: t < num_steps, body, (0, progress, time_step, over, tally, rows)
    )

    def batch_first(array: tf.TensorArray) -> tf.Tensor:
        stacked = array.stack()
        return tf.transpose(stacked, [1, 0, *range(2, len(stacked.shape))])

    experience = tf.nest.map_structure(batch_first, rows)
    return progress, Rollout(experience, time_step), tally


class Collector(tf.Module):
    """Collects rollouts from a compiled world, whose episodes go on from one rollout to the next.

    The state of the environments is kept in variables, so checkpoints save it.

    Args:
        world: all B environments.
        policy: chooses the actions.
        num_steps: T, env steps of each rollout.
        seed: root of all randomness in the rollouts.
        num_shards: number of compiled programs side by side, a divisor of B; None is as many as there are
            CPU cores, or the next lower divisor of B.
        whole_episodes: whether every rollout starts anew and holds one episode of each environment, at most T env steps
            long.
    Raises:
        ValueError: `num_shards` does not divide B.
    """

    def __init__(
        self,
        world: CompiledWorld,
        policy: tf_policy.TFPolicy,
        num_steps: int,
        seed: int,
        num_shards: int | None = None,
        whole_episodes: bool = False,
    ):
        super().__init__("collector")
        self.num_shards = num_shards or shards.per_core(world.num_envs)
        if world.num_envs % self.num_shards:
            raise ValueError(f"num_shards = {self.num_shards} does not divide num_envs = {world.num_envs}")
        shard = world.resize(world.num_envs // self.num_shards)
        self._seed = tf.constant([seed, 2], tf.int32)
        self._count = tf.Variable(0, dtype=tf.int32, trainable=False, name="rollouts")

        @graph.function(jit_compile=True)
        def collect_shard(progress: Progress, seed: tf.Tensor) -> tuple[Progress, Rollout, Tally]:
            if whole_episodes:
                start_seed, seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
                progress = start(shard, policy, start_seed)
            return collect(shard, policy, progress, seed, num_steps, one_episode=whole_episodes)

        self._collect = collect_shard
        self._progress = [
            tf.nest.map_structure(
                lambda leaf: tf.Variable(leaf, trainable=False), start(shard, policy, self._shard_seed(i))
            )
            for i in range(self.num_shards)
        ]

    def _shard_seed(self, shard: int) -> tf.Tensor:
        fold_in = tf.random.experimental.stateless_fold_in
        return fold_in(fold_in(self._seed, self._count), shard)

    def metrics(self) -> dict[str, float]:
        return {}

    def collect(self) -> tuple[Rollout, Tally]:
        self._count.assign_add(1)
        rollouts, tallies = [], []
        for i, variables in enumerate(self._progress):
            before = tf.nest.map_structure(tf.convert_to_tensor, variables)
            after, rollout, tally = self._collect(before, self._shard_seed(i))
            tf.nest.map_structure(lambda variable, leaf: variable.assign(leaf), variables, after)
            rollouts.append(rollout)
            tallies.append(tally)
        return shards.concat(rollouts), tf.nest.map_structure(lambda *leaves: tf.add_n(leaves), *tallies)
