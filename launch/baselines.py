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
    import tensorflow as tf

    from tf_marl import environments
    from tf_marl.environments.combat.scripts import SCRIPTS, ScriptedPolicy
    from tf_marl.training.evaluate import Evaluator, win_interval

    with app.bad_input():
        cores = [environments.make(name, num_envs=FLAGS.episodes) for name in FLAGS.map or environments.map_names()]
    csv = ["map,policy,episodes,battle_won_mean,battle_won_low,battle_won_high,return_mean,episode_length_mean"]
    page = [
        f"Share of battles won, with 95% interval (Wilson), over {FLAGS.episodes} episodes each:",
        f"`python -m launch.baselines --episodes={FLAGS.episodes} --seed={FLAGS.seed}`. The teams are those of",
        "`tf_marl/environments/combat/scripts.py`; the battles are ours, not StarCraft II's.",
        "",
        "| map | " + " | ".join(SCRIPTS) + " |",
        "|---|" + "---|" * len(SCRIPTS),
    ]
    for world in cores:
        cells = []
        for script in SCRIPTS:
            policy = ScriptedPolicy(world.time_step_spec, world.action_spec, script, world.task)
            result = Evaluator(world, policy)(tf.constant([FLAGS.seed, 6]))
            won = result["battle_won_mean"]
            low, high = win_interval(won, FLAGS.episodes)
            numbers = (won, low, high, result["return_mean"], result["episode_length_mean"])
            csv.append(f"{world.scenario.name},{script},{FLAGS.episodes}," + ",".join(f"{x:.4f}" for x in numbers))
            cells.append(f"{won:.2f} ({low:.2f} to {high:.2f})")
        page.append(f"| {world.scenario.name} | " + " | ".join(cells) + " |")
        print(page[-1], flush=True)
    (folder / "win_rates.csv").write_text("\n".join(csv) + "\n", "utf-8")
    (folder / "win_rates.md").write_text("\n".join(page) + "\n", "utf-8")
    print(f"written to {folder}")
    if FLAGS.json:
        header, *rows = (line.split(",") for line in csv)
        app.print_json({"win_rates": [dict(zip(header, row, strict=True)) for row in rows]})
    return 0


if __name__ == "__main__":
    app.run(main)
