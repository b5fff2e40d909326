"""A run is a loop that collects a rollout, learns from it, records metrics, and at intervals evaluates and saves.

The loop knows learners and worlds only by their protocols, in `agents/learner.py` and `environments/world.py`.
"""

import json
import logging
import math
import pathlib
import time
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import gin
import numpy as np
import pydantic
import tensorflow as tf

from tf_marl.agents.learner import Learner, Rollout
from tf_marl.compile import graph
from tf_marl.config import Count, checked
from tf_marl.environments.world import CompiledWorld, LiveWorld, World
from tf_marl.training import memory
from tf_marl.training.checkpoints import Checkpoints
from tf_marl.training.collect import AnyCollector, Collector, Tally
from tf_marl.training.evaluate import Evaluator
from tf_marl.training.live import LiveCollector

Metrics = dict[str, float]
Folder = Annotated[
    pathlib.Path, pydantic.BeforeValidator(lambda path: pathlib.Path(path) if isinstance(path, str) else path)
]
Seen = dict[str, np.ndarray]  # of an update that was looked at closely: see `Learner.learn_closely`


class Result(NamedTuple):
    """Holds the outcome of a run."""

    env_steps: int
    evaluation: Metrics  # the last one
    interrupted: bool


def _collector(
    world: World, agent: Learner, num_steps: int, seed: int, num_shards: int | None, whole_episodes: bool
) -> AnyCollector:
    """Returns the collector for a world's kind; the arguments are those of `Trainer`."""
    if isinstance(world, CompiledWorld):
        return Collector(world, agent.collect_policy, num_steps, seed, num_shards, whole_episodes)
    assert isinstance(world, LiveWorld)
    return LiveCollector(world, agent.collect_policy, num_steps, seed, whole_episodes)


@gin.configurable("train", denylist=["world", "root_dir", "seed", "max_gigabytes"])
class Trainer:
    """Trains a learner in a world, evaluates it, and keeps checkpoints of both.

    Building a trainer is cheap and checks all settings; `run` does the work.

    Args:
        world: to train in; evaluation uses environments of its own.
        agent: (time_step_spec, action_spec, unit_types, seed) -> the learner, such as `agents.ippo`.
        root_dir: folder of the run. Its folder `checkpoints` holds the checkpoints, and `best` the weights that
            evaluated best.
        seed: root of the run's seed tree.
        num_env_steps: env steps to train for; one is one joint action in one environment.
        rollout_steps: T, env steps per environment between two updates.
        eval_every_env_steps: env steps between two evaluations.
        eval_episodes: episodes per evaluation.
        checkpoint_every_env_steps: env steps between two checkpoints; a crash loses at most about this many.
        max_checkpoints: how many checkpoints to keep, the latest ones; the best weights are kept besides.
        num_shards: number of programs that collect side by side; None is one per CPU core. The seed tree branches
            here, so equal runs need equal numbers.
        whole_episodes: whether a rollout is one whole episode of each environment, of at most the map's time limit;
            `rollout_steps` is then ignored.
        max_gigabytes: memory that the run may take; None is what the machine has free.
    Raises:
        ValueError: an argument is of the wrong type or size, a rollout cannot fill the minibatches, or the run
            would take too much memory; the message names the setting.
    """

    @checked("train")
    def __init__(
        self,
        world: World,
        agent: Callable[..., Learner] = gin.REQUIRED,
        *,
        root_dir: Folder,
        seed: pydantic.NonNegativeInt = 0,
        num_env_steps: Count = 1_000_000,
        rollout_steps: Count = 64,
        eval_every_env_steps: Count = 100_000,
        eval_episodes: Count = 32,
        checkpoint_every_env_steps: Count = 50_000,
        max_checkpoints: Count = 3,
        num_shards: Count | None = None,
        whole_episodes: bool = False,
        max_gigabytes: pydantic.PositiveFloat | None = None,
    ):
        self.agent = agent(world.time_step_spec, world.action_spec, unit_types=world.unit_types, seed=seed)
        num_steps = world.episode_limit if whole_episodes else rollout_steps
        self.agent.check(world.num_envs, num_steps)
        rollouts = f"environment.num_envs = {world.num_envs:,} with rollouts of {num_steps:,} env steps"
        kept = self.agent.memory_kept(world.num_envs, num_steps)
        needed = memory.of_training(self.agent, world.num_envs, num_steps) + sum(kept.values())
        memory.check(needed, max_gigabytes, " and ".join([rollouts, *kept]))
        evaluation = memory.of_episodes(self.agent.policy, eval_episodes)
        memory.check(evaluation, max_gigabytes, f"train.eval_episodes = {eval_episodes:,}")
        self.env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.num_env_steps = num_env_steps
        self._seed = seed
        self._eval_every = eval_every_env_steps
        self.world = world
        self.collector = _collector(world, self.agent, num_steps, seed, num_shards, whole_episodes)
        self._eval_episodes = eval_episodes
        self.evaluator = Evaluator(world.resize(eval_episodes), self.agent.policy)
        self._root_dir = root_dir
        self._checkpoint_every = checkpoint_every_env_steps
        weights = self.agent.weights
        everything = {"agent": self.agent, "collector": self.collector, "env_steps": self.env_steps}
        run = {"seed": seed, "train.num_shards": self.collector.num_shards}
        folder = self._root_dir / "checkpoints"
        self._checkpoints = Checkpoints(folder, max_checkpoints, run, self.agent.replay, **everything, **weights)
        # Of the best evaluation: the share that came to the world's first outcome, if it has any; then the return.
        self._ranked_by = [*(f"eval/{name}_mean" for name in world.outcomes[:1]), "eval/return_mean"]
        self._best_rank = tf.Variable([-math.inf] * len(self._ranked_by), trainable=False)
        self._best = Checkpoints(self._root_dir / "best", 1, rank=self._best_rank, **weights)

    def restore(self) -> bool:
        """Restores the newest checkpoint, so that training goes on as if the run had never stopped.

        If the best weights are damaged, a warning is logged, and the next evaluation counts as the best one.

        Returns:
            Whether there was a checkpoint.
        Raises:
            ValueError: all checkpoints are damaged; or the newest intact one is of a run with another seed or number of
                shards, or of another agent or other environments.
        """
        if self._checkpoints.restore() is None:
            return False
        try:
            self._best.restore("rank")
        except ValueError:
            logging.getLogger(__name__).warning("no best policy is left; the next evaluation makes a new one")
        return True

    def restore_policy(self, best: bool) -> int | None:
        """Gives the agent the weights of its best evaluation or of its newest checkpoint, to play with.

        The best evaluation is the one with the highest share of the world's first outcome (such as won battles), then
        the highest return, then the latest.

        Args:
            best: whether to take the best evaluation instead of the newest checkpoint.
        Returns:
            The env steps it had been trained for; None, with the weights unchanged, if nothing has been evaluated or
            saved yet.
        Raises:
            ValueError: all snapshots are damaged, or the newest intact one is of another agent.
        """
        return (self._best if best else self._checkpoints).restore(*self.agent.weights)

    def run(
        self,
        record: Callable[[int, Metrics], None] = lambda env_steps, metrics: None,
        stop: Callable[[], bool] = lambda: False,
        keep: Callable[[int, Seen], None] = lambda env_steps, seen: None,
    ) -> Result:
        """Trains until `num_env_steps`, evaluating the greedy policy at intervals and at the end.

        Args:
            record: called with (env steps so far, metrics) after every update and every evaluation.
            stop: called before every update; returns whether to save and end there.
            keep: called with (env steps so far, measurements, arrays of any shape by name) after every update that the
                learner measures closely.
        Returns:
            The env steps so far, the last evaluation, and whether the run ended before `num_env_steps`.
        Raises:
            FloatingPointError: an update came to NaN or infinity. The state before it is the newest checkpoint, and a
                file in `root_dir` describes the batch.
            OSError: a checkpoint cannot be written; earlier ones are not touched.
            WorldFailedError: a live world cannot go on; the state is that after the last update.
        """
        iteration, close_iteration = self.build_iteration(), self._build(self._learn_closely)
        variables = self._variables()
        # In one call, not a hundred.
        snapshot = graph.function(lambda: [variable.read_value() for variable in variables])
        evaluation: Metrics = {}
        evaluated = saved = None
        while (before := int(self.env_steps)) < self.num_env_steps and not stop():
            began = time.perf_counter()
            self.agent.progress.assign(before / self.num_env_steps)
            before_update = snapshot()
            closely = self.agent.is_due()
            (tensors, tally), seen = close_iteration() if closely else (iteration(), {})
            metrics = {name: float(value) for name, value in tensors.items()}
            if not_finite := [name for name, value in metrics.items() if not math.isfinite(value)]:
                for variable, value in zip(variables, before_update, strict=True):
                    variable.assign(value)
                raise FloatingPointError(self._describe_failure(not_finite))
            metrics |= _of_episodes(tally, time.perf_counter() - began) | self.collector.metrics()
            record(int(self.env_steps), metrics)
            if seen:
                keep(int(self.env_steps), {name: values.numpy() for name, values in seen.items()})
            if before // self._eval_every < int(self.env_steps) // self._eval_every:
                evaluation, evaluated = self.evaluate(record), int(self.env_steps)
            if before // self._checkpoint_every < int(self.env_steps) // self._checkpoint_every:
                saved = self.save()
        interrupted = int(self.env_steps) < self.num_env_steps
        if not interrupted and evaluated != int(self.env_steps):
            evaluation = self.evaluate(record)
        if saved != int(self.env_steps):
            self.save()
        return Result(int(self.env_steps), evaluation, interrupted)

    def evaluate_afresh(self, episodes: int) -> Metrics:
        """Evaluates the policy on new episodes, so that the choice of the best weights does not bias the result.

        Args:
            episodes: how many to play at least; it is rounded up to a multiple of `eval_episodes`.
        Returns:
            Means over the episodes by name, such as `return_mean` and `battle_won_mean`.
        """
        rounds = -(-episodes // self._eval_episodes)
        seeds = [tf.random.experimental.stateless_fold_in([self._seed, 6], i) for i in range(rounds)]
        results = [self.evaluator(seed) for seed in seeds]
        return {name: sum(result[name] for result in results) / rounds for name in results[0]}

    def iteration(self) -> tuple[dict[str, tf.Tensor], Tally]:
        """Collects a rollout and updates the weights on it, once.

        Returns:
            Scalars of the update to record, and the rollout's tally, scalars as well.
        """
        return self._learn(*self.collector.collect())

    def build_iteration(self) -> Callable[[], tuple[dict[str, tf.Tensor], Tally]]:
        """Compiles `iteration`.

        On a GPU all of it is one XLA program; on a CPU only those parts are XLA's that gain from it.

        Returns:
            A function without arguments that returns scalars of the update to record, and the rollout's tally of
            scalars.
        """
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        return self._build(self._learn, jit_compile=on_gpu)

    def _build(self, learn: Callable[[Rollout, Tally], Any], jit_compile: bool = False) -> Callable[[], Any]:
        """Compiles collecting and learning, as one program if the world compiles."""
        together = self.world.compiles
        learn = learn if together else graph.function(learn, jit_compile=jit_compile)

        def turn() -> Any:
            return learn(*self.collector.collect())

        return graph.function(turn, jit_compile=jit_compile) if together else turn

    def _learn(self, rollout: Rollout, tally: Tally) -> tuple[dict[str, tf.Tensor], Tally]:
        metrics = self.agent.learn(rollout)
        self.env_steps.assign_add(tf.cast(tally.env_steps, tf.int64))
        return metrics, tally

    def _learn_closely(self, rollout: Rollout, tally: Tally) -> tuple[Any, dict[str, tf.Tensor]]:
        metrics, seen = self.agent.learn_closely(rollout)
        self.env_steps.assign_add(tf.cast(tally.env_steps, tf.int64))
        return (metrics, tally), seen

    def evaluate(self, record: Callable[[int, Metrics], None]) -> Metrics:
        """Evaluates the policy, and saves the weights as the best ones unless earlier ones did better.

        Args:
            record: called with (env steps so far, metrics).
        Returns:
            The recorded metrics, `eval/return_mean` for one.
        """
        seed = tf.random.experimental.stateless_fold_in([self._seed, 3], self.env_steps)
        evaluation = {f"eval/{name}": value for name, value in self.evaluator(seed).items()}
        record(int(self.env_steps), evaluation)
        rank = [evaluation[name] for name in self._ranked_by]
        if rank >= self._best_rank.numpy().tolist():
            self._best_rank.assign(rank)
            self._best.save(int(self.env_steps))
        return evaluation

    def save(self) -> int:
        """Saves a checkpoint.

        Returns:
            The env steps so far.
        Raises:
            OSError: it cannot be written; earlier checkpoints are not touched.
        """
        self._checkpoints.save(int(self.env_steps))
        return int(self.env_steps)

    def _variables(self) -> list[tf.Variable]:
        """Returns all variables that an iteration changes."""
        return [*self.agent.learning_variables, *self.collector.variables, self.env_steps]

    def _describe_failure(self, not_finite: list[str]) -> str:
        """Saves the state before a failed update and describes its batch in a file.

        Args:
            not_finite: names of the metrics that are NaN or infinite.
        Returns:
            A message for the user.
        """
        env_steps = self.save()
        rollout, _ = self.collector.collect()  # the same again, of a compiled world
        networks = self.agent.weights
        weights = {f"{part}/{weight.name}": weight for part in networks for weight in networks[part].variables}
        path = self._root_dir / f"not_finite_{env_steps:012}.json"
        description = {
            "not_finite": not_finite,
            "batch": {
                name: _statistics(tensor) for name, tensor in self.agent.batch_facts(rollout).items() if name != "state"
            },
            "weights": {name: _statistics(tensor) for name, tensor in weights.items()},
        }
        path.write_text(json.dumps(description, indent=2), "utf-8")
        return (
            f"{', '.join(not_finite)}: not a finite number in the update at {env_steps:,} env steps; the state before"
            f" it is saved, its batch is described in {path}; go on with other settings, a lower learning rate say"
        )


def _statistics(tensor: tf.Tensor) -> dict[str, Any]:
    """Returns facts that may explain an overflow: shape, share of finite numbers, and their range and mean."""
    values = tf.convert_to_tensor(tensor).numpy().astype(np.float64)
    numbers = values[np.isfinite(values)]
    spread = {"min": numbers.min(), "mean": numbers.mean(), "max": numbers.max()} if numbers.size else {}
    return {"shape": list(values.shape), "finite": np.isfinite(values).mean(), **spread}


def _of_episodes(tally: Tally, seconds: float) -> Metrics:
    """Returns the metrics of one iteration's episodes: means over those that ended, if any did, and the speed."""
    recorded = {"train/env_steps_per_second": float(tally.env_steps) / seconds}
    if episodes := float(tally.episodes):
        sums = {"return": tally.returns, "episode_length": tally.env_steps_of_episodes} | tally.outcomes
        recorded |= {f"train/{name}_mean": float(total) / episodes for name, total in sums.items()}
    return recorded
