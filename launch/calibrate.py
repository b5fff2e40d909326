"""Holds the embedded battle against StarCraft II: scripted teams' results here beside those in the game.

python -m launch.calibrate

What was played, and by which rules: `tf_marl/experiments/scripted_games.py`. Other games than the published ones:
--games=FILE.csv.
"""

from absl import flags

from launch import app

FLAGS = flags.FLAGS
RESULTS = app.STORE_FOLDER / "results" / "real_game"

app.define_json_flag()
app.define_seed_flag()
flags.DEFINE_string("games", None, "Table of games: script, map, final_reward, won; by default the published ones.")
flags.DEFINE_multi_string("map", [], "Map; repeats; by default all of the table.")
flags.DEFINE_integer("battles", 500, "Battles of ours for each script on each map.", lower_bound=1)
flags.DEFINE_string("profile", "liberty", "Unit values: see tf_marl/environments/combat/units.py.")
flags.DEFINE_string("out", str(RESULTS), "Folder for cells.csv, the page and its figure.")


def main() -> int:
    from tf_marl.experiments import calibration

    folder = app.writable_folder(FLAGS.out, "out")
    with app.bad_input("--games: "):
        games = calibration.read_games(FLAGS.games)
    if unknown := set(FLAGS.map) - set(games["map"]):
        raise app.BadInput(f"--map={unknown.pop()}: no game on it; there are: {', '.join(dict.fromkeys(games['map']))}")
    games = games[games["map"].isin(FLAGS.map)] if FLAGS.map else games
    app.import_quietly()
    from tf_marl.experiments import scripted_games

    ours = {}
    cells = dict.fromkeys(zip(games.script, games["map"], strict=True))
    with app.bad_input(kinds=ValueError):
        for name, map_name, rewards, won in scripted_games.play(cells, FLAGS.battles, FLAGS.profile, FLAGS.seed):
            ours[name, map_name] = rewards, won
            print(f"{map_name:>16} {name:<8} won {won.mean():.2f}   final reward {rewards.mean():.3f}", flush=True)
    table = calibration.compare(games, ours)
    calibration.report(table, FLAGS.profile, FLAGS.battles, FLAGS.seed, folder)
    summary = calibration.summarise(table)
    print(f"{summary['not_refuted']:.0%} of {len(table)} win rates not refuted; written to {folder}")
    if FLAGS.json:
        app.print_json(summary | {"out": str(folder)})
    return 0


if __name__ == "__main__":
    app.run(main)
