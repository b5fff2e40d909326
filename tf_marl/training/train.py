"""The story of a run on one page: collect, learn, record, evaluate, save.

It knows learners and worlds by their protocols alone: `agents/learner.py`, `environments/world.py`.
"""

import json
import logging
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

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
Seen = dict[str, np.ndarray]  # of an update that was looked at closely: see `Learner.learn_closely`


class Result(NamedTuple):
    """What a run came to."""

    env_steps: int
    evaluation: Metrics  # the last one
    interrupted: bool


def _collector(
    world: World, agent: Learner, num_steps: int, seed: int, num_shards: int | None, whole_episodes: bool
) -> AnyCollector:
    """The collector that a world wants. Args: as for `Trainer`."""
    if isinstance(world, CompiledWorld):
        return Collector(world, agent.collect_policy, num_steps, seed, num_shards, whole_episodes)
    assert isinstance(world, LiveWorld)
    return LiveCollector(world, agent.collect_policy, num_steps, seed, whole_episodes)


@gin.configurable("train", denylist=["world", "root_dir", "seed", "max_gigabytes"])
class Trainer:
    """A learner, the world it learns in, and the checkpoints that remember both.

    Building it is cheap and checks everything the user set; `run` does the work.
    """

    @checked("train")
    def __init__(
        self,
        world: World,
        agent: Callable[..., Learner] = gin.REQUIRED,
        *,
        root_dir: str | pathlib.Path,
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
        """
        Args:
            world: to train in; evaluation uses one of its own.
            agent: (time_step_spec, action_spec, unit_types, seed) -> the learner, such as `agents.ippo`.
            root_dir: holds `checkpoints`, and in `best` the weights that evaluated best.
            seed: root of the run's seed tree.
            num_env_steps: env steps to train for; one is one joint action in one environment.
            rollout_steps: T, env steps per environment between two updates.
            eval_every_env_steps: env steps between two evaluations.
            eval_episodes: episodes per evaluation.
            checkpoint_every_env_steps: env steps between two checkpoints: the most that a crash costs.
            max_checkpoints: how many to keep, the latest; the best one is kept besides.
            num_shards: programs that collect side by side; None is one a core. The seed tree branches here: equal runs
                need equal numbers.
            whole_episodes: whether a rollout is one whole episode of each environment instead, of up to the map's time
                limit, and `rollout_steps` is not asked for.
            max_gigabytes: of memory that it may take; None is what the machine has.
        Raises:
            ValueError: an argument is of the wrong type or size, a rollout cannot fill the minibatches, or a run would
                take too much memory; names it.
        """
        self.agent = agent(world.time_step_spec, world.action_spec, unit_types=world.unit_types, seed=seed)
        num_steps = world.episode_limit if whole_episodes else rollout_steps
        self.agent.check(world.num_envs, num_steps)
        rollouts = f"environment.num_envs = {world.num_envs:,} with rollouts of {num_steps:,} env steps"
        memory.check(memory.of_training(self.agent, world.num_envs, num_steps), max_gigabytes, rollouts)
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
        self._root_dir = pathlib.Path(root_dir)
        self._checkpoint_every = checkpoint_every_env_steps
        weights = self.agent.weights
        everything = {"agent": self.agent, "collector": self.collector, "env_steps": self.env_steps}
        run = {"seed": seed, "train.num_shards": self.collector.num_shards}
        self._checkpoints = Checkpoints(self._root_dir / "checkpoints", max_checkpoints, run, **everything, **weights)
        # Of the best evaluation: the share that came to the world's first outcome, if it has any; then the return.
        self._ranked_by = [*(f"eval/{name}_mean" for name in world.outcomes[:1]), "eval/return_mean"]
        self._best_rank = tf.Variable([-math.inf] * len(self._ranked_by), trainable=False)
        self._best = Checkpoints(self._root_dir / "best", 1, rank=self._best_rank, **weights)

    def restore(self) -> bool:
        """Takes up the newest checkpoint, to train on as if the run had never stopped; False if there is none.

        Where the best policy is damaged, the next evaluation is the best one.

        Raises:
            ValueError: all checkpoints are damaged, or they are not of such an agent or such environments.
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

        The best has the highest share of the world's first outcome, then the highest return; of equals, the latest.

        Returns: the env steps it had trained for; None, and no change, if nothing was evaluated or saved so far.
        Raises:
            ValueError: as above.
        """
        return (self._best if best else self._checkpoints).restore(*self.agent.weights)

    def run(
        self,
        record: Callable[[int, Metrics], None] = lambda env_steps, metrics: None,
        stop: Callable[[], bool] = lambda: False,
        keep: Callable[[int, Seen], None] = lambda env_steps, seen: None,
    ) -> Result:
        """Trains until `num_env_steps`, evaluating greedily now and then and at the end.

        Args:
            record: is handed (env steps so far, metrics) after every update and every evaluation.
            stop: is asked before every update whether to save and end here.
            keep: is handed (env steps so far, what was seen) of every update that the learner looks at closely.
        Raises:
            FloatingPointError: an update came to numbers that are not finite. The state before it is the newest
                checkpoint, and a file in `root_dir` describes the batch.
            OSError: a checkpoint cannot be written; those before it are untouched.
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
        """Plays `episodes` greedy episodes, or a few more, by which no weights were chosen. Returns as an Evaluator."""
        rounds = -(-episodes // self._eval_episodes)
        seeds = [tf.random.experimental.stateless_fold_in([self._seed, 6], i) for i in range(rounds)]
        results = [self.evaluator(seed) for seed in seeds]
        return {name: sum(result[name] for result in results) / rounds for name in results[0]}

    def iteration(self) -> tuple[dict[str, tf.Tensor], Tally]:
        """One turn of the loop: a rollout, and the update on it; what there is to record of both."""
        return self._learn(*self.collector.collect())

    def build_iteration(self) -> Callable[[], tuple[dict[str, tf.Tensor], Tally]]:
        """`iteration`, compiled. On a GPU all of it is one XLA program; on a CPU the parts that gain by it are."""
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        return self._build(self._learn, jit_compile=on_gpu)

    def _build(self, learn: Callable[[Rollout, Tally], Any], jit_compile: bool = False) -> Callable[[], Any]:
        """Collecting and learning, compiled: as one program, if collecting can be part of it."""
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
        """Evaluates, and keeps the weights if there were no better ones."""
        seed = tf.random.experimental.stateless_fold_in([self._seed, 3], self.env_steps)
        evaluation = {f"eval/{name}": value for name, value in self.evaluator(seed).items()}
        record(int(self.env_steps), evaluation)
        rank = [evaluation[name] for name in self._ranked_by]
        if rank >= self._best_rank.numpy().tolist():
            self._best_rank.assign(rank)
            self._best.save(int(self.env_steps))
        return evaluation

    def save(self) -> int:
        """Makes a checkpoint. Returns: the env steps so far. Raises OSError: as `run`."""
        self._checkpoints.save(int(self.env_steps))
        return int(self.env_steps)

    def _variables(self) -> list[tf.Variable]:
        """All that an iteration changes."""
        return [*self.agent.learning_variables, *self.collector.variables, self.env_steps]

    def _describe_failure(self, not_finite: list[str]) -> str:
        """Saves the state before an update that failed and a description of its batch. Returns what to tell the user.

        Args: not_finite, names of metrics.
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
    """What may tell why a computation overflowed: shape, share of numbers, and their range and mean."""
    values = tf.convert_to_tensor(tensor).numpy().astype(np.float64)
    numbers = values[np.isfinite(values)]
    spread = {"min": numbers.min(), "mean": numbers.mean(), "max": numbers.max()} if numbers.size else {}
    return {"shape": list(values.shape), "finite": np.isfinite(values).mean(), **spread}


def _of_episodes(tally: Tally, seconds: float) -> Metrics:
    """What there is to record of the episodes of one iteration: means, where any ended, and speed."""
    recorded = {"train/env_steps_per_second": float(tally.env_steps) / seconds}
    if episodes := float(tally.episodes):
        sums = {"return": tally.returns, "episode_length": tally.env_steps_of_episodes} | tally.outcomes
        recorded |= {f"train/{name}_mean": float(total) / episodes for name, total in sums.items()}
    return recorded
