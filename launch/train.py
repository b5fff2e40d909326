"""Trains a team: python -m launch.train --gin_file=ippo.gin --gin_file=maps/3m.gin"""

import contextlib
import pathlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from launch import app, champion

if TYPE_CHECKING:
    from tf_marl.environments.combat.environment import Combat
    from tf_marl.environments.sc2.core import StarCraft2
    from tf_marl.tracking import Tracker
    from tf_marl.training.train import History, Result, Trainer

FLAGS = flags.FLAGS
TRACKING_NAME = "tracking"  # in root_dir: what is on its way to MLflow
REPLAY_NAME = "replay.html"  # among the run's artifacts; StarCraft II writes another
GAME_REPLAY_NAME = "replay.SC2Replay"
REPLAY_EPISODES = 4
SHARDS = "train.num_shards"

app.define_gin_flags()
app.define_tracking_flags()
app.define_json_flag()
app.define_memory_flag()
app.define_sc2_flag()
app.define_seed_flag()
flags.DEFINE_bool("register", True, "Register the best policy in MLflow; it challenges the champion, launch.champion.")
flags.DEFINE_bool("allow_config_change", False, "Go on from --root_dir's checkpoint though settings have changed.")
flags.DEFINE_string("parent_run_id", None, "MLflow run that a new one is shown under.")
flags.DEFINE_bool("replay", True, "Keep some battles of the best policy among the run's artifacts, as a page.")
flags.DEFINE_string(
    "root_dir", None, "Folder of the run's checkpoints and configuration; a new one under mlflow_artifacts/ by default."
)


def main() -> int:
    from tf_marl import tracking

    paths = app.gin_paths(FLAGS.gin_file)
    root_dir = app.writable_folder(FLAGS.root_dir) if FLAGS.root_dir else None
    if FLAGS.tracking_uri and not (root_dir and tracking.has_begun(root_dir / TRACKING_NAME)):
        with app.bad_input("--tracking_uri: "):
            tracking.check_reachable(FLAGS.tracking_uri)

    print("loading TensorFlow ...", file=sys.stderr, flush=True)
    app.import_quietly()
    import gin

    from launch.progress import ProgressBar
    from tf_marl import environments
    from tf_marl.environments.sc2.core import StarCraft2
    from tf_marl.environments.sc2.games import GameError
    from tf_marl.training.train import Trainer

    app.parse_gin(paths, FLAGS.gin_bindings)
    agent, map_name = app.setting("train.agent"), app.setting("environment.map_name")
    if not isinstance(agent, gin.config.ConfigurableReference) or agent.evaluate:  # with parentheses
        raise app.BadInput(f"train.agent: should be an algorithm such as @ippo, not {agent!r}")
    algorithm = agent.configurable.name
    name = FLAGS.run_name or f"{algorithm}_{map_name}_seed{FLAGS.seed}"
    root_dir = root_dir or app.new_root_dir(name)
    began_with = app.flat(app.run_config(root_dir)) if (root_dir / app.CONFIG_NAME).is_file() else {}
    keep_shards(began_with)
    with app.bad_input():
        environment = environments.load(seed=FLAGS.seed)
        trainer = Trainer(
            environment=environment, root_dir=str(root_dir), seed=FLAGS.seed, max_gigabytes=FLAGS.max_gigabytes
        )
    world = environment.world
    backend_tags = app.backend_tags(world)
    app.writable_folder(root_dir)
    app.lock(root_dir)
    config = all_settings(trainer, world, algorithm)
    params = app.flat(config)
    check_config(root_dir, began_with, params)
    unknown = "" if SHARDS in began_with else "if it began on another number of cores, set train.num_shards to that; "
    does_not_suit = (
        "its checkpoint does not suit these settings or this version's battle, for which an empty folder begins"
    )
    with app.bad_input(f"--root_dir={root_dir}: {does_not_suit} anew; {unknown}"):
        resumes = trainer.restore()
    facts = app.training_facts(config)
    registered_name = f"tf_marl.{algorithm}.{map_name}"
    with app.bad_input("--tracking_uri: "), app.bad_input(f"--root_dir={root_dir}: ", (OSError, ValueError)):
        tracker = tracking.Tracker(
            app.tracking_uri(),
            FLAGS.experiment,
            name,
            params=params,
            tags={
                "algorithm": algorithm,
                "map": map_name,
                "backend": params["environment.backend"].strip("'"),
                "seed": str(FLAGS.seed),
                "num_agents": str(trainer.agent.action_spec.shape[0]),
            }
            | backend_tags,
            folder=root_dir / TRACKING_NAME,
            parent_run_id=FLAGS.parent_run_id,
        )

    lacks_model = FLAGS.register and not tracker.has_model
    if tracker.finished and int(trainer.env_steps) >= trainer.num_env_steps and not lacks_model:
        _tell(tracker.flush())
        if FLAGS.register:
            challenge(registered_name, tracker.run_id)
        env_steps = int(trainer.env_steps)
        print(
            f"{_shown(root_dir)} has finished its {env_steps:,} env steps before; a larger train.num_env_steps goes on"
        )
        if FLAGS.json:
            app.print_json({"run_id": tracker.run_id, "root_dir": str(root_dir), "env_steps": env_steps})
        return 0

    began = time.perf_counter()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # an exception, as Ctrl-C is
    try:
        unfinished = root_dir / f".{app.CONFIG_NAME}"
        unfinished.write_text(config, "utf-8")
        unfinished.replace(root_dir / app.CONFIG_NAME)  # a half of it would pass for other settings
        tracker.text(config, app.CONFIG_NAME)
        if resumes:
            anew = "; StarCraft II cannot be saved, so its episodes begin anew" * isinstance(world, StarCraft2)
            print(f"resuming {root_dir} at {int(trainer.env_steps):,} env steps{anew}", file=sys.stderr)
        with ProgressBar(trainer.num_env_steps, int(trainer.env_steps)) as progress, app.first_signal() as stop:

            def record(env_steps: int, metrics: dict[str, float]) -> None:
                tracker.record(env_steps, metrics)
                progress(env_steps, metrics)

            def keep(env_steps: int, history: "History") -> None:
                with decorating():
                    log_epochs(history, f"{name}, the update at {env_steps:,} env steps", tracker, f"{env_steps:09}")

            try:
                result = trainer.run(record, stop, keep)
            except GameError:
                trainer.save()
                raise
        result = result._replace(interrupted=stop())  # maybe in the last evaluation, with all trained
        if not result.interrupted:  # who presses Ctrl-C wants to leave
            print("keeping the best policy ...", file=sys.stderr, flush=True)
            if FLAGS.register:
                log_model(trainer, tracker, registered_name, facts, config)
            if FLAGS.replay:
                with decorating():
                    log_replay(trainer, world, tracker, root_dir)
        with decorating():
            log_trust_region(name, tracker)
        # Who stops a process may kill it soon after.
        status, patience = ("KILLED", 5.0) if result.interrupted else ("FINISHED", 30.0)
        _tell(tracker.finish(status, patience=patience))
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt | SystemExit)
        status, patience = ("KILLED", 2.0) if killed else ("FAILED", 30.0)
        _tell(tracker.finish(status, f"{type(error).__name__}: {error}", patience))
        if isinstance(error, OSError):
            raise app.Failure(f"{error}; what was saved is untouched: mend it, and the same command goes on") from error
        if isinstance(error, FloatingPointError):
            raise app.Failure(str(error)) from error
        if isinstance(error, GameError):
            raise app.Failure(f"{error}; all is saved, the same command goes on") from error
        raise
    seconds = time.perf_counter() - began
    if isinstance(world, StarCraft2):
        world.close()  # a challenge needs games of its own
    registers = FLAGS.register and not result.interrupted
    verdict = challenge(registered_name, tracker.run_id) if registers else ""
    replay_name = GAME_REPLAY_NAME if isinstance(world, StarCraft2) else REPLAY_NAME
    print(
        f"\n{algorithm} on {map_name}, seed {FLAGS.seed}: {outcome(result)} in {seconds:.0f} s\n"
        f"  run       {name} ({tracker.run_id}) in experiment {tracker.experiment}\n"
        f"  look      {_server(FLAGS.tracking_uri)}/#/experiments/{tracker.experiment_id}/runs/{tracker.run_id}\n"
        + f"  watch     {replay_name} among its artifacts\n" * (FLAGS.replay and not result.interrupted)
        + f"  model     {registered_name}: {verdict}\n" * registers
        + f"  evaluate  python -m launch.evaluate --root_dir={_shown(root_dir)}",
        flush=True,
    )
    if FLAGS.json:
        app.print_json(
            {"run_id": tracker.run_id, "root_dir": str(root_dir), "env_steps": result.env_steps, "seconds": seconds}
            | {"interrupted": result.interrupted}
            | result.evaluation
        )
    return stop.code if result.interrupted else 0


def outcome(result: "Result") -> str:
    """What a run came to, in a phrase."""
    if result.interrupted:
        return f"stopped after {result.env_steps:,} env steps, all saved: the same command goes on"
    won = result.evaluation["eval/battle_won_mean"]
    return f"wins {won:.0%} of its greedy episodes after {result.env_steps:,} env steps"


def log_replay(trainer: "Trainer", world: "Combat | StarCraft2", tracker: "Tracker", root_dir: pathlib.Path) -> None:
    """Keeps some battles of the best policy among the run's artifacts, if anything was evaluated.

    Of StarCraft II it is what one of its games has played in evaluations.
    """
    from tf_marl.environments.combat import replay
    from tf_marl.environments.sc2.core import StarCraft2
    from tf_marl.environments.sc2.games import GameError

    env_steps = trainer.restore_policy(best=True)
    if env_steps is None:
        return
    if isinstance(world, StarCraft2):
        with contextlib.suppress(GameError):  # a game that is down has no replay
            world.resize(1).save_replay(root_dir / GAME_REPLAY_NAME)
            tracker.file(root_dir / GAME_REPLAY_NAME)
    else:
        seed = [FLAGS.seed, 5]  # not a seed of the evaluations
        episodes = replay.record(world.resize(REPLAY_EPISODES), trainer.agent.watched_policy, seed, REPLAY_EPISODES)
        tracker.text(replay.page(episodes, f"the best policy, after {env_steps:,} env steps"), REPLAY_NAME)


def log_model(trainer: "Trainer", tracker: "Tracker", name: str, facts: dict[str, Any], config: str) -> None:
    """Keeps the best policy as a model, to be registered by that name, if anything was evaluated."""
    from tf_marl import export, tracking

    env_steps = trainer.restore_policy(best=True)
    if env_steps is None:
        return
    worth = {f"model/{metric}": value for metric, value in trainer.evaluate_afresh(champion.EPISODES).items()}
    description = f"{facts['algorithm']} on {facts['map']}: the policy that evaluated best, of every training run"
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder)
        page = export.save_model(trainer.agent, model / tracking.SAVED_MODEL, env_steps, facts)
        (model / app.CONFIG_NAME).write_text(config, "utf-8")
        tracker.model(model, name, description, env_steps, page["signatures"]["serving_default"], worth)


def challenge(name: str, run_id: str | None) -> str:
    """Lets the newest version that a run registered challenge the champion, once. Returns what came of it."""
    from tf_marl import tracking

    try:
        if run_id is None:
            raise ValueError("the store has nothing of this run yet")
        store = app.tracking_uri()
        version = max(tracking.versions(store, name, run_id))
        return champion.challenged(store, name, version) or champion.challenge(store, name, version).verdict
    except Exception as error:  # training is over, and well: what fails here can be done later
        return (
            f"no challenge to the champion ({_reason(error)}); python -m launch.champion --model={name} makes up for it"
        )


@contextlib.contextmanager
def decorating() -> Iterator[None]:
    """Warns of what fails inside, which is for people to look at: no reason to end a run."""
    try:
        yield
    except Exception as error:
        print(f"warning: not among the run's artifacts: {_reason(error)}", file=sys.stderr, flush=True)


def log_trust_region(name: str, tracker: "Tracker") -> None:
    """Keeps a plot of the trust region over training among the run's artifacts."""
    import pandas as pd

    from tf_marl.paper import figures

    if updates := [metrics for metrics in tracker.history() if "trust_region/alpha" in metrics]:
        tracker.figure(figures.trust_region(pd.DataFrame(updates), name), "trust_region.png")


def log_epochs(history: "History", title: str, tracker: "Tracker", name: str) -> None:
    """Keeps what was measured of one update, epoch by epoch, as a table and a plot."""
    from tf_marl.paper import figures

    tracker.text(figures.epochs_table(history).to_csv(float_format="%.5g"), f"trust_region/{name}.csv")
    tracker.figure(figures.epochs(history, title), f"trust_region/{name}.png")


def keep_shards(began_with: dict[str, str]) -> None:
    """Has a run that goes on collect in as many shards as it began with, however many cores are here, if none are set.

    Args: began_with, its settings; empty if it begins now. An older run does not tell its shards.
    """
    import gin

    if SHARDS in began_with and not app.is_set(SHARDS):
        with gin.unlock_config():
            gin.parse_config(f"{SHARDS} = {began_with[SHARDS]}")


def all_settings(trainer: "Trainer", world: "Combat | StarCraft2", algorithm: str) -> str:
    """All settings that decide the run: gin's, what was left at its default, and what else its future depends on."""
    from tf_marl import config

    options = config.fields(algorithm, trainer.agent.config) | config.fields("environment", world.options)
    del options[f"{algorithm}.seed"]  # the flag's
    shards = f"{SHARDS} = {trainer.collector.num_shards}"  # as this machine has cores
    return f"# seed = {FLAGS.seed}\n" + app.effective_config(options).replace(f"{SHARDS} = None", shards)


def check_config(root_dir: pathlib.Path, began_with: dict[str, str], now: dict[str, str]) -> None:
    """Holds a run's settings against those that it began with, if it did.

    Raises:
        app.BadInput: they differ, and that is not allowed.
    """
    if not began_with:
        return
    before = began_with
    if SHARDS not in before:  # an older run, which tells nothing of what it left at its default; nor of this one
        before = {name: value for name, value in now.items() if name == SHARDS or not app.is_set(name)} | before
    names = [name for name in before | now if before.get(name) != now.get(name)]
    changed = [f"{name} = {now.get(name, 'unset')} (was {before.get(name, 'unset')})" for name in names]
    if changed and not FLAGS.allow_config_change:
        raise app.BadInput(
            f"--root_dir={root_dir}: its run began with other settings: {'; '.join(changed)};"
            f" set them as they were, go on all the same with --allow_config_change, or name another folder"
        )


def _reason(error: Exception) -> str:
    """Why something failed, in a line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _tell(what_is_left: str | None) -> None:
    if what_is_left:
        print(f"MLflow: {what_is_left}", file=sys.stderr, flush=True)


def _server(tracking_uri: str | None) -> str:
    """What to open, after what to start, to look at runs in that store."""
    from tf_marl import tracking

    if tracking_uri is None:
        return "make ui, then http://127.0.0.1:5000"
    if tracking_uri.startswith("http"):
        return tracking.shown(tracking_uri).rstrip("/")
    return f"mlflow ui --backend-store-uri {tracking.shown(tracking_uri)}, then http://127.0.0.1:5000"


def _shown(path: pathlib.Path) -> str:
    """The path as one would type it in the current directory."""
    return str(path.relative_to(pathlib.Path.cwd())) if path.is_relative_to(pathlib.Path.cwd()) else str(path)


if __name__ == "__main__":
    app.run(main)
