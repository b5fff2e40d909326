"""Measures how fast worlds, collecting experience and training are, in env steps per second.

Making a subject (a world, a trainer, SMAC's environment) checks the settings and computes next to nothing; gin's
bindings are read there. A function of a subject then returns the work to time: each call of it does one piece and
returns how many env steps that took. `KINDS` names the pairs.
"""

import pathlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gin
import numpy as np
import tensorflow as tf

from tf_marl import environments, tracking
from tf_marl.agents.learner import Rollout
from tf_marl.agents.ppo.agent import PPOAgent
from tf_marl.compile import graph, shards, stablehlo
from tf_marl.environments.smac_api import CombatEnv
from tf_marl.environments.world import CompiledWorld, LiveWorld, World
from tf_marl.experiments import tables
from tf_marl.training import Trainer, memory

Work = Callable[[], float]  # does a piece of work, and returns how many env steps it took

PLAY_STEPS = 64  # env steps per environment in a piece of random play
LOOP_STEPS = 1000  # env steps in a piece of SMAC's loop, at least
# Gin bindings with which XLA compiles an iteration as a whole, as on a GPU, and no part of it as a program of its own.
ONE_PROGRAM = ("train.num_shards = 1", "ppo.jit_compile = False")
MATRIX_SIZE = 2048  # rows and columns of the large matrices whose product shows what the machine can do


class Kind(NamedTuple):
    """Describes a kind of work: how to make its subject, and the work with it."""

    make: Callable[[int, float | None], Any]  # (seed, max_gigabytes) -> subject
    work: Callable[[Any, int], Work]  # (subject, seed) -> what to time


class Timing(NamedTuple):
    """Holds how long work took, repeated several times."""

    compile_seconds: float  # that the first piece took more than the median one
    speeds: list[float]  # of the other pieces, env steps per second

    @property
    def median(self) -> float:
        """Returns the median speed in env steps per second."""
        return statistics.median(self.speeds)


def time_env_steps(work: Work, repeats: int) -> Timing:
    """Times work, which is done once more before, to compile it.

    Args:
        work: returns the number of env steps that it took.
        repeats: how often it is timed.
    Returns:
        The time that compiling took, and the speed of each repetition.
    """
    began = time.perf_counter()
    work()
    first = time.perf_counter() - began
    seconds, speeds = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        env_steps = work()
        seconds.append(time.perf_counter() - began)
        speeds.append(env_steps / seconds[-1])
    return Timing(max(first - statistics.median(seconds), 0.0), speeds)


def make_world(seed: int, max_gigabytes: float | None) -> World:
    """Returns the world that gin's bindings describe.

    Args:
        seed: root of its randomness.
        max_gigabytes: memory that playing in it may take; None is what the machine has free.
    Raises:
        ValueError: a setting is wrong, or the world takes more memory.
    """
    world = environments.make(seed=seed)
    gigabytes = memory.of_episodes(world.scripted("random"), world.num_envs)
    memory.check(gigabytes, max_gigabytes, f"environment.num_envs = {world.num_envs:,}")
    return world


def play(world: World, seed: int) -> Work:
    """Returns work that plays random legal actions, for 64 env steps in every environment.

    Args:
        world: of either kind.
        seed: root of the randomness.
    """
    if isinstance(world, CompiledWorld):
        return random_play(world, seed)
    assert isinstance(world, LiveWorld)
    return live_play(world, seed)


def live_play(world: LiveWorld, seed: int) -> Work:
    """Returns work that plays 64 env steps in every environment of a live world. Choosing actions takes NumPy no time.

    Args:
        world: B environments of N agents.
        seed: of the random actions.
    """
    rng = np.random.default_rng(seed)
    shown = world.reset()

    def work() -> float:
        nonlocal shown
        env_steps = 0
        for _ in range(PLAY_STEPS):
            available = shown.observation["avail_actions"]
            noise = rng.random(available.shape, np.float32)
            shown = world.step(np.where(available, noise, -1.0).argmax(axis=-1).astype(np.int32))
            env_steps += int((~shown.is_first()).sum())
        return float(env_steps)

    return work


def random_play(world: CompiledWorld, seed: int, observes: bool = True, chooses: bool = True) -> Work:
    """Returns work that plays 64 env steps in every environment, in one compiled program for each core.

    Args:
        world: B environments of N agents.
        seed: root of the randomness.
        observes: whether observations are made, though not kept.
        chooses: whether actions are random legal ones; else everyone alive stops.
    """
    policy = world.scripted("random")
    num_shards = shards.per_core(world.num_envs)
    shard = world.resize(world.num_envs // num_shards)
    fold_in = tf.random.experimental.stateless_fold_in

    @graph.function(jit_compile=True)
    def play(state, seed):
        def step(t, state, env_steps, checksum):
            policy_seed, env_seed = tf.unstack(tf.random.experimental.stateless_split(fold_in(seed, t), 2))
            action = tf.ones([shard.num_envs, *world.action_spec.shape], tf.int32)  # stop
            if chooses:
                action = policy.action(shard.time_step(state), seed=policy_seed).action
            state = shard.step(state, action, env_seed)
            time_step = shard.time_step(state)
            env_steps += tf.reduce_sum(tf.cast(~time_step.is_first(), tf.float32))
            # The checksum needs every number of every observation, so that XLA leaves none out.
            needed = time_step if observes else time_step.reward
            sums = [tf.reduce_sum(tf.cast(leaf, tf.float32)) for leaf in tf.nest.flatten(needed)]
            return t + 1, state, env_steps, checksum + tf.add_n(sums)

        return tf.while_loop(lambda t, *_: t < PLAY_STEPS, step, (0, state, 0.0, 0.0))[1:]

    @graph.function
    def play_all(states, seed):
        states, env_steps, _ = zip(*[play(state, fold_in(seed, i)) for i, state in enumerate(states)], strict=True)
        return states, tf.add_n(env_steps)

    states = tuple(shard.reset([seed, i]) for i in range(num_shards))
    next_seed = tf.constant([seed, 0])

    def work() -> float:
        nonlocal states, next_seed
        states, env_steps = play_all(states, next_seed)
        next_seed += [0, 1]
        return float(env_steps)

    return work


def profile(world: CompiledWorld, seed: int, env_steps_per_second: float, repeats: int) -> dict[str, float]:
    """Tells what an env step of random play takes, by leaving out one thing after the other.

    Args:
        world: B environments.
        seed: root of the randomness.
        env_steps_per_second: speed of all of it, as `random_play` has it.
        repeats: how often each part is timed.
    Returns:
        Microseconds per env step, by part: `battle`, `observations` and `random actions`.
    """

    def microseconds(observes: bool) -> float:
        return 1e6 / time_env_steps(random_play(world, seed, observes, chooses=False), repeats).median

    battle, seeing = microseconds(observes=False), microseconds(observes=True)
    return {"battle": battle, "observations": seeing - battle, "random actions": 1e6 / env_steps_per_second - seeing}


def make_trainer(seed: int, max_gigabytes: float | None) -> Trainer:
    """Returns a trainer of the learner and in the world that gin's bindings describe; it keeps no checkpoint.

    Args:
        seed: root of its randomness.
        max_gigabytes: memory that training may take; None is what the machine has free.
    Raises:
        ValueError: a setting is wrong, or training takes more memory.
    """
    folder = tempfile.gettempdir()
    return Trainer(world=environments.make(seed=seed), root_dir=folder, seed=seed, max_gigabytes=max_gigabytes)


def collecting(trainer: Trainer) -> Work:
    """Returns work that collects one rollout with the learner's policy, and does not learn from it."""

    @graph.function
    def collect() -> tuple[tf.Tensor, list[tf.Tensor]]:
        rollout, tally = trainer.collector.collect()
        # A number of every tensor is returned, so that none is optimised away.
        return tally.env_steps, [tf.reshape(leaf, [-1])[-1] for leaf in tf.nest.flatten(rollout)]

    return lambda: float(collect()[0])


def training(trainer: Trainer) -> Work:
    """Returns work that does one iteration of training: it collects a rollout and learns from it."""
    iteration = trainer.build_iteration()
    return lambda: float(iteration()[1].env_steps)


def parts(trainer: Trainer, seed: int, repeats: int) -> dict[str, float]:
    """Times the parts of an iteration of training, each by itself.

    Args:
        trainer: whose learner is timed.
        seed: of what is random besides training.
        repeats: how often each part is timed.
    Returns:
        Median seconds by part: `collect_seconds`, and `learn_seconds` or, where the learner is PPO, its parts instead:
        see `_parts_of_ppo`.
    """
    collect = graph.function(trainer.collector.collect)
    rollout, _ = collect()
    collect_seconds = _seconds(collect, repeats)
    if isinstance(trainer.agent, PPOAgent):
        return {"collect_seconds": collect_seconds} | _parts_of_ppo(trainer.agent, rollout, seed, repeats)
    learn = graph.function(lambda: trainer.agent.learn(rollout))
    return {"collect_seconds": collect_seconds, "learn_seconds": _seconds(learn, repeats)}


def _parts_of_ppo(agent: PPOAgent, rollout: Rollout, seed: int, repeats: int) -> dict[str, float]:
    """Times what PPO's `learn` consists of, and how fast its update computes beside one product of large matrices.

    This alone looks into a learner. It counts the matrix products of the forward and the backward pass in every epoch,
    of the decisions that they compute, and nothing else that an update computes.

    Args:
        agent: learns from the rollout, again and again.
        rollout: B environments, T rows.
        seed: of the large matrices.
        repeats: how often each part is timed.
    Returns:
        Median seconds: `advantage_seconds`, `diagnostics_seconds` and `update_seconds`; then
        `update_gflops_per_second` and `gemm_gflops_per_second`.
    """
    advantage = _seconds(graph.function(lambda: agent.batch(*rollout)), repeats)
    learn = _seconds(graph.function(lambda: agent.learn(rollout)), repeats)
    advantage_and_update = _seconds(graph.function(lambda: agent.update(*rollout).metrics), repeats)
    update = advantage_and_update - advantage
    large = tf.random.stateless_normal([MATRIX_SIZE, MATRIX_SIZE], [seed, 0])
    multiply = _seconds(graph.function(lambda: tf.matmul(large, large)), repeats)
    return {
        "advantage_seconds": advantage,
        "diagnostics_seconds": learn - advantage_and_update,
        "update_seconds": update,
        "update_gflops_per_second": agent.training_flops(rollout.experience) / update / 1e9,
        "gemm_gflops_per_second": 2 * MATRIX_SIZE**3 / multiply / 1e9,
    }


def _seconds(function: Callable[[], object], repeats: int) -> float:
    """Returns the median seconds of a call, and waits for its first tensor to be there."""

    def once() -> float:
        return float(bool(tf.nest.flatten(function())[0].numpy().size))

    return 1.0 / time_env_steps(once, repeats).median


def make_smac_env(seed: int) -> CombatEnv:
    """Returns one battle behind SMAC's own interface, as gin's bindings of `environment` describe it.

    Args:
        seed: root of its randomness.
    Raises:
        ValueError: a setting is wrong.
    """
    settings = gin.get_bindings("environment")
    for name in ("num_envs", "backend"):
        settings.pop(name, None)
    return CombatEnv(seed=seed, **settings)


def smac_loop(env: CombatEnv, seed: int) -> Work:
    """Returns work that plays as code for SMAC does: whole episodes of random legal actions, 1,000 env steps or more.

    Args:
        env: one battle.
        seed: of the random actions.
    """
    rng = np.random.default_rng(seed)

    def play() -> float:
        env_steps = 0
        while env_steps < LOOP_STEPS:
            env.reset()
            terminated = False
            while not terminated:
                available = env.get_avail_actions()
                _, terminated, _ = env.step([rng.choice(np.flatnonzero(actions)) for actions in available])
                env.get_obs()
                env.get_state()
                env_steps += 1
        return float(env_steps)

    return play


def export_iteration(trainer: Trainer, out: pathlib.Path, facts: dict[str, Any]) -> int:
    """Writes one iteration of training as a StableHLO module, with the arguments to call it with.

    `ONE_PROGRAM` has to be bound before the trainer is made.

    Args:
        trainer: whose iteration is written.
        out: folder to write to, which exists.
        facts: plain values that `module.json` is to hold besides.
    Returns:
        The size of the module in bytes.
    """

    def iteration() -> dict[str, tf.Tensor]:
        metrics, tally = trainer.iteration()
        totals = tally._asdict()
        totals |= totals.pop("outcomes")
        return metrics | {f"tally/{name}": total for name, total in totals.items()}

    return stablehlo.write(iteration, out, facts)


KINDS = {
    "env": Kind(make_world, play),
    "collect": Kind(make_trainer, lambda trainer, seed: collecting(trainer)),
    "train": Kind(make_trainer, lambda trainer, seed: training(trainer)),
    "smac_api": Kind(lambda seed, max_gigabytes: make_smac_env(seed), smac_loop),
}


def measure(what: str, subject: Any, seed: int, repeats: int, profiles: bool) -> dict[str, Any]:
    """Times one kind of work and, of training or if asked for, its parts.

    Args:
        what: one of `KINDS`.
        subject: what that kind's `make` returned.
        seed: root of the randomness.
        repeats: how often everything is timed.
        profiles: whether random play is to be timed in parts as well.
    Returns:
        `env_steps_per_second`, the median, and with `_min` and `_max` the extremes; `compile_seconds`;
        `peak_memory_mib`, of this process until then. For `env` with `profiles`, `microseconds_per_env_step` holds what
        `profile` returns; for `train`, what `parts` returns is added.
    """
    timing = time_env_steps(KINDS[what].work(subject, seed), repeats)
    result: dict[str, Any] = {
        "env_steps_per_second": timing.median,
        "env_steps_per_second_min": min(timing.speeds),
        "env_steps_per_second_max": max(timing.speeds),
        "compile_seconds": timing.compile_seconds,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if what == "env" and profiles:
        result["microseconds_per_env_step"] = profile(subject, seed, timing.median, repeats)
    if what == "train":
        result |= parts(subject, seed, repeats)
    return result


def add_to_table(path: pathlib.Path, result: dict[str, Any]) -> None:
    """Puts a speed into a Markdown table with a row per map and number of environments and a column per kind of work.

    Other speeds in that row stay if they are of the same commit.

    Args:
        path: the table's file; made if need be.
        result: what `measure` returned, with `what`, `map` and `num_envs`.
    Raises:
        OSError: the file cannot be read or written.
        ValueError: the file holds something else; names it.
    """
    columns = ["map", "environments", *KINDS, "commit"]
    title, rows = columns, {}
    if path.exists():
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in path.read_text("utf-8").splitlines()]
        title = lines[0] if lines else []
        rows = {(row[0], row[1]): row for row in lines[2:]}
    if title != columns:
        raise ValueError(f"--table={path}: holds no table of speeds; name another file")
    key, commit = (result["map"], str(result["num_envs"])), tracking.git_commit()
    row = rows.get(key, [""])
    if row[-1] != commit:
        row = [*key, *[""] * len(KINDS), commit]
    row[columns.index(result["what"])] = f"{float(format(result['env_steps_per_second'], '.3g')):,.0f}"
    path.write_text(tables.markdown(columns, (rows | {key: row}).values()) + "\n", "utf-8")
