"""Live worlds are games that run outside of TensorFlow; experience is collected from them step by step."""

import math
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step, trajectory
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.learner import Rollout
from tf_marl.compile import graph
from tf_marl.environments.world import LiveWorld
from tf_marl.training.collect import Tally


class LiveCollector(tf.Module):
    """Collects rollouts from a live world, whose episodes go on from one rollout to the next.

    Checkpoints do not save the episodes under way, so after a resume all episodes begin anew.

    If an episode breaks off, because a game fails, its rows in the present rollout become boundaries and nothing is
    learned from them. Its rows in earlier rollouts, if any, were learned from already. With `whole_episodes` no episode
    spans two rollouts.

    Args:
        world: all B environments.
        policy: chooses the actions.
        num_steps: T, env steps of each rollout.
        seed: root of the policy's randomness; the games have their own.
        whole_episodes: whether every rollout starts anew and holds one episode of each environment, at most T env steps
            long.
    """

    num_shards = 1

    def __init__(
        self,
        world: LiveWorld,
        policy: tf_policy.TFPolicy,
        num_steps: int,
        seed: int,
        whole_episodes: bool = False,
    ):
        super().__init__("collector")
        world.one_episode = whole_episodes
        self._core = world
        self._policy = policy
        self._num_steps = num_steps
        self._whole_episodes = whole_episodes
        self._seed = tf.constant([seed, 2], tf.int32)
        self._count = tf.Variable(0, dtype=tf.int32, trainable=False, name="rollouts")
        self._act = self._compiled()
        # The state of the games. A namespace hides it from checkpoints, which save a module's attributes.
        self._now = SimpleNamespace(time_step=None, policy_state=(), totals=(), seconds=0.0, at_work=0.0)

    def _compiled(self) -> Callable[..., policy_step.PolicyStep]:
        """Compiles the policy, to be called on what the games show.

        The result maps (time step of arrays [B, ...]; seed and step, int32 [3]; policy state) to a policy step. All
        games wait for this call, and most of its cost is passing arrays to TensorFlow. So the time step is passed as
        one array, [B, features].
        """
        batch = self._core.num_envs
        spec = self._core.time_step_spec
        leaves = tf.nest.flatten(spec)
        sizes = [math.prod(leaf.shape) for leaf in leaves]

        @graph.function(jit_compile=True)
        def act(shown: tf.Tensor, message: tf.Tensor, policy_state: types.NestedTensor) -> policy_step.PolicyStep:
            parts = [
                tf.cast(tf.reshape(part, [batch, *leaf.shape]), leaf.dtype)
                for part, leaf in zip(tf.split(shown, sizes, axis=1), leaves, strict=True)
            ]
            seed = tf.random.experimental.stateless_fold_in(message[:2], message[2])
            return self._policy.action(tf.nest.pack_sequence_as(spec, parts), policy_state, seed=seed)

        state_spec = tf.nest.map_structure(
            lambda leaf: tf.TensorSpec([batch, *leaf.shape], leaf.dtype), self._policy.policy_state_spec
        )
        # Calling a concrete function skips the search for the right trace.
        concrete = act.get_concrete_function(
            tf.TensorSpec([batch, sum(sizes)]), tf.TensorSpec([3], tf.int32), state_spec
        )

        def decide(shown: ts.TimeStep, message: np.ndarray, policy_state: types.NestedTensor) -> policy_step.PolicyStep:
            rows = [leaf.reshape(batch, -1).astype(np.float32) for leaf in tf.nest.flatten(shown)]
            return concrete(tf.constant(np.concatenate(rows, axis=1)), tf.constant(message), policy_state)

        return decide

    def collect(self) -> tuple[Rollout, Tally]:
        """Collects rollouts until one has a row to learn from, and returns that one.

        Returns:
            The rollout, [B, T, ...], and the tally of scalars over all rollouts that were played.
        Raises:
            WorldFailedError: the world cannot go on.
        """
        began = time.monotonic()
        at_work = self._core.seconds_at_work(began)
        tallies = []
        while True:
            rollout, tally = self._play()
            tallies.append(tally)
            if not rollout.experience.is_boundary().numpy().all():
                break
        ended = time.monotonic()
        self._now.seconds += ended - began
        self._now.at_work += self._core.seconds_at_work(ended) - at_work
        return rollout, tf.nest.map_structure(lambda *leaves: tf.add_n(leaves), *tallies)

    def _play(self) -> tuple[Rollout, Tally]:
        """Plays one rollout, [B, T, ...], and returns it with its tally."""
        self._count.assign_add(1)
        seed = tf.random.experimental.stateless_fold_in(self._seed, self._count).numpy()
        world, now = self._core, self._now
        if now.time_step is None or self._whole_episodes:
            now.time_step, now.policy_state = world.reset(), self._policy.get_initial_state(world.num_envs)
            now.totals = np.zeros([2, world.num_envs], np.float32)  # return and length of the episodes under way
        time_steps, decisions, info = [now.time_step], [], []
        for t in range(self._num_steps):
            decision = self._act(time_steps[-1], np.array([*seed, t], np.int32), now.policy_state)
            now.policy_state = decision.state
            decisions.append(decision._replace(state=()))
            time_steps.append(world.step(decision.action.numpy()))
            info.append(world.info())
        now.time_step = time_steps[-1]

        def stack(leaves: list) -> np.ndarray:
            return np.stack([np.asarray(leaf) for leaf in leaves], axis=1)

        shown = tf.nest.map_structure(lambda *leaves: stack(leaves), *time_steps)
        decided = tf.nest.map_structure(lambda *leaves: stack(leaves), *decisions)
        rows = trajectory.Trajectory(
            step_type=shown.step_type[:, :-1],
            observation={name: leaf[:, :-1] for name, leaf in shown.observation.items()},
            action=decided.action,
            policy_info=decided.info,
            next_step_type=shown.step_type[:, 1:],
            reward=shown.reward[:, 1:],
            discount=shown.discount[:, 1:],
        )
        outcomes = {name: np.stack([facts[name] for facts in info], axis=1) for name in world.outcomes}
        tally, now.totals = _tally(rows, outcomes, now.totals)
        rows = without_broken(rows, self._whole_episodes)
        rows, final, tally = tf.nest.map_structure(tf.convert_to_tensor, (rows, now.time_step, tally))
        return Rollout(rows, final), tally

    def metrics(self) -> dict[str, float]:
        """Returns the world's metrics, and `live/busy`, the share of the collecting time in which games were at work.

        `live/busy` covers the collections since this method was last called, and is in [0, 1]. Work of a game between
        two collections, such as restarting after a failure, does not count.
        """
        busy = self._now.at_work / self._now.seconds
        self._now.seconds = self._now.at_work = 0.0
        return self._core.metrics() | {"live/busy": busy}


def _tally(
    rows: trajectory.Trajectory, outcomes: dict[str, np.ndarray], totals: np.ndarray
) -> tuple[Tally, np.ndarray]:
    """Sums up the rows of a rollout.

    Args:
        rows: arrays [B, T, ...].
        outcomes: [B, T] bool each, by name; they count where an episode ends.
        totals: [2, B], return and length (env steps) of the episodes under way before the first row.
    Returns:
        The tally of scalars, and the totals after the last row, [2, B].
    """
    first = rows.next_step_type == ts.StepType.FIRST
    rests = (rows.step_type == ts.StepType.LAST) & ~first
    ended = (rows.next_step_type == ts.StepType.LAST) & ~rests
    sums = np.zeros(2, np.float32)
    for t in range(rows.reward.shape[1]):
        totals = totals + np.stack([rows.reward[:, t], ~rests[:, t]])
        totals[:, first[:, t]] = 0.0
        sums += (totals * ended[:, t]).sum(axis=1)
    env_steps, episodes = np.float32((~first & ~rests).sum()), np.float32(ended.sum())
    came_to = {name: np.float32((ended & outcome).sum()) for name, outcome in outcomes.items()}
    return Tally(env_steps, episodes, sums[0], sums[1], came_to), totals


def without_broken(rows: trajectory.Trajectory, only_whole: bool) -> trajectory.Trajectory:
    """Turns the rows of episodes that broke off into boundaries, so that nothing is learned from them.

    An episode broke off where a FIRST time step follows one that was not LAST.

    Args:
        rows: arrays [B, T, ...].
        only_whole: whether episodes that are still under way after the last row are treated so, too.
    Returns:
        Arrays [B, T, ...]; the changed rows have step types LAST and reward 0.
    """
    void = (rows.step_type != ts.StepType.LAST) & (rows.next_step_type == ts.StepType.FIRST)
    goes_on = rows.next_step_type == ts.StepType.MID
    after = np.full(len(void), only_whole)
    for t in reversed(range(void.shape[1])):
        void[:, t] |= goes_on[:, t] & after
        after = void[:, t]
    return rows._replace(
        step_type=np.where(void, ts.StepType.LAST, rows.step_type),
        next_step_type=np.where(void, ts.StepType.LAST, rows.next_step_type),
        reward=np.where(void, np.float32(0.0), rows.reward),
    )
