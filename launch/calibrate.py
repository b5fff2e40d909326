"""Holds the embedded battle against StarCraft II: scripted teams' results here beside those in the game.

tf-marl calibrate --profile=multiplayer   # 500 battles of each script on each map, 2 minutes
tf-marl calibrate --draw                  # only page and figure again, from the table

What was played, and by which rules: `tf_marl/experiments/scripted_games.py`. Other games than the published ones:
--games=FILE.csv.
"""

from absl import flags

from tf_marl.places import STORE_FOLDER

from . import app

FLAGS = flags.FLAGS
RESULTS = STORE_FOLDER / "results" / "real_game"

app.define_json_flag()
app.define_seed_flag()
flags.DEFINE_string("games", None, "Table of games: script, map, final_reward, won; by default the published ones.")
flags.DEFINE_multi_string("map", [], "Map; repeats; by default all of the table.")
flags.DEFINE_integer("battles", 500, "Battles of ours for each script on each map.", lower_bound=1)
flags.DEFINE_string("profile", "liberty", "Unit values: see tf_marl/environments/combat/units.py.")
flags.DEFINE_bool("draw", False, "Play nothing: only write page and figure again, from the table in --out.")
flags.DEFINE_string("out", str(RESULTS), "Folder for cells.csv, the page and its figure.")


def main() -> int:
    """Plays the battles, unless told only to draw, and writes table, page and figure; returns the exit code."""
    from tf_marl.experiments import calibration

    folder = app.writable_folder(FLAGS.out, "out")
    if not FLAGS.draw:
        with app.bad_input("--games: "):
            games = calibration.read_games(FLAGS.games)
        if unknown := set(FLAGS.map) - set(games["map"]):
            there = ", ".join(dict.fromkeys(games["map"]))
            raise app.BadInput(f"--map={unknown.pop()}: no game on it; there are: {there}")
        games = games[games["map"].isin(FLAGS.map)] if FLAGS.map else games
        app.import_quietly()
        with app.bad_input(kinds=ValueError):
            calibration.measure(games, FLAGS.battles, FLAGS.profile, FLAGS.seed, folder)
    with app.bad_input("--out: ", OSError):
        table = calibration.draw(folder)
    summary = calibration.summarise(table)
    print(f"{summary['not_refuted']:.0%} of {len(table)} win rates not refuted; written to {folder}")
    app.print_json(summary | {"out": str(folder)})
    return 0


if __name__ == "__main__":
    app.run(main)
