"""Plays episodes with a trained team or a scripted one.

tf-marl evaluate --root_dir=DIR
tf-marl evaluate --model_uri=models:/tf_marl.ippo.3m@champion
tf-marl evaluate --saved_model=exported/1015808
tf-marl evaluate --policy=focus_fire --map=3m --replay=battle.html
tf-marl evaluate --root_dir=DIR --enemies=all
"""

from typing import TYPE_CHECKING, Any

from absl import flags

from tf_marl.environments.combat.options import SCRIPTS

from . import app

if TYPE_CHECKING:
    from tf_marl.experiments.teams import Match, Team

FLAGS = flags.FLAGS

app.define_gin_flags()
app.define_json_flag()
app.define_plugin_flag()
app.define_memory_flag()
app.define_sc2_flag()
app.define_seed_flag()
app.define_store_flag()
flags.DEFINE_string("root_dir", None, "Folder of a training run: its newest policy plays, greedily.")
flags.DEFINE_bool("best", False, "With --root_dir, the policy that evaluated best instead.")
flags.DEFINE_string("model_uri", None, "Instead of that, a policy in MLflow's registry: models:/NAME@champion.")
flags.DEFINE_string("saved_model", None, "Or an exported policy: DIR/VERSION, as `tf-marl export` writes it.")
flags.DEFINE_enum("policy", None, SCRIPTS, "Or a scripted team.")
flags.DEFINE_string("map", None, "SMAC map for --policy; options by --gin_bindings='environment.NAME = VALUE'.")
flags.DEFINE_list("enemies", [], "Enemies to play against in turn, such as game,kite; all for all that there are.")
flags.DEFINE_integer("episodes", 32, "Episodes to play, with --enemies against each.", lower_bound=1)
flags.DEFINE_string(
    "replay", None, "File to watch the first 8 episodes in: .html, .gif or .mp4; with the backend sc2 .SC2Replay."
)


def main() -> int:
    """Plays the episodes and says how they went. Returns the exit code."""
    _check_flags()
    replay = app.writable_file(FLAGS.replay, "replay") if FLAGS.replay else None
    app.import_quietly()
    from tf_marl.experiments import teams

    with app.bad_input():
        team = _team()
        rivals = teams.against(team, FLAGS.enemies) if FLAGS.enemies else {"": team}
        matches = {
            enemy: teams.Match(rival, FLAGS.episodes, FLAGS.seed, FLAGS.max_gigabytes)
            for enemy, rival in rivals.items()
        }
        match = next(iter(matches.values()))
        if replay:
            match.check_replay(replay)
    if FLAGS.enemies:
        print(f"{team.name}, {FLAGS.episodes} episodes against each:")
        result: dict[str, Any] = {"enemies": _table(matches)}
    else:
        result, told = match.play()
        print(f"{team.name}, {FLAGS.episodes} episodes: {told}")
    if replay:
        with app.bad_input():
            print(f"{match.write_replay(replay)}: {replay}")
    app.print_json(result | {"episodes": FLAGS.episodes} | team.facts | match.tags)
    return 0


def _table(matches: dict[str, "Match"]) -> list[dict[str, Any]]:
    """Plays the matches and shows a row of a table for each as it ends; returns the results, `enemy` among them."""
    titles = next(iter(matches.values())).titles()
    widths = [max(map(len, ["enemy", *matches])), *(20 for _ in titles[:-2]), 6, 6]

    def show(*cells: str) -> None:
        print(f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |", flush=True)

    show("enemy", *titles)
    show(*("-" * width for width in widths))
    results = []
    for enemy, match in matches.items():
        result, _ = match.play()
        show(enemy, *match.cells(result))
        results.append({"enemy": enemy} | result)
    return results


def _check_flags() -> None:
    """Checks what can be without TensorFlow. Raises BadInput: flags are missing or do not go together; names them."""
    if sum(bool(FLAGS[name].value) for name in ("root_dir", "model_uri", "saved_model", "policy")) != 1:
        raise app.BadInput(
            "give one of --root_dir=DIR, the folder of a training run, --model_uri=models:/NAME@champion, a policy in"
            " MLflow's registry, --saved_model=DIR/VERSION, an exported one, and --policy=NAME with --map=NAME"
        )
    if FLAGS.replay and (len(FLAGS.enemies) > 1 or FLAGS.enemies == ["all"]):
        raise app.BadInput("--replay: shows one match; name one enemy, as in --enemies=kite, or drop a flag")
    if FLAGS.best and not FLAGS.root_dir:
        raise app.BadInput("--best: chooses among the policies of a training run; add --root_dir=DIR or drop it")
    if FLAGS.policy:
        if not FLAGS.map:
            raise app.BadInput(f"--policy={FLAGS.policy} needs a map; add for example --map=3m")
        app.check_gin_files(FLAGS.gin_file)
        return
    if FLAGS.root_dir:
        from tf_marl.experiments import runs

        with app.bad_input():
            runs.config_of(FLAGS.root_dir)
    for flag in ("map", "gin_file", "gin_bindings"):
        if FLAGS[flag].value:
            raise app.BadInput(f"--{flag}: a trained team plays as it was trained; drop the flag")
    if FLAGS.model_uri:
        app.check_store()


def _team() -> "Team":
    from tf_marl.experiments import teams

    if FLAGS.root_dir:
        return teams.trained(FLAGS.root_dir, FLAGS.best)
    if FLAGS.model_uri:
        return teams.registered(FLAGS.model_uri, app.tracking_uri())
    if FLAGS.saved_model:
        return teams.exported(FLAGS.saved_model)
    app.read_gin(FLAGS.gin_file, [*FLAGS.gin_bindings, f'environment.map_name = "{FLAGS.map}"'], needs_agent=False)
    return teams.scripted(FLAGS.policy, FLAGS.seed)


if __name__ == "__main__":
    app.run(main)
