"""Times the environments, collection or training: python -m launch.benchmark --what=env --map=2s3z --json

Or writes training down for any XLA device: python -m launch.benchmark --what=export --out=DIR
"""

import pathlib
import resource
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

from launch import app

if TYPE_CHECKING:
    from tf_marl.training.train import Trainer

FLAGS = flags.FLAGS

app.define_json_flag()
app.define_plugin_flag()
app.define_gin_flags()
app.define_memory_flag()
app.define_seed_flag()
flags.DEFINE_enum(
    "what",
    "train",
    ["env", "collect", "train", "smac_api", "export"],
    "env: random legal actions, observations made but not kept; collect: the policy's actions, everything kept; train:"
    " all of it, and what its parts take; smac_api: one battle in SMAC's own loop; export: no timing, but one iteration"
    " of training as a StableHLO module, for any XLA client (see launch/run_exported.py).",
)
flags.DEFINE_string("map", "2s3z", "SMAC map.")
flags.DEFINE_integer("num_envs", 128, "Environments side by side; smac_api has one.", lower_bound=1)
flags.DEFINE_integer("repeats", 7, "Timed repetitions, after one that compiles.", lower_bound=1)
flags.DEFINE_string("out", None, "With --what=export: the folder to write to.")
flags.DEFINE_bool("profile", False, "With --what=env: what the battle, observing it and choosing actions each take.")


def main() -> int:
    paths = app.gin_paths(FLAGS.gin_file or ["ippo.gin"])
    if (FLAGS.what == "export") != bool(FLAGS.out):
        raise app.BadInput("--out=DIR names the folder that --what=export writes to; give both or neither")
    out = app.writable_folder(FLAGS.out, "out") if FLAGS.out else None
    app.import_quietly()
    import gin

    num_envs = 1 if FLAGS.what == "smac_api" else FLAGS.num_envs
    bindings = [f'environment.map_name = "{FLAGS.map}"', f"environment.num_envs = {num_envs}"]
    app.parse_gin(paths, [*bindings, *FLAGS.gin_bindings])
    if gin.get_bindings("environment").get("backend", "combat") != "combat":
        raise app.BadInput("environment.backend: only the embedded battle is timed; leave out gin/sc2.gin")

    if out:
        return _export(out)
    works = {"env": _random_play, "smac_api": _smac_loop}
    if FLAGS.what in works:
        work = works[FLAGS.what]()
    else:
        trainer = _trainer()
        work = (_training if FLAGS.what == "train" else _collecting)(trainer)
    compile_seconds, speeds = time_env_steps(work, FLAGS.repeats)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {
        "what": FLAGS.what,
        "map": FLAGS.map,
        "num_envs": num_envs,
        "repeats": FLAGS.repeats,
        "env_steps_per_second": statistics.median(speeds),
        "env_steps_per_second_min": min(speeds),
        "env_steps_per_second_max": max(speeds),
        "compile_seconds": compile_seconds,
        "peak_memory_mib": peak_mib,
    }
    print(
        f"{FLAGS.what} on {FLAGS.map}, num_envs={num_envs}: {result['env_steps_per_second']:,.0f} env steps/s"
        f" (median of {FLAGS.repeats}, {min(speeds):,.0f} to {max(speeds):,.0f});"
        f" compiled in {compile_seconds:.0f} s, peak memory {peak_mib:,.0f} MiB"
    )
    if FLAGS.profile and FLAGS.what == "env":
        result["microseconds_per_env_step"] = parts = _profile(result["env_steps_per_second"])
        print("  of an env step's time: " + ", ".join(f"{part} {us:.2f} us" for part, us in parts.items()))
    if FLAGS.what == "train":
        parts = _parts(trainer)
        result |= parts
        print(
            "  of an iteration: "
            + ", ".join(
                f"{name.removesuffix('_seconds')} {parts[name]:.3f} s" for name in parts if name.endswith("_seconds")
            )
            + f"; the update computes at {parts['update_gflops_per_second']:.0f} GFLOP/s,"
            + f" one product of large matrices at {parts['gemm_gflops_per_second']:.0f}"
        )
    if FLAGS.json:
        app.print_json(result)
    return 0


def _profile(env_steps_per_second: float) -> dict[str, float]:
    """Microseconds per env step, by leaving out one thing after the other."""
    battle = 1e6 / statistics.median(time_env_steps(_random_play(observes=False, chooses=False), FLAGS.repeats)[1])
    seeing = 1e6 / statistics.median(time_env_steps(_random_play(observes=True, chooses=False), FLAGS.repeats)[1])
    return {"battle": battle, "observations": seeing - battle, "random actions": 1e6 / env_steps_per_second - seeing}


def _random_play(observes: bool = True, chooses: bool = True) -> Callable[[], float]:
    """64 env steps of random legal actions in every environment, one compiled program a core.

    Args:
        observes: whether observations are made.
        chooses: whether actions are random; else everyone alive stops.
    """
    import tensorflow as tf

    from tf_marl import environments
    from tf_marl.compile import graph, shards
    from tf_marl.training import memory

    with app.bad_input():
        world = environments.make(seed=FLAGS.seed)
        policy = world.scripted("random")
        what = f"environment.num_envs = {world.num_envs:,}"
        memory.check(memory.of_episodes(policy, world.num_envs), FLAGS.max_gigabytes, what)
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
            # Every number of every observation is asked for, so that none is optimised away.
            asked_for = time_step if observes else time_step.reward
            made = [tf.reduce_sum(tf.cast(leaf, tf.float32)) for leaf in tf.nest.flatten(asked_for)]
            return t + 1, state, env_steps, checksum + tf.add_n(made)

        return tf.while_loop(lambda t, *_: t < 64, step, (0, state, 0.0, 0.0))[1:]

    @graph.function
    def play_all(states, seed):
        states, env_steps, _ = zip(*[play(state, fold_in(seed, i)) for i, state in enumerate(states)], strict=True)
        return states, tf.add_n(env_steps)

    states = tuple(shard.reset([FLAGS.seed, i]) for i in range(num_shards))
    seed = tf.constant([FLAGS.seed, 0])

    def work() -> float:
        nonlocal states, seed
        states, env_steps = play_all(states, seed)
        seed += [0, 1]
        return float(env_steps)

    return work


def _trainer() -> "Trainer":
    import tempfile

    from tf_marl import environments
    from tf_marl.training.train import Trainer

    with app.bad_input():
        world = environments.make(seed=FLAGS.seed)
        folder, seed = tempfile.gettempdir(), FLAGS.seed
        return Trainer(world=world, root_dir=folder, seed=seed, max_gigabytes=FLAGS.max_gigabytes)


def _training(trainer: "Trainer") -> Callable[[], float]:
    """One iteration of training."""
    iteration = trainer.build_iteration()
    return lambda: float(iteration()[1].env_steps)


def _collecting(trainer: "Trainer") -> Callable[[], float]:
    """The collecting half of it."""
    import tensorflow as tf

    from tf_marl.compile import graph

    @graph.function
    def collect() -> tuple[tf.Tensor, list[tf.Tensor]]:
        rollout, tally = trainer.collector.collect()
        # Something of every tensor is asked for, so that none is optimised away.
        return tally.env_steps, [tf.reshape(leaf, [-1])[-1] for leaf in tf.nest.flatten(rollout)]

    return lambda: float(collect()[0])


def _parts(trainer: "Trainer") -> dict[str, float]:
    """Median seconds of an iteration's parts by themselves, and how fast the update computes beside one large product.

    Counted are the products of the forward and the backward pass of every epoch; whatever else is computed counts as
    nothing.
    """
    import tensorflow as tf

    from tf_marl.compile import graph

    agent = trainer.agent
    collect = graph.function(trainer.collector.collect)
    rollout, _ = collect()
    learn = graph.function(lambda: agent.learn(rollout))
    advantage = graph.function(lambda: agent.batch(*rollout))
    update = graph.function(lambda: agent.update(*rollout).metrics)
    large = tf.random.stateless_normal([2048, 2048], [FLAGS.seed, 0])
    multiply = graph.function(lambda: tf.matmul(large, large))

    def seconds(function: Callable[[], object]) -> float:
        speeds = time_env_steps(lambda: float(bool(tf.nest.flatten(function())[0].numpy().size)), FLAGS.repeats)[1]
        return 1.0 / statistics.median(speeds)

    advantage_seconds, learn_seconds, whole_update_seconds = seconds(advantage), seconds(learn), seconds(update)
    update_seconds = whole_update_seconds - advantage_seconds
    num_rows = FLAGS.num_envs * rollout.experience.reward.shape[1]
    return {
        "collect_seconds": seconds(collect),
        "advantage_seconds": advantage_seconds,
        "diagnostics_seconds": learn_seconds - whole_update_seconds,
        "update_seconds": update_seconds,
        "update_gflops_per_second": agent.training_flops() * num_rows / update_seconds / 1e9,
        "gemm_gflops_per_second": 2 * 2048**3 / seconds(multiply) / 1e9,
    }


def _export(out: pathlib.Path) -> int:
    """One iteration as a module: one program, as on a GPU."""
    import gin
    import tensorflow as tf

    from tf_marl.compile import stablehlo

    agent = gin.query_parameter("train.agent").configurable.name
    with gin.unlock_config():
        # XLA compiles the whole, so that no part is a program of its own.
        gin.parse_config(["train.num_shards = 1", "ppo.jit_compile = False"])
    trainer = _trainer()
    facts = {"map": FLAGS.map, "num_envs": FLAGS.num_envs, "algorithm": agent, "seed": FLAGS.seed}

    def iteration() -> dict[str, tf.Tensor]:
        metrics, tally = trainer.iteration()
        return metrics | {
            f"tally/{name}": total
            for name, total in (tally._asdict() | tally._asdict()["outcomes"]).items()
            if name != "outcomes"
        }

    size = stablehlo.write(iteration, out, facts)
    size_mib = size / 2**20
    print(f"{out}: {agent} on {FLAGS.map}, num_envs={FLAGS.num_envs}, an iteration as StableHLO ({size_mib:.1f} MiB)")
    if FLAGS.json:
        app.print_json(facts | {"out": str(out), "module_bytes": size})
    return 0


def _smac_loop() -> Callable[[], float]:
    """Some 1,000 env steps of the loop that code for SMAC runs: whole episodes of random legal actions."""
    import gin
    import numpy as np

    from tf_marl.environments.smac_api import CombatEnv

    settings = gin.get_bindings("environment")
    for name in ("num_envs", "backend"):
        settings.pop(name, None)
    with app.bad_input():
        env = CombatEnv(seed=FLAGS.seed, **settings)
    rng = np.random.default_rng(FLAGS.seed)

    def play() -> float:
        env_steps = 0
        while env_steps < 1000:
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


def time_env_steps(work: Callable[[], float], repeats: int) -> tuple[float, list[float]]:
    """Seconds that the first piece of work took more than the median one, and env steps per second of the others."""
    began = time.perf_counter()
    work()
    first = time.perf_counter() - began
    seconds, speeds = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        env_steps = work()
        seconds.append(time.perf_counter() - began)
        speeds.append(env_steps / seconds[-1])
    return max(first - statistics.median(seconds), 0.0), speeds


if __name__ == "__main__":
    app.run(main)
