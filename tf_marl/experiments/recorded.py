"""A training run and all that is kept of it: settings, metrics, plots, the best policy as a model and to be watched.

    with open_run(root_dir, seed=0, ...) as run:
        result = run.train(show, stop)
        run.keep(register=True, replay=True)

`open_run` builds the trainer from gin's settings, or goes on with the run that the folder holds.
"""

import contextlib
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tf_marl import environments, export, places, settings, tracking
from tf_marl.config import prefixed
from tf_marl.environments.world import WorldFailedError
from tf_marl.experiments import champion, runs
from tf_marl.experiments.progress import ProgressBar, tell
from tf_marl.training import Trainer

if TYPE_CHECKING:
    from tf_marl.training import Result

BEST_EPISODES = 320  # fresh ones, of the best policy: the absolute metric of Gorsane et al. 2022 (arXiv:2209.10485)
REPLAY_EPISODES = 4
_REPLAY_SEED = 5  # beside the run's: not a seed of the evaluations


class RunFailedError(Exception):
    """Says why a run cannot go on, and what to do, in one line; all that it saved is untouched."""


def open_run(
    root_dir: pathlib.Path | None,
    *,
    seed: int,
    tracking_uri: str,
    experiment: str,
    name: str | None = None,
    parent_run_id: str | None = None,
    allow_config_change: bool = False,
    max_gigabytes: float | None = None,
) -> "RecordedRun":
    """Builds the run that gin's settings describe, or goes on with the one in a folder.

    This process has the folder to itself from then on.

    Args:
        root_dir: folder of the run; None makes a new one in `places.STORE_FOLDER`.
        seed: root of the run's randomness.
        tracking_uri: address of the sink that the run is recorded in.
        experiment: name of the sink's experiment.
        name: of the run; None makes it of algorithm, map and seed.
        parent_run_id: the sink's run that this one is shown under.
        allow_config_change: whether a run may go on with other settings than it began with.
        max_gigabytes: of memory that training may take; None is what the machine has.
    Raises:
        ValueError: a setting, the folder, its checkpoint or the sink cannot be used; names it.
    """
    algorithm, map_name = runs.algorithm_and_map()
    name = name or f"{algorithm}_{map_name}_seed{seed}"
    root_dir = root_dir or places.new_run_folder(name)
    began_with = settings.flat(runs.config_of(root_dir)) if (root_dir / runs.CONFIG_NAME).is_file() else {}
    runs.keep_shards(began_with)
    world = environments.make(seed=seed)
    trainer = Trainer(world, root_dir=root_dir, seed=seed, max_gigabytes=max_gigabytes)
    tags = world.tags()  # fails where a game is not there
    with prefixed(f"--root_dir={root_dir}: ", OSError):
        root_dir.mkdir(parents=True, exist_ok=True)
        runs.lock(root_dir)
    config = runs.all_settings(trainer, seed)
    params = settings.flat(config)
    if not allow_config_change:
        runs.check_unchanged(root_dir, began_with, params)
    unknown = ""
    if runs.SHARDS not in began_with:
        unknown = f"if it began on another number of cores, set {runs.SHARDS} to that; "
    with prefixed(
        f"--root_dir={root_dir}: its checkpoint does not suit these settings or this version's battle, for which an"
        f" empty folder begins anew; {unknown}"
    ):
        resumes = trainer.restore()
    backend, _ = environments.resolve(settings.value("environment.map_name"), params["environment.backend"].strip("'"))
    tags |= {"algorithm": algorithm, "map": map_name, "backend": backend}
    tags |= {"seed": str(seed), "num_agents": str(trainer.agent.action_spec.shape[0])}
    with prefixed("--tracking_uri: "), prefixed(f"--root_dir={root_dir}: ", (OSError, ValueError)):
        folder = root_dir / runs.TRACKING_NAME
        tracker = tracking.Tracker(tracking_uri, experiment, name, params, tags, folder, parent_run_id)
    return RecordedRun(trainer, tracker, root_dir, name, config, seed, tracking_uri, resumes)


class RecordedRun:
    """Holds a training run: trains, and keeps everything that comes of it.

    It is a context: inside, the run is under way; at the end it ends in the sink as it ended here, and its games end.
    """

    def __init__(
        self,
        trainer: Trainer,
        tracker: tracking.Tracker,
        root_dir: pathlib.Path,
        name: str,
        config: str,
        seed: int,
        tracking_uri: str,
        resumes: bool,
    ):
        """Joins what `open_run` makes.

        Args:
            trainer: which may have been restored.
            tracker: of the run.
            root_dir: folder of the run.
            name: for people to read.
            config: the run's settings, as `runs.all_settings` gives them.
            seed: root of the run's randomness.
            tracking_uri: address of the tracker's sink.
            resumes: whether the trainer goes on from a checkpoint.
        """
        self.trainer, self.tracker, self.root_dir, self.name = trainer, tracker, root_dir, name
        self._config, self._seed, self._tracking_uri, self._resumes = config, seed, tracking_uri, resumes
        self._status = "FINISHED"
        facts = runs.training_facts(config)
        self.algorithm, self.map_name = facts["algorithm"], facts["map"]

    @property
    def registered_name(self) -> str:
        """Returns the name that its policies are registered by."""
        return f"tf_marl.{self.algorithm}.{re.sub('[/:]', '.', self.map_name)}"  # MLflow's names hold neither

    def has_finished(self, register: bool) -> bool:
        """Tells whether an earlier process came to the end of this run.

        Args:
            register: whether a run that registered no model lacks one.
        """
        all_trained = int(self.trainer.env_steps) >= self.trainer.num_env_steps
        return self.tracker.finished and all_trained and (self.tracker.has_model or not register)

    def flush(self) -> None:
        """Sends what is left to the sink, of a run that finished before."""
        _say(self.tracker.flush())

    def __enter__(self) -> "RecordedRun":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        """Ends the run in the sink, as it ended here.

        Raises:
            RunFailedError: what ended it can be mended from outside; says how.
        """
        with contextlib.closing(self.trainer.world):
            if error is None:
                # Who stops a process may kill it soon after.
                _say(self.tracker.finish(self._status, patience=30.0 if self._status == "FINISHED" else 5.0))
                return
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            status, patience = ("KILLED", 2.0) if stopped else ("FAILED", 30.0)
            _say(self.tracker.finish(status, f"{type(error).__name__}: {error}", patience))
        if isinstance(error, OSError):
            raise RunFailedError(
                f"{error}; what was saved is untouched: mend it, and the same command goes on"
            ) from error
        if isinstance(error, FloatingPointError):
            raise RunFailedError(str(error)) from error
        if isinstance(error, WorldFailedError):
            raise RunFailedError(f"{error}; all is saved, the same command goes on") from error

    def progress_bar(self) -> ProgressBar:
        """Returns a bar that shows how far the run has come, for `train`."""
        return ProgressBar(self.trainer.num_env_steps, int(self.trainer.env_steps))

    def train(self, show: Callable[[int, dict[str, float]], None], stop: Callable[[], bool]) -> "Result":
        """Trains to the end, or until it is stopped.

        Args:
            show: is handed (env steps, metrics) as they come, after they were recorded.
            stop: tells whether to save and end after the update under way.
        Raises:
            FloatingPointError: an update came to numbers that are not finite.
            OSError: a checkpoint or the journal cannot be written.
            WorldFailedError: a live world cannot go on.
        """

        def record(env_steps: int, metrics: dict[str, float]) -> None:
            self.tracker.record(env_steps, metrics)
            show(env_steps, metrics)

        def keep(env_steps: int, seen: dict[str, Any]) -> None:
            with _decorating():
                shown = self.trainer.agent.close_up(seen, f"{self.name}, the update at {env_steps:,} env steps")
                for name, artifact in shown.items():
                    path = pathlib.PurePath(name)
                    self._artifact(artifact, f"{path.stem}/{env_steps:09}{path.suffix}")

        self._begin()
        try:
            result = self.trainer.run(record, stop, keep)
        except WorldFailedError:
            self.trainer.save()
            raise
        if stop():  # maybe in the last evaluation, with all trained
            self._status = "KILLED"
        return result._replace(interrupted=stop())

    def _begin(self) -> None:
        """Writes down what the run is, so that it can be gone on with."""
        unfinished = self.root_dir / f".{runs.CONFIG_NAME}"
        unfinished.write_text(self._config, "utf-8")
        unfinished.replace(self.root_dir / runs.CONFIG_NAME)  # a half of it would pass for other settings
        self.tracker.text(self._config, runs.CONFIG_NAME)
        if self._resumes:
            anew = "" if self.trainer.world.compiles else "; its games cannot be saved, so episodes begin anew"
            tell(f"resuming {self.root_dir} at {int(self.trainer.env_steps):,} env steps{anew}")

    def keep(self, register: bool, replay: bool) -> str | None:
        """Keeps the best policy and what the learner has to show of the whole run, among the run's artifacts.

        Of a run that was stopped, only what the learner has to show is kept: whoever stops it wants to leave.

        Args:
            register: whether the policy is registered as a model.
            replay: whether some of its episodes are kept to be watched.
        Returns:
            The name of the replay; None if there is none.
        """
        watch = None
        if self._status == "FINISHED":
            tell("keeping the best policy ...")
            if register or self.trainer.world.compiles:  # StarCraft II would take long
                self._evaluate_best(register)
            if replay:
                watch = self._keep_replay()
        with _decorating():
            for name, artifact in self.trainer.agent.summary(self.tracker.history(), self.name).items():
                self._artifact(artifact, name)
        return watch

    def _evaluate_best(self, register: bool) -> None:
        """Records how the policy that evaluated best does in new episodes, as `best/...`, and maybe registers it."""
        env_steps = self.trainer.restore_policy(best=True)
        if env_steps is None:  # nothing was evaluated
            return
        worth = self.trainer.evaluate_afresh(BEST_EPISODES)
        self.tracker.record(int(self.trainer.env_steps), {f"best/{name}": value for name, value in worth.items()})
        if not register:
            return
        facts = runs.training_facts(self._config)
        description = f"{facts['algorithm']} on {facts['map']}: the policy that evaluated best, of every training run"
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder)
            page = export.save_model(self.trainer.agent, model / tracking.SAVED_MODEL, env_steps, facts)
            (model / runs.CONFIG_NAME).write_text(self._config, "utf-8")
            signature = page["signatures"]["serving_default"]
            metrics = {f"model/{name}": value for name, value in worth.items()}
            self.tracker.model(model, self.registered_name, description, env_steps, signature, metrics)

    def _keep_replay(self) -> str | None:
        """Keeps some episodes of the best policy, if the world can show any. Returns the artifact's name."""
        world = self.trainer.world
        if not world.replay_suffixes:
            return None
        env_steps = self.trainer.restore_policy(best=True)
        if env_steps is None:
            return None
        path = self.root_dir / f"replay{world.replay_suffixes[0]}"
        with _decorating(), contextlib.suppress(WorldFailedError):  # a game that is down has no replay
            world.resize(REPLAY_EPISODES if world.compiles else 1).write_replay(
                path,
                self.trainer.agent.watched_policy,
                [self._seed, _REPLAY_SEED],
                REPLAY_EPISODES,
                f"the best policy, after {env_steps:,} env steps",
            )
            self.tracker.file(path)
            return path.name
        return None

    def _artifact(self, artifact: Any, name: str) -> None:
        (self.tracker.text if isinstance(artifact, str) else self.tracker.figure)(artifact, name)

    def challenge(self) -> str:
        """Lets the version that the run registered challenge the champion, once. Returns what came of it, a phrase."""
        if not tracking.is_mlflow(self._tracking_uri):
            return "kept beside the run; only MLflow has champions"
        name, run_id = self.registered_name, self.tracker.run_id
        try:
            if run_id is None:
                raise ValueError("the store has nothing of this run yet")
            version = max(tracking.versions(self._tracking_uri, name, run_id))
            earlier = champion.challenged(self._tracking_uri, name, version)
            return earlier or champion.challenge(self._tracking_uri, name, version).verdict
        except Exception as error:  # training is over, and well: what fails here can be done later
            return f"no challenge to the champion ({_why(error)}); tf-marl champion --model={name} makes up for it"

    def outcome(self, result: "Result", seconds: float) -> str:
        """Returns what the run came to and how long this start of it took, in a phrase."""
        after = f"after {result.env_steps:,} env steps in {seconds:.0f} s"
        if result.interrupted:
            return f"stopped {after}; all is saved, and the same command goes on"
        won = result.evaluation.get("eval/battle_won_mean")
        if won is not None:
            return f"wins {won:.0%} of its greedy episodes {after}"
        outcomes = self.trainer.world.outcomes
        shares = [f"{name} in {result.evaluation[f'eval/{name}_mean']:.0%}, " for name in outcomes]
        return f"{''.join(shares)}return {result.evaluation['eval/return_mean']:.2f} in its greedy episodes {after}"


def _say(what_is_left: str | None) -> None:
    if what_is_left:
        tell(f"tracking: {what_is_left}")


@contextlib.contextmanager
def _decorating() -> Iterator[None]:
    """Warns of what fails inside, which is for people to look at: no reason to end a run."""
    try:
        yield
    except Exception as error:
        tell(f"warning: not among the run's artifacts: {_why(error)}")


def _why(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
