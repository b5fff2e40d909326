"""The story of a run on one page: collect, advantage, update, diagnose, record, evaluate."""

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
from tf_agents.trajectories import trajectory

from tf_marl import diagnostics
from tf_marl.agents.ppo import agent as ppo
from tf_marl.compile import graph
from tf_marl.config import Count, checked
from tf_marl.environments.sc2.core import StarCraft2
from tf_marl.environments.tf_environments import CompiledEnvironment, LiveEnvironment
from tf_marl.training import memory
from tf_marl.training.checkpoints import Checkpoints
from tf_marl.training.evaluate import Evaluator
from tf_marl.training.live import LiveCollector
from tf_marl.training.rollout import Collector, Rollout

Metrics = dict[str, float]
History = dict[str, np.ndarray]


class Result(NamedTuple):
    """What a run came to."""

    env_steps: int
    evaluation: Metrics  # the last one
    interrupted: bool


@gin.configurable("train", denylist=["environment", "root_dir", "seed", "max_gigabytes"])
class Trainer:
    """A learner, the environments it learns in, and the checkpoints that remember both.

    Building it is cheap and checks everything the user set; `run` does the work.
    """

    @checked("train")
    def __init__(
        self,
        *,
        environment: CompiledEnvironment | LiveEnvironment,
        root_dir: str,
        agent: Callable[..., Any] = gin.REQUIRED,
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
            environment: to train in; evaluation uses environments of its own.
            root_dir: holds `checkpoints`, and in `best` the weights that evaluated best.
            agent: (time_step_spec, action_spec, unit_types, seed) -> the agent.
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
        world = environment.world
        self.agent: ppo.PPOAgent = agent(
            environment.time_step_spec(), environment.action_spec(), unit_types=world.unit_types, seed=seed
        )
        num_steps = world.episode_limit if whole_episodes else rollout_steps
        self.agent.num_sequences(world.num_envs, num_steps)  # whether it suits
        rollouts = f"environment.num_envs = {world.num_envs:,} with rollouts of {num_steps:,} env steps"
        memory.check(memory.of_training(self.agent, world.num_envs, num_steps), max_gigabytes, rollouts)
        evaluation = memory.of_episodes(self.agent.policy, eval_episodes)
        memory.check(evaluation, max_gigabytes, f"train.eval_episodes = {eval_episodes:,}")
        self.env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.num_env_steps = num_env_steps
        self._seed = seed
        self._eval_every = eval_every_env_steps
        self._core = world
        policy = self.agent.collect_policy
        self.collector: Collector | LiveCollector
        if isinstance(world, StarCraft2):
            self.collector = LiveCollector(world, policy, num_steps, seed, whole_episodes)
        else:
            self.collector = Collector(world, policy, num_steps, seed, num_shards, whole_episodes)
        self._eval_episodes = eval_episodes
        self._evaluator = Evaluator(world.resize(eval_episodes), self.agent.policy)
        self._full = diagnostics.Full()
        self._root_dir = pathlib.Path(root_dir)
        self._checkpoint_every = checkpoint_every_env_steps
        weights = {"actor": self.agent.actor, "critic": self.agent.critic}
        everything = {"agent": self.agent, "collector": self.collector, "env_steps": self.env_steps}
        run = {"seed": seed, "train.num_shards": self.collector.num_shards}
        self._checkpoints = Checkpoints(self._root_dir / "checkpoints", max_checkpoints, run, **everything, **weights)
        self._best_rank = tf.Variable([-1.0, -1.0], trainable=False)  # of the best evaluation: win rate, return
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

        The best has the highest win rate, then the highest return, and of equals it is the latest.

        Returns: the env steps it had trained for; None, and no change, if nothing was evaluated or saved so far.
        Raises:
            ValueError: as above.
        """
        return (self._best if best else self._checkpoints).restore("actor", "critic")

    def run(
        self,
        record: Callable[[int, Metrics], None],
        stop: Callable[[], bool] = lambda: False,
        keep: Callable[[int, History], None] = lambda env_steps, history: None,
    ) -> Result:
        """Trains until `num_env_steps`, evaluating greedily now and then and at the end.

        Args:
            record: is handed (env steps so far, metrics) after every update and every evaluation.
            stop: is asked before every update whether to save and end here.
            keep: is handed (env steps so far, history) of every update that `diagnostics.full_every` measures in full:
                an array [epochs + 1, ...] for each name of `diagnostics.ratio_sizes` and `Full.distribution`.
        Raises:
            FloatingPointError: an update came to numbers that are not finite. The state before it is the newest
                checkpoint, and a file in `root_dir` describes the batch.
            OSError: a checkpoint cannot be written; those before it are untouched.
            games.GameError: StarCraft II failed too often; the state is that after the last update.
        """
        iteration, watched = self.build_iteration(), self._build(self._learn_watched)
        variables = self._variables()
        # In one call, not a hundred.
        snapshot = graph.function(lambda: [variable.read_value() for variable in variables])
        evaluation: Metrics = {}
        evaluated = saved = None
        while (before := int(self.env_steps)) < self.num_env_steps and not stop():
            began = time.perf_counter()
            self.agent.progress.assign(before / self.num_env_steps)
            before_update = snapshot()
            full = self._full.due(int(self.agent.train_step_counter))
            tensors, history = watched() if full else (iteration(), {})
            metrics = {name: float(value) for name, value in tensors.items()}
            if not_finite := [name for name, value in metrics.items() if not math.isfinite(value)]:
                for variable, value in zip(variables, before_update, strict=True):
                    variable.assign(value)
                raise FloatingPointError(self._describe_failure(not_finite))
            record(int(self.env_steps), _recorded(metrics, time.perf_counter() - began) | self.collector.metrics())
            if full:
                rows = int(metrics["trust_region/epochs"]) + 1
                keep(int(self.env_steps), {name: values.numpy()[:rows] for name, values in history.items()})
            if before // self._eval_every < int(self.env_steps) // self._eval_every:
                evaluation, evaluated = self._evaluate(record), int(self.env_steps)
            if before // self._checkpoint_every < int(self.env_steps) // self._checkpoint_every:
                saved = self.save()
        interrupted = int(self.env_steps) < self.num_env_steps
        if not interrupted and evaluated != int(self.env_steps):
            evaluation = self._evaluate(record)
        if saved != int(self.env_steps):
            self.save()
        return Result(int(self.env_steps), evaluation, interrupted)

    def evaluate_afresh(self, episodes: int) -> Metrics:
        """Plays `episodes` greedy episodes, or a few more, by which no weights were chosen. Returns as an Evaluator."""
        rounds = -(-episodes // self._eval_episodes)
        seeds = [tf.random.experimental.stateless_fold_in([self._seed, 6], i) for i in range(rounds)]
        results = [self._evaluator(seed) for seed in seeds]
        return {name: sum(result[name] for result in results) / rounds for name in results[0]}

    def iteration(self) -> dict[str, tf.Tensor]:
        """One turn of the loop: a rollout, the update on it, and how far that moved the policy; scalar tensors."""
        return self._learn_quietly(self.collector.collect())

    def build_iteration(self) -> Callable[[], dict[str, tf.Tensor]]:
        """`iteration`, compiled. On a GPU all of it is one XLA program; on a CPU the parts that gain by it are."""
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        return self._build(self._learn_quietly, jit_compile=on_gpu)

    def _build(self, learn: Callable[[Rollout], Any], jit_compile: bool = False) -> Callable[[], Any]:
        """Collecting and learning, compiled: as one program, if collecting can be part of it."""
        together = not isinstance(self._core, StarCraft2)
        learn = learn if together else graph.function(learn, jit_compile=jit_compile)

        def turn() -> Any:
            return learn(self.collector.collect())

        return graph.function(turn, jit_compile=jit_compile) if together else turn

    def _learn_quietly(self, rollout: Rollout) -> dict[str, tf.Tensor]:
        return self._learn(rollout)[0]

    def _learn_watched(self, rollout: Rollout) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """`_learn`, and the distributions of how far, [epochs + 1, ...] each; not for XLA."""
        seed = tf.random.experimental.stateless_fold_in([self._seed, 8], self.agent.train_step_counter)
        return self._learn(
            rollout, watch=lambda _, change: diagnostics.ratio_sizes(change) | self._full.distribution(change, seed)
        )

    def _learn(
        self, rollout: Rollout, watch: ppo.Watch | None = None
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        experience, final_time_step, tally = rollout
        epsilon = self.agent.epsilon(experience.observation["alive"])  # enforcement may set another for the next update
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

    def _evaluate(self, record: Callable[[int, Metrics], None]) -> Metrics:
        """Evaluates, and keeps the weights if there were no better ones."""
        seed = tf.random.experimental.stateless_fold_in([self._seed, 3], self.env_steps)
        evaluation = {f"eval/{name}": value for name, value in self._evaluator(seed).items()}
        record(int(self.env_steps), evaluation)
        rank = [evaluation["eval/battle_won_mean"], evaluation["eval/return_mean"]]
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
        return [*self.agent.variables, *self.agent.optimizer_variables, *self.collector.variables, self.env_steps]

    def _describe_failure(self, not_finite: list[str]) -> str:
        """Saves the state before an update that failed and a description of its batch. Returns what to tell the user.

        Args: not_finite, names of metrics.
        """
        env_steps = self.save()
        experience, final_time_step, _ = self.collector.collect()  # the same again, of an embedded battle
        batch = self.agent.batch(experience, final_time_step)._asdict()
        tensors = {"reward": experience.reward, "logits": experience.policy_info["logits"], **batch.pop("observation")}
        networks: dict[str, Any] = {"actor": self.agent.actor, "critic": self.agent.critic}
        weights = {f"{part}/{weight.name}": weight for part in networks for weight in networks[part].variables}
        path = self._root_dir / f"not_finite_{env_steps:012}.json"
        description = {
            "not_finite": not_finite,
            "batch": {name: _statistics(tensor) for name, tensor in (tensors | batch).items() if name != "state"},
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
