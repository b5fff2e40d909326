"""Many training runs from a gin file of axes: which there are, which are missing, and those side by side.

    Axes -> runs --train--> the training command, each in a process and folder of its own --> runs.csv, curves.csv

A run is an ordinary one of the training command: it resumes from its checkpoints, has its own MLflow run, under one for
all, and its settings are its command line. What is in `runs.csv` is not run again.
"""

import datetime
import itertools
import math
import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gin

from tf_marl import settings, tracking
from tf_marl.config import Count, checked
from tf_marl.experiments import scheduler
from tf_marl.experiments.progress import tell
from tf_marl.experiments.runs import TRACKING_NAME
from tf_marl.experiments.tables import Tables

_AXES = ("algorithm", "map", "rule")
_KEYS = {"algorithm": str, "map": str, "rule": str, "seed": int}  # what tells the runs of a table apart
_OUTCOME = ("eval/battle_won_mean", "eval/return_mean")
_BEST = ("best/battle_won_mean", "best/return_mean")  # of the best policy in new episodes
_SPEED = "train/env_steps_per_second"
_CURVES = re.compile(r"(eval|train)/(battle_won|return)_mean|trust_region/.*")
_GUESS = 200.0  # seconds, of a run of gin/paper/laptop.gin on a core


class Run(NamedTuple):
    """Describes one training run."""

    algorithm: str  # its gin file without the ending
    map: str
    rule: str  # of the clip range
    seed: int
    bindings: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Returns what tells the run from others in tables."""
        return self.algorithm, self.map, self.rule, self.seed

    @property
    def name(self) -> str:
        """Returns a name that a folder can have."""
        return re.sub(r"[^\w.]+", "_", f"{self.algorithm}_{self.map}_{self.rule}_seed{self.seed}")

    @property
    def settings(self) -> str:
        """Returns the run's gin bindings as one text, as tables have them."""
        return "; ".join(self.bindings)

    @property
    def gin_files(self) -> list[str]:
        """Returns the run's gin files; of equal settings, those of the last file count."""
        files = [f"{self.algorithm}.gin", f"maps/{self.map}.gin"]
        if self.algorithm.startswith("paper/"):
            files.reverse()  # the paper's settings hold on every map, whatever a map's file would have
        return files

    def arguments(self) -> list[str]:
        """Returns the training command's flags, but for those that say where the run goes."""
        flags = [f"--gin_file={file}" for file in self.gin_files] + [f"--seed={self.seed}"]
        return flags + [f"--gin_bindings={binding}" for binding in self.bindings]


@gin.configurable("sweep")
class Sweep:
    """Describes a sweep by its axes; `runs` lists its runs."""

    @checked("sweep")
    def __init__(
        self,
        grids: Sequence[Mapping[str, Sequence[Any]]] = gin.REQUIRED,
        rules: Mapping[str, Sequence[str]] | None = None,
        seeds: Count = 3,
        bindings: Sequence[str] = (),
        algorithm_bindings: Mapping[str, Sequence[str]] | None = None,
        map_bindings: Mapping[str, Sequence[str]] | None = None,
        only: Mapping[str, Sequence[Any]] | None = None,
    ):
        """
        Args:
            grids: each {"algorithm": [...], "map": [...], "rule": [...]}, of which all combinations are run, the first
                axis changing slowest. An algorithm is a gin file without its ending, a rule a clip range, "none", or
                one of `rules`.
            rules: gin bindings by name.
            seeds: runs of each combination.
            bindings: of all runs.
            algorithm_bindings, map_bindings: of an algorithm's runs and of those on a map; the rule's come last.
            only: values of an axis beside which all others are left out.
        Raises:
            ValueError: an axis or a rule that there is not, or a value of the wrong type; names it.
        """
        self._grids, self._rules, self._seeds = grids, rules or {}, seeds
        self._bindings, self._only = tuple(bindings), only or {}
        self._algorithm_bindings, self._map_bindings = algorithm_bindings or {}, map_bindings or {}
        for grid in grids:
            if set(grid) != set(_AXES):
                raise ValueError(f"sweep.grids: each has the axes {', '.join(_AXES)}, not {', '.join(grid)}")
            for rule in grid["rule"]:
                self._bindings_of(rule)

    def runs(self) -> list[Run]:
        """Returns all runs, one seed after the other, so that the first of them are of use without the rest."""
        names: dict[tuple[str, str, str], None] = {}
        for grid in self._grids:
            for values in itertools.product(*grid.values()):
                name = dict(zip(grid, map(str, values), strict=True))
                if all(name[axis] in map(str, kept) for axis, kept in self._only.items()):
                    names[name["algorithm"], name["map"], name["rule"]] = None
        return [self._run(*name, seed=seed) for seed in range(self._seeds) for name in names]

    def _run(self, algorithm: str, map_name: str, rule: str, seed: int) -> Run:
        lines = [*self._bindings, *self._algorithm_bindings.get(algorithm, ())]
        lines += [*self._map_bindings.get(map_name, ()), *self._bindings_of(rule)]
        return Run(algorithm, map_name, rule, seed, tuple(lines))

    def _bindings_of(self, rule: Any) -> Sequence[str]:
        if str(rule) in self._rules:
            return self._rules[str(rule)]
        if (clip := clip_range(str(rule))) is None:
            known = ", ".join(["a number", "none", *self._rules])
            raise ValueError(f"sweep.grids: rule {rule!r} is not in sweep.rules; choose one of: {known}")
        return [f"ppo.clip_range = {None if clip == math.inf else f'{clip:g}'}"]


def read(gin_files: Sequence[str], bindings: Sequence[str] = ()) -> list[Run]:
    """Returns the runs of the sweep that gin files describe; of equal settings, those of the last file count.

    Args:
        gin_files: from the current directory or from gin/.
        bindings: gin bindings on top of the files.
    Raises:
        ValueError: a setting of the sweep is wrong, or a run's file is not there; names it.
    """
    gin.clear_config()
    settings.read(gin_files, bindings)
    runs = Sweep().runs()
    settings.find(list(dict.fromkeys(file for run in runs for file in run.gin_files)))
    return runs


def clip_range(rule: str) -> float | None:
    """Returns the fixed clip range that a rule stands for, infinite for "none"; None if it stands for another rule."""
    try:
        return math.inf if rule == "none" else float(rule)
    except ValueError:
        return None


def open_tables(folder: pathlib.Path) -> Tables:
    """Opens the tables of a sweep: `runs`, a row for each run; `curves`, a row for each update and each evaluation."""
    return Tables(folder, ("runs", "curves"), _KEYS)


def missing(runs: Sequence[Run], tables: Tables) -> list[Run]:
    """Returns the runs that the tables lack.

    Raises:
        ValueError: a run is there, but with other settings.
    """
    left = []
    for run in runs:
        rows = tables.select("runs", [run.key])
        if rows.empty:
            left.append(run)
        elif (found := _as_named_now(rows.settings.iloc[0])) != run.settings:
            raise ValueError(
                f"{tables.paths[0]} has {run.name} with other settings: {found} instead of {run.settings};"
                " name another folder"
            )
    return left


def _as_named_now(settings: str) -> str:
    """A run's settings as they are called now: older tables name PPO's variants, and have 10 for no clipping."""
    named = re.sub(r"\b(ippo|mappo|jr_ppo)\.", "ppo.", settings)
    return re.sub(r"ppo\.clip_range = 10(?=;|$)", "ppo.clip_range = None", named)


def time_left(runs: Sequence[Run], tables: Tables, processes: int) -> str:
    """Estimates what some runs take, side by side, as 1:23:45 (hours, minutes, seconds)."""
    return str(datetime.timedelta(seconds=round(sum(_seconds(run, tables) for run in runs) / processes)))


def _seconds(run: Run, tables: Tables) -> float:
    """What a run may take, by those there are: on its map with its algorithm, on its map, or of any kind."""
    runs = tables["runs"]
    on_map = runs[runs["map"] == run.map]
    for like in (on_map[on_map.algorithm == run.algorithm], on_map, runs):
        if len(like) and like.seconds.notna().any():
            return float(like.seconds.median())
    return _GUESS


def train(
    runs: Sequence[Run],
    tables: Tables,
    name: str,
    module: str,
    tracking_uri: str,
    experiment: str,
    processes: int,
    stop: Callable[[], bool],
) -> dict[Run, str]:
    """Trains runs side by side, and adds them to the tables. Progress goes to stderr.

    Every process has cores of its own, as far as they go: side by side on a core each, two runs of gin/paper/laptop.gin
    on 10m_vs_11m end after 138 s; one after the other on both cores (`train.num_shards = 2`), after 180.

    Args:
        runs: that the tables lack, those that matter most first.
        tables: to add to; the runs' own folders are beside them, in `runs`.
        name: of the MLflow run that theirs are under.
        module: of the training command, such as "launch.train".
        tracking_uri: of the store.
        experiment: MLflow's.
        processes: how many run at a time.
        stop: whether to come to an end; runs then save what they learned, and are no failures.
    Returns:
        The runs that failed, and why; a failure keeps none of the others from running.
    Raises:
        ValueError: the store or the folder cannot be used; names the flag.
    """
    if not runs:
        return {}
    folder = tables.folder / "runs"
    parent = _parent_run(name, folder, tables, tracking_uri, experiment)
    arguments = ["--noreplay", "--noregister", f"--tracking_uri={tracking_uri}", f"--experiment={parent.experiment}"]
    arguments += [f"--parent_run_id={parent.run_id}"]
    by_command = {_command(run, folder / run.name, module, arguments): run for run in runs}
    left, failed = list(runs), {}
    for command, code, seconds in scheduler.run(by_command, processes, stop):
        run = by_command[command]
        left.remove(run)
        ended = f"{seconds:.0f} s"
        if code == 0:
            tables.add(recorded(run, folder / run.name))
        elif not stop():
            said = command.stderr.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            failed[run] = f"{said[-1]} (exit code {code}, see {command.stderr})"
            ended = "failed"
        else:
            ended = "stopped"
        number = f"{len(runs) - len(left)} of {len(runs)}"
        tell(f"{number}: {run.name}: {ended}; {time_left(left, tables, processes)} left")
    for path in tables.paths:
        if path.is_file():
            parent.file(path)
    for run, why in failed.items():
        tell(f"failed: {run.name}: {why}")
    status = "KILLED" if stop() else "FAILED" if failed else "FINISHED"
    if not_sent := parent.finish(status, f"{len(failed)} runs failed" if failed else None):
        tell(f"MLflow: {not_sent}")
    return failed


def recorded(run: Run, root_dir: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """Reads what a run recorded in its folder.

    Args:
        run: that ended.
        root_dir: its folder.
    Returns:
        The rows to add to each table of `open_tables`.
    """
    tags, rows = tracking.kept(root_dir / TRACKING_NAME)
    key = dict(zip(_KEYS, run.key, strict=True)) | {"num_agents": int(tags["num_agents"])}
    last = [row for row in rows if _OUTCOME[0] in row][-1]
    updates = [row for row in rows if _SPEED in row]
    done = [row["env_steps"] for row in updates]
    seconds = sum((now - before) / row[_SPEED] for before, now, row in zip([0, *done], done, updates, strict=False))
    outcome = {name: last[name] for name in _OUTCOME}
    outcome |= {name: row[name] for row in rows for name in _BEST if name in row}
    settings = {"settings": run.settings, "git_commit": tags["git_commit"]}
    curve = [
        key | {"env_steps": row["env_steps"]} | {name: row[name] for name in row if _CURVES.fullmatch(name)}
        for row in rows
        if any(_CURVES.fullmatch(name) for name in row)
    ]
    return {"runs": [key | {"env_steps": last["env_steps"], "seconds": seconds} | outcome | settings], "curves": curve}


def _command(run: Run, root_dir: pathlib.Path, module: str, arguments: Sequence[str]) -> scheduler.Command:
    flags = (*run.arguments(), f"--root_dir={root_dir}", f"--run_name={run.name}", *arguments)
    return scheduler.Command(module, flags, pathlib.Path.cwd(), root_dir / "stdout.txt", root_dir / "stderr.txt")


def _parent_run(
    name: str, folder: pathlib.Path, tables: Tables, tracking_uri: str, experiment: str
) -> tracking.Tracker:
    """The MLflow run of a whole sweep, once the store gave it an id."""
    try:
        parent = tracking.Tracker(
            tracking_uri, experiment, name, params={}, tags={"sweep": name}, folder=folder / TRACKING_NAME
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"--out={tables.folder}: {error}") from error
    except Exception as error:  # MLflow's, whose import takes seconds
        raise ValueError(f"--tracking_uri: {error}") from error
    for _ in range(600):
        if parent.run_id:
            return parent
        time.sleep(0.1)
    raise ValueError(f"--tracking_uri: the store gives no run; {parent.finish('FAILED')}")
