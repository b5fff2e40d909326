"""How hard each map is: the scripted teams' win rates on all of them, as a table in mlflow_artifacts/results/.

python -m launch.baselines
"""

from absl import flags

from launch import app

FLAGS = flags.FLAGS
RESULTS = app.STORE_FOLDER / "results" / "baselines"

app.define_json_flag()
app.define_seed_flag()
flags.DEFINE_multi_string("map", [], "SMAC map; repeats; all of them by default.")
flags.DEFINE_integer("episodes", 512, "Episodes of each team on each map.", lower_bound=1)
flags.DEFINE_string("out", str(RESULTS), "Folder for win_rates.csv and win_rates.md.")


def main() -> int:
    folder = app.writable_folder(FLAGS.out, "out")
    app.import_quietly()
    from tf_marl import environments
    from tf_marl.experiments import baselines

    with app.bad_input():
        worlds = [environments.make(name, num_envs=FLAGS.episodes) for name in FLAGS.map or environments.map_names()]
    rows = []
    for world in worlds:
        rows += (of_world := list(baselines.play(world, FLAGS.seed)))
        print(baselines.line(of_world), flush=True)
    table = baselines.report(rows, FLAGS.seed, folder)
    print(f"written to {folder}")
    if FLAGS.json:
        app.print_json({"win_rates": table.to_dict("records")})
    return 0


if __name__ == "__main__":
    app.run(main)
