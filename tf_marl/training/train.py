"""The story of a run on one page: collect, advantage, update, diagnose, record, evaluate."""

import os
import time
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import gin
import pydantic
import tensorflow as tf

from tf_marl import diagnostics
from tf_marl.agents import ppo
from tf_marl.environments.functional import FunctionalEnvironment
from tf_marl.ops import categorical
from tf_marl.training.evaluate import Evaluator
from tf_marl.training.rollout import Collector

Metrics = dict[str, float]
# 5e6 reads better than 5000000, and means the same.
Count = Annotated[
    int, pydantic.BeforeValidator(lambda n: int(n) if isinstance(n, float) and n.is_integer() else n), pydantic.Field(gt=0)
]


class Result(NamedTuple):
    """What a run came to."""

    env_steps: int
    evaluation: Metrics  # the last one
    interrupted: bool


def build_iteration(agent: ppo.PPOAgent, collector: Collector) -> Callable[[], dict[str, tf.Tensor]]:
    """One turn of the loop as a compiled function: a rollout, the update on it, and how far that moved the policy.

    On a GPU all of it is one XLA program. On a CPU only the rollout is: there, matrix products outside XLA use all cores.
    """

    @tf.function(jit_compile=bool(tf.config.list_physical_devices("GPU")))
    def iteration() -> dict[str, tf.Tensor]:
        rollout = collector.collect()
        experience = rollout.experience
        with tf.control_dependencies(tf.nest.flatten(rollout)):  # the update must not overtake the acting policy
            metrics = agent.update(experience, rollout.final_time_step)
        new_team, _ = agent.actor(experience.observation)
        metrics |= diagnostics.trust_region(
            experience.policy_info["logits"],
            categorical.agent_distribution(new_team).logits_parameter(),
            experience.action,
            ppo.learning_mask(experience),
            agent.config.clip_range,
        )
        return metrics | {f"tally/{name}": value for name, value in rollout.tally._asdict().items()}

    return iteration


@gin.configurable
@pydantic.validate_call(config={"strict": True, "arbitrary_types_allowed": True})
def train(
    agent: Callable[..., Any],
    environment: FunctionalEnvironment,
    root_dir: str,
    seed: pydantic.NonNegativeInt = 0,
    num_env_steps: Count = 1_000_000,
    rollout_steps: Count = 64,
    eval_every_env_steps: Count = 100_000,
    eval_episodes: Count = 32,
    record: Callable[[int, Metrics], None] = lambda env_steps, metrics: None,
) -> Result:
    """Trains until `num_env_steps`, evaluating greedily now and then; Ctrl-C ends it early and in order.

    Args:
        agent: (time_step_spec, action_spec, seed) -> the agent.
        environment: to train in; evaluation uses environments of its own.
        root_dir: holds the checkpoints. Where there is one, training goes on from it.
        seed: root of the run's seed tree.
        num_env_steps: env steps; one is one joint action in one environment.
        rollout_steps: T, env steps per environment between two updates.
        eval_every_env_steps: env steps between two evaluations.
        eval_episodes: episodes per evaluation.
        record: is handed (env steps so far, metrics) after every update and every evaluation.
    """
    learner = agent(environment.time_step_spec(), environment.action_spec(), seed=seed)
    collector = Collector(environment.core, learner.collect_policy, rollout_steps, seed)
    evaluate = Evaluator(environment.core.resize(eval_episodes), learner.policy)
    env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
    checkpoints = tf.train.CheckpointManager(
        tf.train.Checkpoint(agent=learner, collector=collector, env_steps=env_steps),
        os.path.join(root_dir, "checkpoints"),
        max_to_keep=3,
    )
    checkpoints.restore_or_initialize()
    iteration = build_iteration(learner, collector)

    def evaluate_and_save() -> Metrics:
        seed_now = tf.random.experimental.stateless_fold_in([seed, 3], env_steps)
        evaluation = {f"eval/{name}": value for name, value in evaluate(seed_now).items()}
        record(int(env_steps), evaluation)
        checkpoints.save(checkpoint_number=env_steps)
        return evaluation

    evaluation: Metrics = {}
    try:
        while env_steps < num_env_steps:
            began = time.perf_counter()
            before = int(env_steps)
            learner.progress.assign(before / num_env_steps)
            metrics = {name: float(value) for name, value in iteration().items()}
            env_steps.assign_add(int(metrics["tally/env_steps"]))
            seconds = time.perf_counter() - began
            record(int(env_steps), _metrics(metrics, seconds))
            if before // eval_every_env_steps < int(env_steps) // eval_every_env_steps < num_env_steps // eval_every_env_steps:
                evaluation = evaluate_and_save()
    except KeyboardInterrupt:
        return Result(int(env_steps), evaluate_and_save(), interrupted=True)
    return Result(int(env_steps), evaluate_and_save(), interrupted=False)


def _metrics(metrics: Metrics, seconds: float) -> Metrics:
    """What one iteration is recorded as: episode means where episodes ended, and speed."""
    tally = {name.removeprefix("tally/"): value for name, value in metrics.items() if name.startswith("tally/")}
    recorded = {name: value for name, value in metrics.items() if not name.startswith("tally/")}
    recorded["train/env_steps_per_second"] = tally["env_steps"] / seconds
    if episodes := tally["episodes"]:
        recorded["train/return_mean"] = tally["returns"] / episodes
        recorded["train/battle_won_mean"] = tally["battles_won"] / episodes
        recorded["train/episode_length_mean"] = tally["env_steps_of_episodes"] / episodes
    return recorded
