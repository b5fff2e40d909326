"""The paper's figures, beside its published numbers: tf-marl figure --figure=2 --scale=quick

Runs what the tables lack, then draws from the tables: a stopped figure is taken up where it stopped, and one that is
complete is only drawn. Figures that show the same runs share them.

tf-marl figure --figure=1 --seeds=2 --notrain         # only drawn again, from the tables
tf-marl figure --figure=all --scale=laptop --notrain
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from tf_marl.places import STORE_FOLDER

from . import app

FLAGS = flags.FLAGS
FIRST_UPDATES = STORE_FOLDER / "results" / "figure_1"
FIRST_UPDATE = ("1", "1a", "1b", "1c", "1d")
TRAINED = (*"2345678", "alpha", "rules")

Made = tuple[int, dict[str, Any], list[pathlib.Path]]  # exit code, summary for --json, files


def main() -> int:
    """Makes the figure, logs its files in MLflow and returns the exit code."""
    trained = FLAGS.figure not in FIRST_UPDATE
    default = STORE_FOLDER / "results" / "paper" / FLAGS.scale if trained else FIRST_UPDATES
    folder = app.writable_folder(FLAGS.out or default, "out")
    app.check_store()
    code, result, files = _of_training_runs(folder) if trained else _of_first_updates(folder)
    params = {"figure": FLAGS.figure} | ({"scale": FLAGS.scale} if trained else {"seeds": str(FLAGS.seeds or 5)})
    run_id = app.log_results(f"figure_{FLAGS.figure}", params, {"figure": FLAGS.figure}, files)
    print(f"written to {folder}, logged as run {run_id} in experiment {FLAGS.experiment}")
    app.print_json(result | {"out": str(folder), "run_id": run_id})
    return code


def _of_first_updates(folder: pathlib.Path) -> Made:
    from tf_marl.paper import figure_1

    seeds, tables = FLAGS.seeds or 5, figure_1.open_tables(folder)
    lacking = figure_1.missing(FLAGS.figure, seeds, tables) if FLAGS.train else []
    with app.bad_input(kinds=ValueError):
        if lacking:
            app.import_quietly()
            figure_1.measure(lacking, tables, functools.partial(_configure, bindings=FLAGS.gin_bindings))
        return 0, *figure_1.draw(FLAGS.figure, seeds, tables)


def _configure(map_name: str, bindings: Sequence[str]) -> None:
    from tf_marl.paper.figure_1 import NUM_EPOCHS

    files = [f"maps/{map_name}.gin", "paper/ippo.gin"]  # the paper's settings last: on every map
    app.read_gin(files, [f"ppo.num_epochs = {NUM_EPOCHS}", *bindings])


def _of_training_runs(folder: pathlib.Path) -> Made:
    from tf_marl.experiments import scheduler, sweep
    from tf_marl.paper import figure_1, training_runs

    from .sweep import train

    files, bindings = [f"paper/{FLAGS.scale}.gin"], [*FLAGS.gin_bindings]
    bindings += [f"sweep.seeds = {FLAGS.seeds}"] if FLAGS.seeds else []
    names = TRAINED[:-1] if FLAGS.figure == "all" else (FLAGS.figure,)  # those of one scale
    with app.bad_input():
        wanted = {name: sweep.read([f"paper/figure_{name}.gin", *files], bindings) for name in names}
    tables, code = sweep.open_tables(folder), 0
    if FLAGS.train:
        # All figures get their first seed before any gets its second; a run that two figures show is trained once.
        every = sorted(dict.fromkeys(run for runs in wanted.values() for run in runs), key=lambda run: run.seed)
        with app.bad_input(kinds=ValueError):
            lacking = sweep.missing(every, tables)
        code = train(lacking, tables, f"paper_{FLAGS.scale}", FLAGS.processes or scheduler.cores())
    return code, *training_runs.draw(wanted, tables, FLAGS.scale, figure_1.open_tables(FIRST_UPDATES))


if __name__ == "__main__":  # the processes of the runs import this module, and have flags of their own
    app.define_json_flag()
    app.define_tracking_flags()
    which = [*FIRST_UPDATE, *TRAINED, "all"]
    flags.DEFINE_enum(
        "figure", "1", which, "Which; 1 is all of 1a to 1d; all is 2 to 8 and alpha; rules needs --scale=long."
    )
    flags.DEFINE_enum(
        "scale", "quick", ["quick", "laptop", "long", "paper"], "Of 2 to 8, alpha and rules: gin/paper/SCALE.gin."
    )
    told = "Runs of each setting; by default 5 for figure 1, else the scale's."
    flags.DEFINE_integer("seeds", None, told, lower_bound=1)
    flags.DEFINE_string("out", None, "Folder for tables and plots; by default in mlflow_artifacts/results/.")
    told = "Runs side by side, of 2 to 8 and alpha; by default one a core."
    flags.DEFINE_integer("processes", None, told, lower_bound=1)
    flags.DEFINE_bool("train", True, "Run what the tables lack; --notrain only draws what they have.")
    told = "Gin binding on top of paper/ippo.gin for figure 1, else of the sweep; give another --out with it."
    flags.DEFINE_multi_string("gin_bindings", [], told)
    app.run(main)
