"""Many training runs, side by side, from a gin file of axes: python -m launch.sweep --gin_file=paper/figure_2.gin

A second start goes on where the first one stopped; `launch.figure` draws the paper's figures from such runs.
"""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from launch import app

if TYPE_CHECKING:
    from tf_marl.experiments.sweep import Run
    from tf_marl.experiments.tables import Tables

FLAGS = flags.FLAGS


def main() -> int:
    from tf_marl.experiments import scheduler, sweep

    folder = app.writable_folder(FLAGS.out, "out")
    wanted = read_runs(FLAGS.gin_file, FLAGS.gin_bindings)
    tables = sweep.open_tables(folder)
    processes = FLAGS.processes or scheduler.cores()
    with app.bad_input(kinds=ValueError):
        missing = sweep.missing(wanted, tables)
    if FLAGS.dry_run:
        for run in missing:
            print("python -m launch.train " + shlex.join(run.arguments()))
    print(
        f"{len(wanted)} runs, {len(wanted) - len(missing)} of them done;"
        f" the rest may take {sweep.time_left(missing, tables, processes)} with {processes} at a time",
        flush=True,
    )
    code = 0 if FLAGS.dry_run else train(missing, tables, FLAGS.run_name or folder.name, processes)
    if FLAGS.json:
        done = tables.select("runs", [run.key for run in wanted])
        app.print_json({"out": str(folder), "runs": done.to_dict("records"), "missing": [run.name for run in missing]})
    return code


def read_runs(gin_files: Sequence[str], bindings: Sequence[str] = ()) -> list["Run"]:
    """The runs of the sweep that gin files describe, the later ones having the last word.

    Raises:
        app.BadInput: a setting of the sweep is wrong, or a run's file is not there; names it.
    """
    import gin

    from tf_marl.experiments.sweep import Sweep

    gin.clear_config()
    app.read_gin(app.gin_paths(list(gin_files)), list(bindings))
    with app.bad_input():
        runs = Sweep().runs()
    app.gin_paths(list(dict.fromkeys(file for run in runs for file in run.gin_files)))
    return runs


def train(missing: Sequence["Run"], tables: "Tables", name: str, processes: int) -> int:
    """Trains runs by `launch.train`, as the flags say where to. Returns the exit code."""
    from tf_marl import tracking
    from tf_marl.experiments import sweep

    with app.bad_input("--tracking_uri: "):
        store = tracking.absolute(app.tracking_uri())  # the runs' current directory is another
    with app.first_signal() as stop, app.bad_input(kinds=ValueError):
        failed = sweep.train(
            missing, tables, name, "launch.train", app.CHECKOUT, store, FLAGS.experiment, processes, stop
        )
    return stop.code or (app.FAILED if failed else 0)


if __name__ == "__main__":  # the processes of the runs import this module, and have flags of their own
    app.define_gin_flags()
    app.define_json_flag()
    app.define_tracking_flags()
    flags.DEFINE_string("out", None, "Folder for runs.csv, curves.csv and the runs' own, in runs/.", required=True)
    flags.DEFINE_integer("processes", None, "Runs side by side; by default one a core.", lower_bound=1)
    flags.DEFINE_bool("dry_run", False, "Only list the runs that are missing, as commands, and what they may take.")
    app.run(main)
