"""Reports a sweep's training runs as the field does: tf-marl report --sweep=DIR

Tables per map and over maps as CSV, LaTeX and Markdown, plots, and marl-eval's JSON. It trains nothing.
"""

import pathlib

from absl import flags

from tf_marl.places import STORE_FOLDER

from . import app

FLAGS = flags.FLAGS

COLUMNS = ("algorithm", "map", "rule")

app.define_json_flag()
flags.DEFINE_string("sweep", None, "Folder of the sweep's runs.csv and curves.csv.", required=True)
flags.DEFINE_string(
    "baselines", None, "Table of scripted teams; by default that of `tf-marl baselines`, if it is there."
)
flags.DEFINE_string("out", None, "Folder for the report; by default the folder report in that of the sweep.")
for column in COLUMNS:
    flags.DEFINE_multi_string(column, [], f"Reports only on runs with this {column}; repeats.")


def main() -> int:
    """Writes the report and returns the exit code."""
    source = pathlib.Path(FLAGS.sweep)
    if not (source / "runs.csv").is_file():
        raise app.BadInput(
            f"--sweep={FLAGS.sweep}: there is no runs.csv in it; tf-marl sweep --out={FLAGS.sweep} writes it"
        )
    baselines = pathlib.Path(FLAGS.baselines or STORE_FOLDER / "results" / "baselines" / "win_rates.csv")
    if FLAGS.baselines and not baselines.is_file():
        raise app.BadInput(f"--baselines={FLAGS.baselines}: is no file; tf-marl baselines writes win_rates.csv")
    import pandas as pd

    from tf_marl.experiments import report, sweep

    tables = sweep.open_tables(source)
    runs, curves = tables["runs"], tables["curves"]
    for column in COLUMNS:
        wanted, there = getattr(FLAGS, column), runs[column].unique()
        if unknown := sorted(set(wanted) - set(there)):
            raise app.BadInput(f"--{column}={unknown[0]}: no run has it; choose among {', '.join(there)}")
        if wanted:
            runs, curves = runs[runs[column].isin(wanted)], curves[curves[column].isin(wanted)]
    folder = app.writable_folder(FLAGS.out or source / "report", "out")
    with app.bad_input(f"--sweep={FLAGS.sweep}: ", ValueError):
        scripted = pd.read_csv(baselines) if baselines.is_file() else None
        files = report.write_report(runs, curves, folder, scripted)
    print((folder / "report.md").read_text("utf-8").split("\n![")[0].rstrip())
    print(f"written to {folder}")
    app.print_json({"out": str(folder), "files": [path.name for path in files]})
    return 0


if __name__ == "__main__":
    app.run(main)
