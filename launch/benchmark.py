"""Times the environments, collection or training: python -m launch.benchmark --what=env --map=2s3z --json"""

import statistics
import time
from collections.abc import Callable

from absl import flags

from launch import app

FLAGS = flags.FLAGS

app.define_json_flag()
app.define_gin_flags()
app.define_seed_flag()
flags.DEFINE_enum(
    "what",
    "train",
    ["env", "collect", "train", "smac_api"],
    "env: random legal actions; collect: the policy's; train: all of it; smac_api: one battle in SMAC's own loop.",
)
flags.DEFINE_string("map", "2s3z", "SMAC map.")
flags.DEFINE_integer("num_envs", 128, "Environments side by side; smac_api has one.", lower_bound=1)
flags.DEFINE_integer("repeats", 7, "Timed repetitions, after one that compiles.", lower_bound=1)


def main() -> int:
    paths = app.gin_paths(FLAGS.gin_file or ["ippo.gin"])
    app.import_quietly()
    num_envs = 1 if FLAGS.what == "smac_api" else FLAGS.num_envs
    bindings = [f'environment.map_name = "{FLAGS.map}"', f"environment.num_envs = {num_envs}"]
    app.parse_gin(paths, [*bindings, *FLAGS.gin_bindings])

    work = _smac_loop() if FLAGS.what == "smac_api" else _work(FLAGS.what)
    speeds = time_env_steps(work, FLAGS.repeats)
    result = {
        "what": FLAGS.what,
        "map": FLAGS.map,
        "num_envs": num_envs,
        "repeats": FLAGS.repeats,
        "env_steps_per_second": statistics.median(speeds),
        "env_steps_per_second_min": min(speeds),
        "env_steps_per_second_max": max(speeds),
    }
    print(
        f"{FLAGS.what} on {FLAGS.map}, num_envs={num_envs}: {result['env_steps_per_second']:,.0f} env steps/s"
        f" (median of {FLAGS.repeats}, {min(speeds):,.0f} to {max(speeds):,.0f})"
    )
    if FLAGS.json:
        app.print_json(result)
    return 0


def _work(what: str) -> Callable[[], float]:
    """A function that does one piece of the work and returns the env steps it took."""
    import tempfile

    import tensorflow as tf

    from tf_marl import environments
    from tf_marl.agents.policy import TeamPolicy
    from tf_marl.networks import UniformActor
    from tf_marl.training.rollout import Collector
    from tf_marl.training.train import Trainer

    with app.bad_input():
        environment = environments.load(seed=FLAGS.seed)
        core = environment.core
        if what == "env":
            actor = UniformActor(core.time_step_spec.observation)
            policy = TeamPolicy(core.time_step_spec, core.action_spec, actor)
            collector = Collector(core, policy, num_steps=64, seed=FLAGS.seed)
        else:
            trainer = Trainer(environment=environment, root_dir=tempfile.gettempdir(), seed=FLAGS.seed)
            collector = trainer.collector

    if what == "train":
        iteration = trainer.build_iteration()
        return lambda: float(iteration()["tally/env_steps"])

    @tf.function
    def collect() -> tuple[tf.Tensor, list[tf.Tensor]]:
        rollout = collector.collect()
        # Something of every tensor is asked for, so that none is optimised away.
        return rollout.tally.env_steps, [tf.reshape(leaf, [-1])[-1] for leaf in tf.nest.flatten(rollout)]

    return lambda: float(collect()[0])


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


def time_env_steps(work: Callable[[], float], repeats: int) -> list[float]:
    """Env steps per second of each of `repeats` pieces of work, after one that compiles."""
    work()
    speeds = []
    for _ in range(repeats):
        began = time.perf_counter()
        env_steps = work()
        speeds.append(env_steps / (time.perf_counter() - began))
    return speeds


if __name__ == "__main__":
    app.run(main)
