"""How hard each map is: the scripted teams' win rates on all of them, as a table in mlflow_artifacts/results/.

tf-marl baselines          # all 23 maps, 512 episodes of each team
tf-marl baselines --draw   # only the page again, from the table
"""

from absl import flags

from tf_marl.places import STORE_FOLDER

from . import app

FLAGS = flags.FLAGS
RESULTS = STORE_FOLDER / "results" / "baselines"

app.define_json_flag()
app.define_seed_flag()
flags.DEFINE_multi_string("map", [], "SMAC map; repeats; all of them by default.")
flags.DEFINE_integer("episodes", 512, "Episodes of each team on each map.", lower_bound=1)
flags.DEFINE_bool("draw", False, "Play nothing: only write the page again, from the table in --out.")
flags.DEFINE_string("out", str(RESULTS), "Folder for win_rates.csv and win_rates.md.")


def main() -> int:
    """Plays the scripted teams, unless told only to draw, and writes table and page; returns the exit code."""
    folder = app.writable_folder(FLAGS.out, "out")
    app.import_quietly()
    from tf_marl import environments
    from tf_marl.experiments import baselines

    if not FLAGS.draw:
        names = FLAGS.map or environments.map_names()
        with app.bad_input():
            worlds = [environments.make(name, num_envs=FLAGS.episodes) for name in names]
        rows = []
        for world in worlds:
            for row in baselines.play(world, FLAGS.seed):
                print(f"{row['map']:>16} {row['policy']:<10} won {baselines.win_rate(row)}", flush=True)
                rows.append(row)
        baselines.save(rows, folder)
    with app.bad_input("--out: ", OSError):
        table = baselines.draw(folder)
    print(f"written to {folder}")
    app.print_json({"win_rates": table.to_dict("records")})
    return 0


if __name__ == "__main__":
    app.run(main)
