"""Plays episodes with a trained team or a scripted one.

python -m launch.evaluate --root_dir=DIR
python -m launch.evaluate --model_uri=models:/tf_marl.ippo.3m@champion
python -m launch.evaluate --policy=focus_fire --map=3m --replay=battle.html
"""

import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from launch import app

if TYPE_CHECKING:
    from tf_agents.policies import tf_policy

    from tf_marl.environments.world import World

FLAGS = flags.FLAGS
REPLAY_EPISODES = 8  # at most; more make a file that nobody watches to the end

app.define_gin_flags()
app.define_json_flag()
app.define_plugin_flag()
app.define_memory_flag()
app.define_sc2_flag()
app.define_seed_flag()
app.define_store_flag()
flags.DEFINE_string("root_dir", None, "Folder of a training run: its newest policy plays, greedily.")
flags.DEFINE_string("model_uri", None, "Instead of that, a policy in MLflow's registry: models:/NAME@champion.")
flags.DEFINE_enum("policy", None, ["random", "nearest", "focus_fire"], "Or a scripted team.")
flags.DEFINE_string("map", None, "SMAC map for --policy; options by --gin_bindings='environment.NAME = VALUE'.")
flags.DEFINE_integer("episodes", 32, "Episodes to play.", lower_bound=1)
flags.DEFINE_string(
    "replay",
    None,
    f"File to watch the first {REPLAY_EPISODES} episodes in: a page (.html) or a film (.gif, .mp4); with the backend"
    " sc2 what one game has played (.SC2Replay).",
)


class Team(NamedTuple):
    """Who plays, and where."""

    name: str
    world: "World"
    policy: "tf_policy.TFPolicy"
    facts: dict[str, Any]  # for --json


def main() -> int:
    teams = {"root_dir": _trained_team, "model_uri": _registered_team, "policy": _scripted_team}
    named = [flag for flag in teams if FLAGS[flag].value]
    if len(named) != 1:
        raise app.BadInput(
            "give one of --root_dir=DIR, the folder of a training run, --model_uri=models:/NAME@champion, a policy in"
            " MLflow's registry, and --policy=NAME with --map=NAME"
        )
    team_of = teams[named[0]]()
    replay_file = _replay_file(FLAGS.replay) if FLAGS.replay else None
    app.import_quietly()
    import tensorflow as tf

    from tf_marl.training import memory
    from tf_marl.training.evaluate import Evaluator, win_interval

    team = team_of()
    world = team.world.resize(FLAGS.episodes)
    if replay_file and replay_file.suffix not in world.replay_suffixes:
        known = " or ".join(world.replay_suffixes) or "none"
        raise app.BadInput(f"--replay={FLAGS.replay}: replays of {world.name} are files that end in {known}; rename it")
    with app.bad_input():
        tags = world.tags()
        gigabytes = memory.of_episodes(team.policy, FLAGS.episodes)
        memory.check(gigabytes, FLAGS.max_gigabytes, f"--episodes={FLAGS.episodes}")
    seed = [FLAGS.seed, 4]  # not a seed of the training's own evaluations
    result = Evaluator(world, team.policy)(tf.constant(seed))
    told, intervals = [], {}
    for name in world.outcomes:
        share = result[f"{name}_mean"]
        intervals[f"{name}_low"], intervals[f"{name}_high"] = low, high = win_interval(share, FLAGS.episodes)
        label = "won" if name == "battle_won" else name
        told.append(f"{label} {share:.0%} (95% interval {low:.0%} to {high:.0%})")
    told += [f"return {result['return_mean']:.2f}", f"length {result['episode_length_mean']:.1f} env steps"]
    print(f"{team.name}, {FLAGS.episodes} episodes: {', '.join(told)}")
    if replay_file:
        kept = min(FLAGS.episodes, REPLAY_EPISODES)
        with app.bad_input("--replay: "):
            world.write_replay(replay_file, team.policy, seed, kept, team.name)
        what = f"the first {kept} of them to watch" if world.compiles else "to watch in the game"
        print(f"{what}: {replay_file}")
    if FLAGS.json:
        app.print_json(result | intervals | {"episodes": FLAGS.episodes} | team.facts | tags)
    return 0


def _trained_team() -> Callable[[], Team]:
    """Checks what can be without TensorFlow; the rest when called."""
    from tf_marl.experiments import runs

    with app.bad_input():
        runs.config_of(FLAGS.root_dir)
    _refuse_settings()

    def team() -> Team:
        with app.bad_input():
            world, agent, env_steps = runs.load_run(FLAGS.root_dir, best=False)
        name = f"{pathlib.Path(FLAGS.root_dir).resolve().name} after {env_steps:,} env steps"
        return Team(name, world, agent.watched_policy, {"env_steps": env_steps})

    return team


def _registered_team() -> Callable[[], Team]:
    """Likewise."""
    from tf_marl import tracking

    _refuse_settings()
    if FLAGS.tracking_uri:
        with app.bad_input("--tracking_uri: "):
            tracking.check_reachable(FLAGS.tracking_uri)

    def team() -> Team:
        from tf_marl.experiments import runs

        with app.bad_input():
            policy, world, facts = runs.load_model(FLAGS.model_uri, app.tracking_uri())
        name = f"{FLAGS.model_uri}, after {facts['env_steps']:,} env steps"
        return Team(name, world, policy, {key: facts[key] for key in ("algorithm", "map", "env_steps")})

    return team


def _refuse_settings() -> None:
    for flag in ("map", "gin_file", "gin_bindings"):
        if FLAGS[flag].value:
            raise app.BadInput(f"--{flag}: a trained team plays as it was trained; drop the flag")


def _scripted_team() -> Callable[[], Team]:
    """Likewise."""
    if not FLAGS.map:
        raise app.BadInput(f"--policy={FLAGS.policy} needs a map; add for example --map=3m")
    paths = app.gin_paths(FLAGS.gin_file)

    def team() -> Team:
        from tf_marl import environments

        app.parse_gin(paths, [*FLAGS.gin_bindings, f'environment.map_name = "{FLAGS.map}"'], needs_agent=False)
        with app.bad_input():
            world = environments.make(seed=FLAGS.seed)
        with app.bad_input(f"--policy={FLAGS.policy}: "):
            policy = world.scripted(FLAGS.policy)
        return Team(f"{FLAGS.policy} on {FLAGS.map}", world, policy, {"policy": FLAGS.policy, "map": FLAGS.map})

    return team


def _replay_file(name: str) -> pathlib.Path:
    """Where the replay goes; its folder is made if need be."""
    path = app.writable_folder(pathlib.Path(name).parent, "replay") / pathlib.Path(name).name
    if path.is_dir():
        raise app.BadInput(f"--replay={name}: is a folder; name a file")
    return path


if __name__ == "__main__":
    app.run(main)
