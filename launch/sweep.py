"""Trains many runs side by side, from a gin file of axes: tf-marl sweep --gin_file=paper/figure_2.gin --out=DIR

A second start goes on where the first one stopped; `tf-marl figure` draws the paper's figures from such runs.
"""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from . import app

if TYPE_CHECKING:
    from tf_marl.experiments.sweep import Run
    from tf_marl.experiments.tables import Tables

FLAGS = flags.FLAGS


def main() -> int:
    """Trains the runs that the tables lack, or only lists them. Returns the exit code."""
    from tf_marl.experiments import scheduler, sweep

    folder = app.writable_folder(FLAGS.out, "out")
    with app.bad_input():
        wanted = sweep.read(FLAGS.gin_file, FLAGS.gin_bindings)
    tables = sweep.open_tables(folder)
    processes = FLAGS.processes or scheduler.cores()
    with app.bad_input(kinds=ValueError):
        missing = sweep.missing(wanted, tables)
    if FLAGS.dry_run:
        for run in missing:
            print("tf-marl train " + shlex.join(run.arguments()))
    print(
        f"{len(wanted)} runs, {len(wanted) - len(missing)} of them done;"
        f" the rest may take {sweep.time_left(missing, tables, processes)} with {processes} at a time",
        flush=True,
    )
    code = 0 if FLAGS.dry_run else train(missing, tables, FLAGS.run_name or folder.name, processes)
    done = tables.select("runs", [run.key for run in wanted])
    app.print_json({"out": str(folder), "runs": done.to_dict("records"), "missing": [run.name for run in missing]})
    return code


def train(missing: Sequence["Run"], tables: "Tables", name: str, processes: int) -> int:
    """Trains runs by the training command, and tracks them as the flags say.

    Args:
        missing: runs that the tables lack.
        tables: to add to.
        name: of the run that theirs are under.
        processes: how many run at a time.
    Returns:
        The exit code.
    Raises:
        app.BadInput: the store or the folder cannot be used.
    """
    from tf_marl import tracking
    from tf_marl.experiments import stopping, sweep

    module = f"{__package__}.train"  # launch.train, or tf_marl.launch.train
    with app.bad_input("--tracking_uri: "):
        store = tracking.absolute(app.tracking_uri())
    with stopping.first_signal() as stop, app.bad_input(kinds=ValueError):
        failed = sweep.train(missing, tables, name, module, store, FLAGS.experiment, processes, stop)
    return stop.code or (app.FAILED if failed else 0)


if __name__ == "__main__":  # the processes of the runs import this module, and have flags of their own
    app.define_gin_flags()
    app.define_json_flag()
    app.define_tracking_flags()
    flags.DEFINE_string("out", None, "Folder for runs.csv, curves.csv and the runs' own, in runs/.", required=True)
    flags.DEFINE_integer("processes", None, "Runs side by side; by default one a core.", lower_bound=1)
    flags.DEFINE_bool("dry_run", False, "Only list the runs that are missing, as commands, and what they may take.")
    app.run(main)
