"""The paper's figures, beside its published numbers: python -m launch.figure --figure=2 --scale=quick

Runs what the tables lack, then draws from the tables: a stopped figure is taken up where it stopped, and one that is
complete is only drawn. Figures that show the same runs share them.
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from launch import app, sweep

FLAGS = flags.FLAGS
FIRST_UPDATES = app.STORE_FOLDER / "results" / "figure_1"
FIRST_UPDATE = ("1", "1a", "1b", "1c", "1d")
TRAINED = (*"2345678", "alpha")

Made = tuple[int, dict[str, Any], list[pathlib.Path]]  # exit code, what is to be told, files


def main() -> int:
    from tf_marl import tracking

    trained = FLAGS.figure not in FIRST_UPDATE
    default = app.STORE_FOLDER / "results" / "paper" / FLAGS.scale if trained else FIRST_UPDATES
    folder = app.writable_folder(FLAGS.out or default, "out")
    if FLAGS.tracking_uri:
        with app.bad_input("--tracking_uri: "):
            tracking.check_reachable(FLAGS.tracking_uri)
    seeds = FLAGS.seeds or 5
    code, result, files = _of_training_runs(folder) if trained else _of_first_updates(seeds, folder)
    params = {"figure": FLAGS.figure} | ({"scale": FLAGS.scale} if trained else {"seeds": str(seeds)})
    run_id = app.log_results(f"figure_{FLAGS.figure}", params, {"figure": FLAGS.figure}, files)
    print(f"written to {folder}, logged as run {run_id} in experiment {FLAGS.experiment}")
    if FLAGS.json:
        app.print_json(result | {"out": str(folder), "run_id": run_id})
    return code


def _of_first_updates(seeds: int, folder: pathlib.Path) -> Made:
    from tf_marl.paper import figure_1

    tables = figure_1.open_tables(folder)
    if lacking := figure_1.missing(FLAGS.figure, seeds, tables):
        app.import_quietly()
        with app.bad_input(kinds=ValueError):
            figure_1.measure(lacking, tables, functools.partial(_configure, bindings=FLAGS.gin_bindings))
    return 0, *figure_1.draw(FLAGS.figure, seeds, tables)


def _configure(map_name: str, bindings: Sequence[str]) -> None:
    from tf_marl.paper.figure_1 import NUM_EPOCHS

    paths = app.gin_paths([f"maps/{map_name}.gin", "paper/ippo.gin"])  # the paper's settings last: on every map
    app.parse_gin(paths, [f"ppo.num_epochs = {NUM_EPOCHS}", *bindings])


def _of_training_runs(folder: pathlib.Path) -> Made:
    from tf_marl.experiments import scheduler
    from tf_marl.experiments.sweep import missing, open_tables
    from tf_marl.paper import figure_1, training_runs

    names = TRAINED if FLAGS.figure == "all" else (FLAGS.figure,)
    bindings = FLAGS.gin_bindings + ([f"sweep.seeds = {FLAGS.seeds}"] if FLAGS.seeds else [])
    wanted = {
        name: sweep.read_runs([f"paper/figure_{name}.gin", f"paper/{FLAGS.scale}.gin"], bindings) for name in names
    }
    tables = open_tables(folder)
    code = 0
    if FLAGS.train:
        # A seed of all figures after the other; what two of them show is one run.
        every = sorted(dict.fromkeys(run for runs in wanted.values() for run in runs), key=lambda run: run.seed)
        with app.bad_input(kinds=ValueError):
            lacking = missing(every, tables)
        code = sweep.train(lacking, tables, f"paper_{FLAGS.scale}", FLAGS.processes or scheduler.cores())
    return code, *training_runs.draw(wanted, tables, FLAGS.scale, figure_1.open_tables(FIRST_UPDATES))


if __name__ == "__main__":  # the processes of the runs import this module, and have flags of their own
    app.define_json_flag()
    app.define_tracking_flags()
    flags.DEFINE_enum(
        "figure", "1", [*FIRST_UPDATE, *TRAINED, "all"], "Which; 1 is all of 1a to 1d; all is 2 to 8 and alpha."
    )
    flags.DEFINE_enum("scale", "quick", ["quick", "laptop", "paper"], "Of 2 to 8 and alpha: gin/paper/SCALE.gin.")
    flags.DEFINE_integer(
        "seeds", None, "Runs of each setting; by default 5 for figure 1, else the scale's.", lower_bound=1
    )
    flags.DEFINE_string("out", None, "Folder for tables and plots; by default in mlflow_artifacts/results/.")
    flags.DEFINE_integer(
        "processes", None, "Runs side by side, of 2 to 8 and alpha; by default one a core.", lower_bound=1
    )
    flags.DEFINE_bool("train", True, "Run what the tables lack; else draw from what they have, of 2 to 8 and alpha.")
    flags.DEFINE_multi_string(
        "gin_bindings",
        [],
        "Gin binding on top of paper/ippo.gin for figure 1, else of the sweep; give another --out with it.",
    )
    app.run(main)
