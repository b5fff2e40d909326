"""Collecting from environments that are no tensor programs: `collect` as ever, but only the policy is compiled."""

import time
import types

import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from tf_marl.environments.sc2 import StarCraft2
from tf_marl.training.rollout import Progress, Rollout, collect, start


class CompiledPolicy:
    """A policy whose steps are programs of their own."""

    def __init__(self, policy: tf_policy.TFPolicy):
        self.info_spec = policy.info_spec
        self.trajectory_spec = policy.trajectory_spec
        self.get_initial_state = policy.get_initial_state
        self.action = tf.function(policy.action, jit_compile=True)


class LiveCollector(tf.Module):
    """A `Collector` of games that go on from rollout to rollout.

    No checkpoint holds them: after a resume all episodes begin anew. What was played of an episode that broke off
    counts as a boundary in the rollout where it did; nobody learns from it. (What earlier rollouts held of it was
    learned from when nothing was wrong yet. With `whole_episodes` there is no such thing.)
    """

    num_shards = 1

    def __init__(
        self,
        core: StarCraft2,
        policy: tf_policy.TFPolicy,
        num_steps: int,
        seed: int,
        whole_episodes: bool = False,
    ):
        """Args: as for `Collector`."""
        super().__init__("collector")
        core.one_episode = whole_episodes
        self._core = core
        self._policy = CompiledPolicy(policy)
        self._num_steps = num_steps
        self._whole_episodes = whole_episodes
        self._seed = tf.constant([seed, 2], tf.int32)
        self._count = tf.Variable(0, dtype=tf.int32, trainable=False, name="rollouts")
        # In a namespace, where no checkpoint looks for it.
        self._now = types.SimpleNamespace(progress=None, seconds=0.0)

    def collect(self) -> Rollout:
        """The next rollout of all environments: at least one row to learn from.

        Raises:
            games.GameError: a game failed too often in a row.
        """
        began = time.perf_counter()
        tallies = []
        while True:
            rollout = self._play()
            tallies.append(rollout.tally)
            experience = without_broken(rollout.experience, self._whole_episodes)
            if not tf.reduce_all(experience.is_boundary()):
                break
        self._now.seconds += time.perf_counter() - began
        tally = tf.nest.map_structure(lambda *leaves: tf.add_n(leaves), *tallies)
        return rollout._replace(experience=experience, tally=tally)

    def _play(self) -> Rollout:
        self._count.assign_add(1)
        seed = tf.random.experimental.stateless_fold_in(self._seed, self._count)
        progress: Progress | None = self._now.progress
        if progress is None or self._whole_episodes:
            progress = start(self._core, self._policy, seed)
        self._now.progress, rollout = collect(
            self._core, self._policy, progress, seed, self._num_steps, one_episode=self._whole_episodes
        )
        return rollout

    def metrics(self) -> dict[str, float]:
        """The core's, of the collecting since they were last asked for."""
        seconds, self._now.seconds = self._now.seconds, 0.0
        return self._core.metrics(seconds)


def without_broken(experience: trajectory.Trajectory, only_whole: bool) -> trajectory.Trajectory:
    """A rollout [B, T, ...] whose rows of episodes that broke off are boundaries.

    Args: only_whole, whether episodes that are not over at the end of the rollout are to go, too.
    """
    step_type, next_step_type = experience.step_type.numpy(), experience.next_step_type.numpy()
    void = (step_type != ts.StepType.LAST) & (next_step_type == ts.StepType.FIRST)
    goes_on = next_step_type == ts.StepType.MID
    after = np.full(len(void), only_whole)
    for t in reversed(range(void.shape[1])):
        void[:, t] |= goes_on[:, t] & after
        after = void[:, t]
    return experience._replace(
        step_type=tf.where(void, ts.StepType.LAST, experience.step_type),
        next_step_type=tf.where(void, ts.StepType.LAST, experience.next_step_type),
        reward=tf.where(void, 0.0, experience.reward),
    )
