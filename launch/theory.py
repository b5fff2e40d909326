"""The paper's theorems in an exact laboratory: which hold, which have counterexamples, and what updates really do.

tf-marl theory            # 5 minutes: 10,000 instances of each statement and more, and all learning curves
tf-marl theory --quick    # under a minute, for a look; give another --out with it
tf-marl theory --draw     # only page and plots again, from the tables
"""

from absl import flags

from tf_marl.places import STORE_FOLDER

from . import app

FLAGS = flags.FLAGS

app.define_json_flag()
app.define_seed_flag()
app.define_tracking_flags()
flags.DEFINE_bool("quick", False, "A look in under a minute: fewer instances, no ascent, nothing minimised.")
flags.DEFINE_bool("draw", False, "Try nothing: only write page and plots again, from the tables in --out.")
flags.DEFINE_string("out", str(STORE_FOLDER / "results" / "theory"), "Folder for tables, plots and witnesses.")


def main() -> int:
    """Tries the statements, unless told only to draw, and writes page and plots; returns the exit code."""
    folder = app.writable_folder(FLAGS.out, "out")
    app.writable_folder(folder / "witnesses", "out")
    app.import_quietly()
    from tf_marl.paper import theory

    app.check_store()
    if not FLAGS.draw:
        theory.measure("quick" if FLAGS.quick else "full", FLAGS.seed, folder)
    with app.bad_input("--out: ", OSError):
        statements, files = theory.draw(folder)
    params = {name: str(statements[name][0]) for name in ("effort", "seed")}
    run_id = app.log_results("theory", params, {"study": "theory"}, files)
    names = statements.statement + ": " + statements.reading + ("; " + statements.stratum).fillna("")
    for name, row in zip(names, statements.itertuples(), strict=True):
        print(f"{name:{names.str.len().max()}}  {row.instances:>7,}  {row.smallest_slack:>9.2g}  {row.verdict}")
    print(f"written to {folder}, logged as run {run_id} in experiment {FLAGS.experiment}")
    known = statements.astype(object).where(statements.notna(), None)  # NaN is not JSON
    app.print_json({"statements": known.to_dict("records"), "out": str(folder), "run_id": run_id})
    return 0


if __name__ == "__main__":
    app.run(main)
