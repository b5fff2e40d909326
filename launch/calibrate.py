"""Holds the embedded battle against StarCraft II: scripted teams' results here beside those in the game.

python -m launch.calibrate

What was played, and by which rules: `tf_marl/calibration.py`. Other games than the published ones: --games=FILE.csv.
"""

from typing import TYPE_CHECKING

from absl import flags

from launch import app

if TYPE_CHECKING:
    import pandas as pd

FLAGS = flags.FLAGS
RESULTS = app.STORE_FOLDER / "results" / "real_game"
LEVEL = 0.05  # of the tests

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
    from tf_marl.environments.combat.scenarios import scenario
    from tf_marl.paper import figures

    ours = {}
    for map_name, cells in games.groupby("map", sort=False):
        scripts = list(dict.fromkeys(cells.script))
        with app.bad_input():
            battles = calibration.Games(scenario(map_name, FLAGS.profile), scripts, FLAGS.battles)
        outcome = battles.play([FLAGS.seed, 0])
        for name, rewards, won in zip(scripts, *outcome, strict=True):
            ours[name, map_name] = rewards, won
            print(f"{map_name:>16} {name:<8} won {won.mean():.2f}   final reward {rewards.mean():.3f}", flush=True)
    table = calibration.compare(games, ours)
    table.to_csv(folder / "cells.csv", index=False, float_format="%.4g")
    figures.write(figures.beside_the_game(table), folder, "cells")
    (folder / "README.md").write_text(page(table), "utf-8")
    summary = summarise(table)
    print(f"{summary['not_refuted']:.0%} of {len(table)} win rates not refuted; written to {folder}")
    if FLAGS.json:
        app.print_json(summary | {"out": str(folder)})
    return 0


def summarise(table: "pd.DataFrame") -> dict[str, float]:
    """How close they are, in four numbers."""
    differences = table.difference.abs()
    return {
        "not_refuted": float((table.p_won >= LEVEL).mean()),
        "rewards_not_refuted": float((table.p_reward >= LEVEL).mean()),
        "mean_difference": float(differences.mean()),
        "max_difference": float(differences.max()),
    }


def page(table: "pd.DataFrame") -> str:
    """What the table says, for people to read."""
    from tf_marl import tracking

    summary = summarise(table)
    lines = [
        "# The embedded battle beside StarCraft II",
        "",
        f"`python -m launch.calibrate --profile={FLAGS.profile} --battles={FLAGS.battles} --seed={FLAGS.seed}`, code of"
        f" {tracking.git_commit()}. Whose games they are, and by which rules: `tf_marl/calibration.py`.",
        "",
        f"- Win rates that the games do not refute at {LEVEL:.0%} (exact binomial test): {summary['not_refuted']:.0%}.",
        f"- Distributions of the final reward likewise (Kolmogorov-Smirnov): {summary['rewards_not_refuted']:.0%}.",
        f"- Mean difference of the final reward {summary['mean_difference']:.3f}, the largest"
        f" {summary['max_difference']:.3f}.",
        "",
        "![a point for each script on each map](cells.png)",
        "",
        "Win rates with 95% intervals (Wilson), final rewards with standard deviations; what is refuted in bold:",
        "",
        "| map | script | won, game | won, ours | p | final reward, game | final reward, ours | difference | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.itertuples():
        p_won, p_reward = (f"**{p:.2g}**" if p < LEVEL else f"{p:.2g}" for p in (row.p_won, row.p_reward))
        won = f"{row.won:.2f} ({row.won_low:.2f} to {row.won_high:.2f})"
        lines.append(
            f"| {row.map} | {row.script} | {won} | {row.our_won:.2f} | {p_won} |"
            f" {row.reward:.3f} ± {row.reward_std:.3f} | {row.our_reward:.3f} ± {row.our_reward_std:.3f} |"
            f" {row.difference:+.3f} | {p_reward} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    app.run(main)
