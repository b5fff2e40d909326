"""A `ProcessWorld` is a live world whose environments are played by worker processes.

The B rows of the batch are episodes. An episode breaks off when its worker dies, hangs or fails. A row waits while its
worker is not there yet, or while its environment plays another row's episode. A waiting row shows FIRST steps in which
all agents are dead.

If there are more rows than environments, each environment plays the episodes of several rows in turn.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts

from tf_marl.environments.processes import worker, workers
from tf_marl.environments.random_team import RandomTeam
from tf_marl.environments.world import LiveWorld


class ProcessWorld(LiveWorld):
    """Plays B rows on as many environments as the world was made with, which a number of processes share.

    The workers start at the first `reset`. If one of them fails, it is restarted while the others go on. All worlds
    that `resize` makes share a second set of as many workers. So an evaluation does not disturb the episodes of
    training.

    A subclass sets its name, its specs and its outcomes before it calls this constructor.

    Args:
        num_envs: B, and the number of environments.
        num_processes: how many workers share them.
        program: what the workers run.
        settings: a function from the numbers of a worker's environments to its player's settings. The environments
            have the numbers 0 to B - 1, and those of the second set go on from there.
        patience: how long to wait for a worker, and how often to start it again.
    """

    scripts = ("random",)
    metrics_of: ClassVar[str] = "processes"  # the metrics' names begin with this

    def __init__(
        self,
        num_envs: int,
        num_processes: int,
        program: workers.Program,
        settings: Callable[[Sequence[int]], dict[str, Any]],
        patience: workers.Patience,
    ):
        self.num_envs = num_envs
        self.counts = workers.Counts()
        observation = self.time_step_spec.observation
        num_agents, num_actions = observation["avail_actions"].shape
        sizes = {"N": num_agents, "A": num_actions, "O": observation["obs"].shape[-1]}
        sizes |= {"S": observation["state"].shape[-1], "K": len(self.outcomes)}

        def hire(first: int) -> list[workers.Worker]:
            hired = []
            for i in range(num_processes):
                numbers = range(first + i, first + num_envs, num_processes)
                told = settings(numbers) | {"sizes": sizes | {"E": len(numbers)}}
                hired.append(workers.Worker(first + i, program, told, patience, self.counts))
            return hired

        workers.tidy()
        self.workers = hire(0)  # play the rows of this world
        self._others = hire(num_envs)  # play the rows of the worlds that `resize` makes
        self._begin()

    def resize(self, num_envs: int) -> "ProcessWorld":
        """Returns a world of another size for a batch of episodes, in which each row rests after its first episode.

        It plays on the second set of workers, which all worlds made by `resize` share.

        Args:
            num_envs: the new B.
        """
        other = copy.copy(self)
        other.num_envs, other.one_episode, other.workers = num_envs, True, self._others
        other._begin()
        return other

    def scripted(self, name: str) -> tf_policy.TFPolicy:
        if name not in self.scripts:
            super().scripted(name)
        return RandomTeam(self.time_step_spec, self.action_spec)

    def _begin(self) -> None:
        """Distributes the rows among the environments; neighbours go to different workers."""
        num_envs = sum(len(each.playing) for each in self.workers)
        self._queues = [
            [list(range(i + e * len(self.workers), self.num_envs, num_envs)) for e in range(len(each.playing))]
            for i, each in enumerate(self.workers)
        ]
        # By worker: [E] the row that each environment plays, or -1.
        self._rows = [np.array([queue[0] if queue else -1 for queue in queues]) for queues in self._queues]
        blank = tf.nest.map_structure(
            lambda spec: np.zeros([self.num_envs, *spec.shape], spec.dtype.as_numpy_dtype), self.time_step_spec
        )
        blank.observation["avail_actions"][..., 0] = True  # which the dead may take
        blank.discount[:] = 1.0
        self._shown = blank._replace(step_type=np.full(self.num_envs, ts.StepType.FIRST))
        self._blank = tf.nest.map_structure(np.copy, self._shown)
        self._came_to = np.zeros([self.num_envs, len(self.outcomes)], bool)

    def reset(self) -> ts.TimeStep:
        """Starts B fresh episodes, of which as many begin at once as there are environments.

        Returns:
            What the rows show: a time step of NumPy arrays [B, ...].
        Raises:
            WorldFailedError: a worker failed too often in a row.
        """
        self._begin()
        for each in self.workers:
            each.playing[:] = False  # drops the episodes that it is playing
        return self.step(np.zeros([self.num_envs, *self.action_spec.shape], np.int32))

    def step(self, action: np.ndarray) -> ts.TimeStep:
        """Plays one env step in all environments at once, and waits for all of them.

        Args:
            action: [B, N] int32.
        Returns:
            What the rows show: a time step of NumPy arrays [B, ...].
        Raises:
            WorldFailedError: a worker failed too often in a row.
        """
        before = self._shown
        ended = before.step_type == ts.StepType.LAST
        for rows, queues in zip(self._rows, self._queues, strict=True):
            for e in np.flatnonzero((rows >= 0) & ended[rows]):
                done = queues[e].pop(0)
                if not self.one_episode:
                    queues[e].append(done)
                rows[e] = queues[e][0] if queues[e] else -1
        active = [(each, rows) for each, rows in zip(self.workers, self._rows, strict=True) if (rows >= 0).any()]
        for each, rows in active:
            wanted = rows >= 0
            each.shows["action"][wanted] = action[rows[wanted]]
            each.play(wanted)
        workers.wait([each for each, _ in active])

        rests = self.one_episode & ended
        shown = tf.nest.map_structure(
            lambda old, blank: np.where(rests.reshape([-1] + [1] * (old.ndim - 1)), old, blank), before, self._blank
        )
        shown.reward[:] = 0.0
        self._came_to = self._came_to & rests[:, None]
        for each, rows in active:
            if each.answered:
                self._show(shown, each.shows, rows)
                each.answered = False
        self._shown = shown
        return shown

    def _show(self, shown: ts.TimeStep, shows: dict[str, np.ndarray], rows: np.ndarray) -> None:
        """Copies what a worker shows to the rows that its environments play, [E]."""
        there = (rows >= 0) & (shows["command"] != worker.REST)
        rows = rows[there]
        over, first = shows["over"][there], shows["command"][there] == worker.RESET
        shown.step_type[rows] = np.where(first, ts.StepType.FIRST, np.where(over, ts.StepType.LAST, ts.StepType.MID))
        shown.reward[rows] = shows["reward"][there]
        shown.discount[rows] = np.where(over & ~shows["timeout"][there], 0.0, 1.0)
        for name, leaf in shown.observation.items():
            leaf[rows] = shows[name][there]
        self._came_to[rows] = shows["outcomes"][there]

    def info(self) -> dict[str, np.ndarray]:
        """Returns the outcomes, [B] bool each: whether the last step of the row came to it."""
        return {name: self._came_to[:, k].copy() for k, name in enumerate(self.outcomes)}

    def seconds_at_work(self, now: float) -> float:
        """Returns for how many seconds a worker has been busy so far, on average over the workers.

        A worker is busy from the moment it is asked for something, or started, until it answers or is ended.

        Args:
            now: seconds, as `time.monotonic` tells them.
        """
        return float(np.mean([each.seconds_at_work(now) for each in self.workers]))

    def metrics(self) -> dict[str, float]:
        """Returns how often something went wrong so far, in all workers of this process, by name.

        The names are `restarts`, `hangs` and `dropped_episodes`, after `metrics_of` and a slash.
        """
        return {f"{self.metrics_of}/{name}": float(count) for name, count in vars(self.counts).items()}

    def close(self) -> None:
        """Ends all workers, also those of the worlds that `resize` made."""
        for each in self.workers + self._others:
            each.stop()
