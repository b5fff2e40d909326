"""Trains a team: python -m launch.train --gin_file=ippo.gin --gin_file=maps/3m.gin"""

import contextlib
import pathlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from absl import flags

from launch import app

if TYPE_CHECKING:
    from tf_marl.experiments.recorded import RecordedRun
    from tf_marl.tracking import Tracker
    from tf_marl.training.train import Result, Trainer

FLAGS = flags.FLAGS

app.define_gin_flags()
app.define_tracking_flags()
app.define_json_flag()
app.define_plugin_flag()
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
    from tf_marl.experiments import runs

    paths = app.gin_paths(FLAGS.gin_file)
    root_dir = app.writable_folder(FLAGS.root_dir) if FLAGS.root_dir else None
    if FLAGS.tracking_uri and not (root_dir and tracking.has_begun(root_dir / runs.TRACKING_NAME)):
        with app.bad_input("--tracking_uri: "):
            tracking.check_reachable(FLAGS.tracking_uri)
    print("loading TensorFlow ...", file=sys.stderr, flush=True)
    app.import_quietly()
    app.parse_gin(paths, FLAGS.gin_bindings)
    algorithm, map_name = _algorithm_and_map()
    name = FLAGS.run_name or f"{algorithm}_{map_name}_seed{FLAGS.seed}"
    root_dir = root_dir or app.new_root_dir(name)
    trainer, config, resumes = _trainer(root_dir)
    tracker = _tracker(trainer, root_dir, name, config, algorithm, map_name)
    registered_name = f"tf_marl.{algorithm}.{map_name}"
    if _has_finished(trainer, tracker):
        return _say_so(trainer, tracker, root_dir, registered_name)

    from tf_marl.experiments.recorded import RecordedRun

    run = RecordedRun(trainer, tracker, root_dir, name, config, FLAGS.seed)
    began = time.perf_counter()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # an exception, as Ctrl-C is
    with contextlib.closing(trainer.world), _ending_well(tracker):
        run.begin()
        if resumes:
            anew = "" if trainer.world.compiles else "; its games cannot be saved, so episodes begin anew"
            print(f"resuming {root_dir} at {int(trainer.env_steps):,} env steps{anew}", file=sys.stderr)
        result, code, replay = _train(run, trainer, registered_name)
        # Who stops a process may kill it soon after.
        status, patience = ("KILLED", 5.0) if result.interrupted else ("FINISHED", 30.0)
        _tell(tracker.finish(status, patience=patience))
    seconds = time.perf_counter() - began
    registers = FLAGS.register and not result.interrupted
    verdict = _challenge(registered_name, tracker.run_id) if registers else ""
    look = _page(tracker)
    print(
        f"\n{algorithm} on {map_name}, seed {FLAGS.seed}: {_outcome(result, trainer)} in {seconds:.0f} s\n"
        f"  run       {name} ({tracker.run_id}) in experiment {tracker.experiment}\n"
        + (f"  look      {look}\n" if look else "")
        + (f"  watch     {replay} among its artifacts\n" if replay else "")
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
    return code


def _algorithm_and_map() -> tuple[str, str]:
    import gin

    from tf_marl.experiments import runs

    agent = runs.setting("train.agent")
    if not isinstance(agent, gin.config.ConfigurableReference) or agent.evaluate:  # with parentheses
        raise app.BadInput(f"train.agent: should be an algorithm such as @ippo, not {agent!r}")
    return agent.configurable.name, runs.setting("environment.map_name")


def _trainer(root_dir: pathlib.Path) -> "tuple[Trainer, str, bool]":
    """The trainer of a run, which has the folder to itself; the run's settings; and whether it goes on."""
    from tf_marl import environments
    from tf_marl.experiments import runs
    from tf_marl.training.train import Trainer

    with app.bad_input():
        began_with = runs.flat(runs.config_of(root_dir)) if (root_dir / runs.CONFIG_NAME).is_file() else {}
        runs.keep_shards(began_with)
        world = environments.make(seed=FLAGS.seed)
        trainer = Trainer(world=world, root_dir=str(root_dir), seed=FLAGS.seed, max_gigabytes=FLAGS.max_gigabytes)
        world.tags()  # whether it is there
    app.writable_folder(root_dir)
    app.lock(root_dir)
    config = runs.all_settings(trainer, FLAGS.seed)
    if not FLAGS.allow_config_change:
        with app.bad_input():
            runs.check_unchanged(root_dir, began_with, runs.flat(config))
    unknown = ""
    if runs.SHARDS not in began_with:
        unknown = f"if it began on another number of cores, set {runs.SHARDS} to that; "
    does_not_suit = (
        "its checkpoint does not suit these settings or this version's battle, for which an empty folder begins"
    )
    with app.bad_input(f"--root_dir={root_dir}: {does_not_suit} anew; {unknown}"):
        return trainer, config, trainer.restore()


def _tracker(
    trainer: "Trainer", root_dir: pathlib.Path, name: str, config: str, algorithm: str, map_name: str
) -> "Tracker":
    from tf_marl import tracking
    from tf_marl.experiments import runs

    params = runs.flat(config)
    with app.bad_input("--tracking_uri: "), app.bad_input(f"--root_dir={root_dir}: ", (OSError, ValueError)):
        return tracking.Tracker(
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
            | trainer.world.tags(),
            folder=root_dir / runs.TRACKING_NAME,
            parent_run_id=FLAGS.parent_run_id,
        )


def _has_finished(trainer: "Trainer", tracker: "Tracker") -> bool:
    lacks_model = FLAGS.register and not tracker.has_model
    return tracker.finished and int(trainer.env_steps) >= trainer.num_env_steps and not lacks_model


def _say_so(trainer: "Trainer", tracker: "Tracker", root_dir: pathlib.Path, registered_name: str) -> int:
    _tell(tracker.flush())
    if FLAGS.register:
        _challenge(registered_name, tracker.run_id)
    env_steps = int(trainer.env_steps)
    print(f"{_shown(root_dir)} has finished its {env_steps:,} env steps before; a larger train.num_env_steps goes on")
    if FLAGS.json:
        app.print_json({"run_id": tracker.run_id, "root_dir": str(root_dir), "env_steps": env_steps})
    return 0


def _train(run: "RecordedRun", trainer: "Trainer", registered_name: str) -> "tuple[Result, int, str | None]":
    """Trains, and keeps what comes of it. Returns: the result, the exit code, and the name of the replay or None."""
    from launch.progress import ProgressBar

    with ProgressBar(trainer.num_env_steps, int(trainer.env_steps)) as progress, app.first_signal() as stop:
        result = run.train(progress, stop)
    replay = None
    if not result.interrupted:  # who presses Ctrl-C wants to leave
        print("keeping the best policy ...", file=sys.stderr, flush=True)
        if FLAGS.register:
            run.keep_model(registered_name)
        if FLAGS.replay:
            replay = run.keep_replay()
    run.keep_summary()
    return result, stop.code if result.interrupted else 0, replay


@contextlib.contextmanager
def _ending_well(tracker: "Tracker") -> Iterator[None]:
    """Has the run end in the store as it ended here, and turns what can be mended into a line for the user."""
    from tf_marl.environments.world import WorldFailedError

    try:
        yield
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt | SystemExit)
        status, patience = ("KILLED", 2.0) if killed else ("FAILED", 30.0)
        _tell(tracker.finish(status, f"{type(error).__name__}: {error}", patience))
        if isinstance(error, OSError):
            raise app.Failure(f"{error}; what was saved is untouched: mend it, and the same command goes on") from error
        if isinstance(error, FloatingPointError):
            raise app.Failure(str(error)) from error
        if isinstance(error, WorldFailedError):
            raise app.Failure(f"{error}; all is saved, the same command goes on") from error
        raise


def _outcome(result: "Result", trainer: "Trainer") -> str:
    """What a run came to, in a phrase."""
    if result.interrupted:
        return f"stopped after {result.env_steps:,} env steps, all saved: the same command goes on"
    after = f"after {result.env_steps:,} env steps"
    won = result.evaluation.get("eval/battle_won_mean")
    if won is not None:
        return f"wins {won:.0%} of its greedy episodes {after}"
    shares = [f"{name} in {result.evaluation[f'eval/{name}_mean']:.0%}, " for name in trainer.world.outcomes]
    return f"{''.join(shares)}return {result.evaluation['eval/return_mean']:.2f} in its greedy episodes {after}"


def _challenge(name: str, run_id: str | None) -> str:
    """Lets the newest version that a run registered challenge the champion, once. Returns what came of it."""
    from tf_marl import tracking
    from tf_marl.experiments import champion
    from tf_marl.experiments.recorded import reason

    if not tracking.is_mlflow(app.tracking_uri()):
        return "kept beside the run; only MLflow has champions"
    try:
        if run_id is None:
            raise ValueError("the store has nothing of this run yet")
        store = app.tracking_uri()
        version = max(tracking.versions(store, name, run_id))
        return champion.challenged(store, name, version) or champion.challenge(store, name, version).verdict
    except Exception as error:  # training is over, and well: what fails here can be done later
        return (
            f"no challenge to the champion ({reason(error)}); python -m launch.champion --model={name} makes up for it"
        )


def _tell(what_is_left: str | None) -> None:
    if what_is_left:
        print(f"tracking: {what_is_left}", file=sys.stderr, flush=True)


def _page(tracker: "Tracker") -> str | None:
    """What to open to look at the run, after what to start for that; of the local store, the Makefile's way."""
    page = tracker.page()
    if page and FLAGS.tracking_uri is None:
        return f"make ui, then {page.partition(', then ')[2]}"
    return page


def _shown(path: pathlib.Path) -> str:
    """The path as one would type it in the current directory."""
    return str(path.relative_to(pathlib.Path.cwd())) if path.is_relative_to(pathlib.Path.cwd()) else str(path)


if __name__ == "__main__":
    app.run(main)
