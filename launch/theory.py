"""The paper's theorems in an exact laboratory: which hold, which have counterexamples, and what updates really do.

python -m launch.theory            # minutes: 10,000 instances of each statement and more, and all learning curves
python -m launch.theory --quick    # under a minute, for a look
"""

from absl import flags

from launch import app

FLAGS = flags.FLAGS

app.define_json_flag()
app.define_seed_flag()
app.define_tracking_flags()
flags.DEFINE_bool("quick", False, "A look in under a minute: fewer instances, no ascent, nothing minimised.")
flags.DEFINE_string("out", str(app.STORE_FOLDER / "results" / "theory"), "Folder for tables, plots and witnesses.")


def main() -> int:
    folder = app.writable_folder(FLAGS.out, "out")
    app.writable_folder(folder / "witnesses", "out")
    app.import_quietly()
    from tf_marl import tracking
    from tf_marl.paper import theory

    if FLAGS.tracking_uri:
        with app.bad_input("--tracking_uri: "):
            tracking.check_reachable(FLAGS.tracking_uri)
    rows, files = theory.study(theory.QUICK if FLAGS.quick else theory.FULL, FLAGS.seed, folder)
    params = {"quick": str(FLAGS.quick), "seed": str(FLAGS.seed)}
    run_id = app.log_results("theory", params, {"study": "theory"}, files)
    width = max(len(row["statement"]) + len(row["reading"]) for row in rows) + 2
    for row in rows:
        name = f"{row['statement']}: {row['reading']}"
        print(f"{name:{width}}  {row['instances']:>7,}  {row['smallest_slack']:>9.2g}  {row['verdict']}")
    print(f"written to {folder}, logged as run {run_id} in experiment {FLAGS.experiment}")
    if FLAGS.json:
        app.print_json({"statements": rows, "out": str(folder), "run_id": run_id})
    return 0


if __name__ == "__main__":
    app.run(main)
