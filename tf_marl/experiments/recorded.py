"""A training run and all that is kept of it: settings, metrics, plots, the best policy as a model and to be watched."""

import contextlib
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tf_marl import export
from tf_marl.environments.world import WorldFailedError
from tf_marl.experiments import champion, runs

if TYPE_CHECKING:
    from tf_marl.tracking import Tracker
    from tf_marl.training.train import Result, Trainer

REPLAY_EPISODES = 4
_REPLAY_SEED = 5  # beside the run's: not a seed of the evaluations


class RecordedRun:
    """A trainer whose run is tracked.

    Args:
        trainer: that may have been restored.
        tracker: of the run.
        root_dir: of the run.
        name: for people to read.
        config: the run's settings, as `runs.all_settings` gives them.
        seed: of the run.
    """

    def __init__(
        self, trainer: "Trainer", tracker: "Tracker", root_dir: pathlib.Path, name: str, config: str, seed: int
    ):
        self._trainer, self._tracker, self._root_dir = trainer, tracker, root_dir
        self._name, self._config, self._seed = name, config, seed

    def begin(self) -> None:
        """Writes down what the run is, so that it can be gone on with."""
        unfinished = self._root_dir / f".{runs.CONFIG_NAME}"
        unfinished.write_text(self._config, "utf-8")
        unfinished.replace(self._root_dir / runs.CONFIG_NAME)  # a half of it would pass for other settings
        self._tracker.text(self._config, runs.CONFIG_NAME)

    def train(self, show: Callable[[int, dict[str, float]], None], stop: Callable[[], bool]) -> "Result":
        """Trains to the end, or until it is stopped.

        Args: show, is handed metrics as they come; stop, as for `Trainer.run`.
        Raises: as `Trainer.run`.
        """

        def record(env_steps: int, metrics: dict[str, float]) -> None:
            self._tracker.record(env_steps, metrics)
            show(env_steps, metrics)

        def keep(env_steps: int, seen: dict[str, Any]) -> None:
            with decorating():
                shown = self._trainer.agent.close_up(seen, f"{self._name}, the update at {env_steps:,} env steps")
                for name, artifact in shown.items():
                    path = pathlib.PurePath(name)
                    self._artifact(artifact, f"{path.stem}/{env_steps:09}{path.suffix}")

        try:
            result = self._trainer.run(record, stop, keep)
        except WorldFailedError:
            self._trainer.save()
            raise
        return result._replace(interrupted=stop())  # maybe in the last evaluation, with all trained

    def keep_model(self, name: str) -> None:
        """Keeps the best policy as a model, to be registered by that name, if anything was evaluated."""
        from tf_marl import tracking

        env_steps = self._trainer.restore_policy(best=True)
        if env_steps is None:
            return
        facts = runs.training_facts(self._config)
        worth = {f"model/{metric}": value for metric, value in self._trainer.evaluate_afresh(champion.EPISODES).items()}
        description = f"{facts['algorithm']} on {facts['map']}: the policy that evaluated best, of every training run"
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder)
            page = export.save_model(self._trainer.agent, model / tracking.SAVED_MODEL, env_steps, facts)
            (model / runs.CONFIG_NAME).write_text(self._config, "utf-8")
            self._tracker.model(model, name, description, env_steps, page["signatures"]["serving_default"], worth)

    def keep_replay(self) -> str | None:
        """Keeps some episodes of the best policy to watch, if the world can show any. Returns: the artifact's name."""
        world = self._trainer.world
        if not world.replay_suffixes:
            return None
        env_steps = self._trainer.restore_policy(best=True)
        if env_steps is None:
            return None
        path = self._root_dir / f"replay{world.replay_suffixes[0]}"
        with decorating(), contextlib.suppress(WorldFailedError):  # a game that is down has no replay
            world.resize(REPLAY_EPISODES if world.compiles else 1).write_replay(
                path,
                self._trainer.agent.watched_policy,
                [self._seed, _REPLAY_SEED],
                REPLAY_EPISODES,
                f"the best policy, after {env_steps:,} env steps",
            )
            self._tracker.file(path)
            return path.name
        return None

    def keep_summary(self) -> None:
        """Keeps what the learner has to show of the whole run."""
        with decorating():
            for name, artifact in self._trainer.agent.summary(self._tracker.history(), self._name).items():
                self._artifact(artifact, name)

    def _artifact(self, artifact: Any, name: str) -> None:
        (self._tracker.text if isinstance(artifact, str) else self._tracker.figure)(artifact, name)


@contextlib.contextmanager
def decorating() -> Iterator[None]:
    """Warns of what fails inside, which is for people to look at: no reason to end a run."""
    try:
        yield
    except Exception as error:
        print(f"warning: not among the run's artifacts: {reason(error)}", file=sys.stderr, flush=True)


def reason(error: Exception) -> str:
    """Why something failed, in a line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
