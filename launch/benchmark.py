"""Times the environments, collection or training: tf-marl benchmark --what=env --map=2s3z --json

Or writes training down for any XLA device: tf-marl benchmark --what=export --out=DIR
"""

from collections.abc import Iterator
from typing import Any

from absl import flags

from . import app

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
flags.DEFINE_string("map", "2s3z", "SMAC map; with --what=env also an environment of others, as BACKEND:NAME.")
flags.DEFINE_integer("num_envs", 128, "Environments side by side; smac_api has one.", lower_bound=1)
flags.DEFINE_integer("repeats", 7, "Timed repetitions, after one that compiles.", lower_bound=1)
flags.DEFINE_string("out", None, "With --what=export: the folder to write to.")
flags.DEFINE_string("table", None, "Markdown file of a table of speeds, which the result is put into.")
flags.DEFINE_bool("profile", False, "With --what=env: what the battle, observing it and choosing actions each take.")


def main() -> int:
    """Times what the flags ask for, or exports it, prints a summary and returns the exit code 0."""
    gin_files = FLAGS.gin_file or ["ippo.gin"]
    app.check_gin_files(gin_files)
    exports = FLAGS.what == "export"
    if exports != bool(FLAGS.out):
        raise app.BadInput("--out=DIR names the folder that --what=export writes to; give both or neither")
    out = app.writable_folder(FLAGS.out, "out") if FLAGS.out else None
    if FLAGS.table and exports:
        raise app.BadInput("--table: --what=export times nothing; drop one of them")
    table = app.writable_file(FLAGS.table, "table") if FLAGS.table else None
    app.import_quietly(keeps_programs=False)  # compiling is timed
    import gin

    from tf_marl import environments
    from tf_marl.experiments import benchmark

    num_envs = 1 if FLAGS.what == "smac_api" else FLAGS.num_envs
    bindings = [f'environment.map_name = "{FLAGS.map}"', f"environment.num_envs = {num_envs}", *FLAGS.gin_bindings]
    app.read_gin(gin_files, [*bindings, *(benchmark.ONE_PROGRAM if exports else ())])
    backend, _ = environments.resolve(FLAGS.map, gin.get_bindings("environment").get("backend", "combat"))
    others = ("pettingzoo", "gymnasium", "smax") if FLAGS.what == "env" and not FLAGS.profile else ()
    if backend not in ("combat", *others):
        raise app.BadInput(
            "environment.backend: only the embedded battle is timed, and with --what=env environments of others; leave"
            " out gin/sc2.gin"
        )
    with app.bad_input():
        subject = benchmark.KINDS["train" if exports else FLAGS.what].make(FLAGS.seed, FLAGS.max_gigabytes)

    result: dict[str, Any] = {"map": FLAGS.map, "num_envs": num_envs}
    if out:
        result |= {"algorithm": gin.query_parameter("train.agent").configurable.name, "seed": FLAGS.seed}
        size = benchmark.export_iteration(subject, out, result)
        result |= {"out": str(out), "module_bytes": size}
        iteration = f"{result['algorithm']} on {FLAGS.map}, num_envs={num_envs}, an iteration"
        print(f"{out}: {iteration} as StableHLO ({size / 2**20:.1f} MiB)")
    else:
        result = {"what": FLAGS.what, **result, "repeats": FLAGS.repeats}
        result |= benchmark.measure(FLAGS.what, subject, FLAGS.seed, FLAGS.repeats, FLAGS.profile)
        print("\n".join(_summary(result)), flush=True)
        if table:
            with app.bad_input():
                benchmark.add_to_table(table, result)
    app.print_json(result)
    return 0


def _summary(result: dict[str, Any]) -> Iterator[str]:
    """Returns the lines that tell what was measured."""
    yield (
        f"{result['what']} on {result['map']}, num_envs={result['num_envs']}:"
        f" {result['env_steps_per_second']:,.0f} env steps/s (median of {result['repeats']},"
        f" {result['env_steps_per_second_min']:,.0f} to {result['env_steps_per_second_max']:,.0f});"
        f" compiled in {result['compile_seconds']:.0f} s, peak memory {result['peak_memory_mib']:,.0f} MiB"
    )
    if parts := result.get("microseconds_per_env_step"):
        yield "  of an env step's time: " + ", ".join(f"{part} {us:.2f} us" for part, us in parts.items())
    if result["what"] == "train":
        of_iteration = (name for name in result if name.endswith("_seconds") and name != "compile_seconds")
        line = "  of an iteration: "
        line += ", ".join(f"{name.removesuffix('_seconds')} {result[name]:.3f} s" for name in of_iteration)
        if "update_gflops_per_second" in result:
            line += f"; the update computes at {result['update_gflops_per_second']:.0f} GFLOP/s,"
            line += f" one product of large matrices at {result['gemm_gflops_per_second']:.0f}"
        yield line


if __name__ == "__main__":
    app.run(main)
