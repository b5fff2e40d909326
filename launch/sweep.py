"""Many training runs, side by side, from a gin file of axes: python -m launch.sweep --gin_file=paper/figure_2.gin

A second start goes on where the first one stopped; `launch.figure` draws the paper's figures from such runs.
"""

import shlex

from absl import flags

from launch import app

FLAGS = flags.FLAGS

app.define_gin_flags()
app.define_json_flag()
app.define_tracking_flags()
flags.DEFINE_string("out", None, "Folder for runs.csv, curves.csv and the runs' own, in runs/.", required=True)
flags.DEFINE_integer("processes", None, "Runs side by side; by default one a core.", lower_bound=1)
flags.DEFINE_bool("dry_run", False, "Only list the runs that are missing, as commands, and what they may take.")


def main() -> int:
    from launch import runs

    folder = app.writable_folder(FLAGS.out, "out")
    wanted = runs.read_axes(FLAGS.gin_file, FLAGS.gin_bindings).runs()
    tables = runs.Tables(folder)
    processes = FLAGS.processes or runs.cores()
    missing = [run for run in wanted if not tables.have(run)]
    if FLAGS.dry_run:
        for run in missing:
            print("python -m launch.train " + shlex.join(run.arguments()))
    print(
        f"{len(wanted)} runs, {len(wanted) - len(missing)} of them done;"
        f" the rest may take {runs.time_left(missing, tables, processes)} with {processes} at a time",
        flush=True,
    )
    code = 0 if FLAGS.dry_run else runs.train_all(wanted, tables, FLAGS.run_name or folder.name, processes)
    if FLAGS.json:
        done = tables.select(wanted, tables.runs)
        app.print_json({"out": str(folder), "runs": done.to_dict("records"), "missing": [run.name for run in missing]})
    return code


if __name__ == "__main__":
    app.run(main)
