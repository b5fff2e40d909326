"""The story of a run on one page: collect, advantage, update, diagnose, record, evaluate."""

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gin
import numpy as np
import pydantic
import tensorflow as tf
from tf_agents.trajectories import trajectory

from tf_marl import diagnostics
from tf_marl.agents import ppo
from tf_marl.config import STRICT, Count, naming
from tf_marl.environments.functional import FunctionalEnvironment
from tf_marl.training.evaluate import Evaluator
from tf_marl.training.rollout import Collector

Metrics = dict[str, float]
History = dict[str, np.ndarray]


class Result(NamedTuple):
    """What a run came to."""

    env_steps: int
    evaluation: Metrics  # the last one
    interrupted: bool


@gin.configurable("train", denylist=["environment", "root_dir", "seed"])
class Trainer:
    """A learner, the environments it learns in, and the checkpoints that remember both.

    Building it is cheap and checks everything the user set; `run` does the work.
    """

    @naming("train")
    @pydantic.validate_call(config=STRICT)
    def __init__(
        self,
        *,
        environment: FunctionalEnvironment,
        root_dir: str,
        agent: Callable[..., Any] = gin.REQUIRED,
        seed: pydantic.NonNegativeInt = 0,
        num_env_steps: Count = 1_000_000,
        rollout_steps: Count = 64,
        eval_every_env_steps: Count = 100_000,
        eval_episodes: Count = 32,
        num_shards: Count | None = None,
        whole_episodes: bool = False,
    ):
        """
        Args:
            environment: to train in; evaluation uses environments of its own.
            root_dir: holds the checkpoints, and in `best` the weights that evaluated best.
            agent: (time_step_spec, action_spec, unit_types, seed) -> the agent.
            seed: root of the run's seed tree.
            num_env_steps: env steps to train for; one is one joint action in one environment.
            rollout_steps: T, env steps per environment between two updates.
            eval_every_env_steps: env steps between two evaluations.
            eval_episodes: episodes per evaluation.
            num_shards: programs that collect side by side; None is one a core. The seed tree branches here: equal runs
                need equal numbers.
            whole_episodes: whether a rollout is one whole episode of each environment instead, of up to the map's time
                limit, and `rollout_steps` is not asked for.
        Raises:
            ValueError: an argument is of the wrong type or size, or a rollout cannot fill the minibatches; names it.
        """
        core = environment.core
        self.agent: ppo.PPOAgent = agent(
            environment.time_step_spec(), environment.action_spec(), unit_types=core.unit_types, seed=seed
        )
        num_steps = core.episode_limit if whole_episodes else rollout_steps
        self.agent.num_sequences(core.num_envs, num_steps)  # whether it suits
        self.env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.num_env_steps = num_env_steps
        self._seed = seed
        self._eval_every = eval_every_env_steps
        self._core = core
        self.collector = Collector(core, self.agent.collect_policy, num_steps, seed, num_shards, whole_episodes)
        self._evaluator = self.evaluator(eval_episodes)
        self._full = diagnostics.Full()
        self._checkpoints = tf.train.CheckpointManager(
            tf.train.Checkpoint(agent=self.agent, collector=self.collector, env_steps=self.env_steps),
            os.path.join(root_dir, "checkpoints"),
            max_to_keep=3,
        )
        self._best_rank = tf.Variable([-1.0, -1.0], trainable=False)  # of the best evaluation: win rate, return
        self._best_env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._best = tf.train.CheckpointManager(
            tf.train.Checkpoint(
                actor=self.agent.actor,
                critic=self.agent.critic,
                rank=self._best_rank,
                env_steps=self._best_env_steps,
            ),
            os.path.join(root_dir, "best"),
            max_to_keep=1,
        )

    def evaluator(self, episodes: int) -> Evaluator:
        """Plays `episodes` greedy episodes when called."""
        return Evaluator(self._core.resize(episodes), self.agent.policy)

    def restore(self) -> bool:
        """Takes up the newest checkpoint; False if there is none."""
        if self._checkpoints.restore_or_initialize() is None:
            return False
        if self._best.latest_checkpoint:
            rank = tf.train.Checkpoint(rank=self._best_rank)
            rank.restore(self._best.latest_checkpoint).expect_partial()
        return True

    def restore_best(self) -> int | None:
        """Gives the agent the weights of its best evaluation, to play with, not to train on.

        The best has the highest win rate, then the highest return, and of equals it is the latest.

        Returns: the env steps it had trained for; None, and no change, if there was no evaluation.
        """
        if not self._best.latest_checkpoint:
            return None
        self._best.restore_or_initialize()
        return int(self._best_env_steps)

    def run(
        self,
        record: Callable[[int, Metrics], None],
        stop: Callable[[], bool] = lambda: False,
        keep: Callable[[int, History], None] = lambda env_steps, history: None,
    ) -> Result:
        """Trains until `num_env_steps`, evaluating greedily now and then and at the end.

        Args:
            record: is handed (env steps so far, metrics) after every update and every evaluation.
            stop: is asked before every update whether to end here, in order.
            keep: is handed (env steps so far, history) of every update that `diagnostics.full_every` measures in full:
                an array [epochs + 1, ...] for each name of `diagnostics.ratio_sizes` and `Full.distribution`.
        """
        iteration, watched = self.build_iteration(), tf.function(self.watched_iteration)
        evaluation: Metrics = {}
        evaluated = None
        while (before := int(self.env_steps)) < self.num_env_steps and not stop():
            began = time.perf_counter()
            self.agent.progress.assign(before / self.num_env_steps)
            full = self._full.due(int(self.agent.train_step_counter))
            tensors, history = watched() if full else (iteration(), {})
            metrics = {name: float(value) for name, value in tensors.items()}
            record(int(self.env_steps), _recorded(metrics, time.perf_counter() - began))
            if full:
                rows = int(metrics["trust_region/epochs"]) + 1
                keep(int(self.env_steps), {name: values.numpy()[:rows] for name, values in history.items()})
            if before // self._eval_every < int(self.env_steps) // self._eval_every:
                evaluation, evaluated = self._evaluate_and_save(record), int(self.env_steps)
        if evaluated != int(self.env_steps):
            evaluation = self._evaluate_and_save(record)
        return Result(int(self.env_steps), evaluation, interrupted=int(self.env_steps) < self.num_env_steps)

    def iteration(self) -> dict[str, tf.Tensor]:
        """One turn of the loop: a rollout, the update on it, and how far that moved the policy; scalar tensors."""
        return self._iteration(watch=None)[0]

    def watched_iteration(self) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """The same, and the distributions of how far, [epochs + 1, ...] each; not for XLA."""
        seed = tf.random.experimental.stateless_fold_in([self._seed, 8], self.agent.train_step_counter)
        return self._iteration(
            watch=lambda _, change: diagnostics.ratio_sizes(change) | self._full.distribution(change, seed)
        )

    def _iteration(self, watch: ppo.Watch | None) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        experience, final_time_step, tally = self.collector.collect()
        epsilon = self.agent.epsilon(
            experience.observation["alive"]
        )  # enforcement may have another for the next update
        update = self.agent.update(experience, final_time_step, watch)
        measured = self.diagnose(experience, update.advantage, epsilon)
        self.env_steps.assign_add(tf.cast(tally.env_steps, tf.int64))
        tallied = {f"tally/{name}": value for name, value in tally._asdict().items()}
        return measured | update.metrics | tallied, update.history

    def diagnose(
        self, experience: trajectory.Trajectory, advantage: tf.Tensor, epsilon: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """How far the update on a rollout moved the policy, and what that certifies.

        Args: advantage, that it learned from; epsilon, of its clip range.
        """
        seed = tf.random.experimental.stateless_fold_in([self._seed, 7], self.agent.train_step_counter)
        change = self.agent.policy_change(experience)._replace(epsilon=epsilon)
        sizes = diagnostics.trust_region(change, seed)
        gamma = self.agent.config.gamma
        return sizes | (diagnostics.certificate(change, advantage, gamma, sizes) if gamma < 1 else {})

    def build_iteration(self) -> Callable[[], dict[str, tf.Tensor]]:
        """`iteration`, compiled. On a GPU all of it is one XLA program; on a CPU the parts that gain by it are."""
        return tf.function(self.iteration, jit_compile=bool(tf.config.list_physical_devices("GPU")))

    def _evaluate_and_save(self, record: Callable[[int, Metrics], None]) -> Metrics:
        seed = tf.random.experimental.stateless_fold_in([self._seed, 3], self.env_steps)
        evaluation = {f"eval/{name}": value for name, value in self._evaluator(seed).items()}
        record(int(self.env_steps), evaluation)
        self._checkpoints.save(checkpoint_number=self.env_steps)
        rank = [evaluation["eval/battle_won_mean"], evaluation["eval/return_mean"]]
        if rank >= self._best_rank.numpy().tolist():
            self._best_rank.assign(rank)
            self._best_env_steps.assign(self.env_steps)
            self._best.save(checkpoint_number=self.env_steps)
        return evaluation


def _recorded(metrics: Metrics, seconds: float) -> Metrics:
    """What one iteration is recorded as: episode means where episodes ended, and speed."""
    tally = {name.removeprefix("tally/"): value for name, value in metrics.items() if name.startswith("tally/")}
    recorded = {name: value for name, value in metrics.items() if not name.startswith("tally/")}
    recorded["train/env_steps_per_second"] = tally["env_steps"] / seconds
    if episodes := tally["episodes"]:
        recorded["train/return_mean"] = tally["returns"] / episodes
        recorded["train/battle_won_mean"] = tally["battles_won"] / episodes
        recorded["train/episode_length_mean"] = tally["env_steps_of_episodes"] / episodes
    return recorded
