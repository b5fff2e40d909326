"""Trains a team: tf-marl train --gin_file=ippo.gin --gin_file=maps/3m.gin"""

import signal
import sys
import time
from typing import TYPE_CHECKING

from absl import flags

from tf_marl import places

from . import app

if TYPE_CHECKING:
    from tf_marl.experiments.recorded import RecordedRun

FLAGS = flags.FLAGS

app.define_gin_flags()
app.define_tracking_flags()
app.define_json_flag()
app.define_plugin_flag()
app.define_memory_flag()
app.define_sc2_flag()
app.define_seed_flag()
flags.DEFINE_bool("register", True, "Register the best policy in MLflow; it challenges the champion.")
flags.DEFINE_bool("allow_config_change", False, "Go on from --root_dir's checkpoint though settings have changed.")
flags.DEFINE_string("parent_run_id", None, "MLflow run that a new one is shown under.")
flags.DEFINE_bool("replay", True, "Keep some battles of the best policy among the run's artifacts, as a page.")
flags.DEFINE_string("root_dir", None, "Folder of checkpoints and configuration; a new one in mlflow_artifacts/runs/.")


def main() -> int:
    """Trains a team, keeps what comes of it and says what that is. Returns the exit code."""
    app.check_gin_files(FLAGS.gin_file)
    root_dir = app.writable_folder(FLAGS.root_dir) if FLAGS.root_dir else None
    app.check_store(root_dir)
    print("loading TensorFlow ...", file=sys.stderr, flush=True)
    app.import_quietly()
    app.read_gin(FLAGS.gin_file, FLAGS.gin_bindings)
    from tf_marl.experiments import recorded, stopping

    with app.bad_input():
        run = recorded.open_run(
            root_dir,
            seed=FLAGS.seed,
            tracking_uri=app.tracking_uri(),
            experiment=FLAGS.experiment,
            name=FLAGS.run_name,
            parent_run_id=FLAGS.parent_run_id,
            allow_config_change=FLAGS.allow_config_change,
            max_gigabytes=FLAGS.max_gigabytes,
        )
    if run.has_finished(FLAGS.register):
        return _say_so(run)
    began = time.perf_counter()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # an exception, as Ctrl-C is
    try:
        with run:
            with run.progress_bar() as bar, stopping.first_signal() as stop:
                result = run.train(bar, stop)
            replay = run.keep(FLAGS.register, FLAGS.replay)
    except recorded.RunFailedError as failed:
        raise app.Failure(failed) from failed
    seconds = time.perf_counter() - began
    summary = {
        "run": f"{run.name} ({run.tracker.run_id}) in experiment {run.tracker.experiment}",
        "look": _page(run),
        "watch": replay and f"{replay} among its artifacts",
        "model": f"{run.registered_name}: {run.challenge()}" if FLAGS.register and not result.interrupted else None,
        "evaluate": f"tf-marl evaluate --root_dir={places.shown(run.root_dir)}",
    }
    print(f"\n{run.algorithm} on {run.map_name}, seed {FLAGS.seed}: {run.outcome(result, seconds)}")
    print("\n".join(f"  {name:9} {told}" for name, told in summary.items() if told), flush=True)
    told = {"run_id": run.tracker.run_id, "root_dir": str(run.root_dir), "env_steps": result.env_steps}
    app.print_json(told | {"seconds": seconds, "interrupted": result.interrupted} | result.evaluation)
    return stop.code if result.interrupted else 0


def _say_so(run: "RecordedRun") -> int:
    """Ends a command that a finished run leaves nothing to do for, but for what the store still lacks."""
    run.flush()
    if FLAGS.register:
        run.challenge()
    env_steps, folder = int(run.trainer.env_steps), places.shown(run.root_dir)
    print(f"{folder} has finished its {env_steps:,} env steps before; a larger train.num_env_steps goes on")
    app.print_json({"run_id": run.tracker.run_id, "root_dir": str(run.root_dir), "env_steps": env_steps})
    return 0


def _page(run: "RecordedRun") -> str | None:
    """Returns what to open to look at the run; of a checkout's local store, the Makefile's way."""
    page = run.tracker.page()
    if page and FLAGS.tracking_uri is None and places.CHECKOUT:
        return f"make ui, then {page.partition(', then ')[2]}"
    return page


if __name__ == "__main__":
    app.run(main)
