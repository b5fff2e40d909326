"""Many training runs from a gin file of axes: which there are, which are missing, and those side by side.

    Axes -> runs --train--> launch.train, each in a process and folder of its own --> runs.csv, curves.csv

A run is an ordinary `launch.train`: it resumes from its checkpoints, has its own MLflow run, under one for all, and its
settings are its command line. What is in `runs.csv` is not run again.
"""

import datetime
import itertools
import os
import pathlib
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gin

from launch import app
from launch.warm import Warm
from tf_marl.config import Count, checked
from tf_marl.paper import figures

if TYPE_CHECKING:
    import pandas as pd

    from tf_marl.tracking import Tracker

TRACKING_NAME = "tracking"  # in a run's root_dir, as launch.train has it
KEYS = ("algorithm", "map", "rule", "seed")  # what tells the runs of a table apart
_AXES = ("algorithm", "map", "rule")
_OUTCOME = ("eval/battle_won_mean", "eval/return_mean")
_SPEED = "train/env_steps_per_second"
_CURVES = re.compile(r"(eval|train)/(battle_won|return)_mean|trust_region/.*")
_GUESS = 200.0  # seconds, of a run of gin/paper/laptop.gin on a core


class Run(NamedTuple):
    """One training run."""

    algorithm: str  # its gin file without the ending
    map: str
    rule: str  # of the clip range
    seed: int
    bindings: tuple[str, ...]

    @property
    def name(self) -> str:
        return re.sub(r"[^\w.]+", "_", f"{self.algorithm}_{self.map}_{self.rule}_seed{self.seed}")

    def arguments(self) -> list[str]:
        """Of `launch.train`, but for where it goes."""
        files = [f"{self.algorithm}.gin", f"maps/{self.map}.gin"]
        if self.algorithm.startswith("paper/"):
            files.reverse()  # the paper's settings hold on every map, whatever a map's file would have
        flags = [f"--gin_file={file}" for file in files] + [f"--seed={self.seed}"]
        return flags + [f"--gin_bindings={binding}" for binding in self.bindings]


@gin.configurable("sweep")
class Axes:
    """A sweep: `runs` says which."""

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
            rules: gin bindings by name, with {algorithm} for the section of the algorithm's settings.
            seeds: runs of each combination.
            bindings: of all runs, likewise.
            algorithm_bindings, map_bindings: of an algorithm's runs and of those on a map, likewise; the rule's come
                last.
            only: values of an axis beside which all others are left out.
        Raises:
            BadInput: an axis, a file or a rule that there is not; names it.
            ValueError: a value of the wrong type; names it.
        """
        self._grids, self._rules, self._seeds = grids, rules or {}, seeds
        self._bindings, self._only = tuple(bindings), only or {}
        self._algorithm_bindings, self._map_bindings = algorithm_bindings or {}, map_bindings or {}
        for grid in grids:
            if set(grid) != set(_AXES):
                raise app.BadInput(f"sweep.grids: each has the axes {', '.join(_AXES)}, not {', '.join(grid)}")
            app.gin_paths([f"{name}.gin" for name in grid["algorithm"]] + [f"maps/{name}.gin" for name in grid["map"]])
            for rule in grid["rule"]:
                self._bindings_of(rule)

    def runs(self) -> list[Run]:
        """All of them, a seed after the other, so that the first of them are of use without the rest."""
        names: dict[tuple[str, str, str], None] = {}
        for grid in self._grids:
            for values in itertools.product(*grid.values()):
                name = dict(zip(grid, map(str, values), strict=True))
                if all(name[axis] in map(str, kept) for axis, kept in self._only.items()):
                    names[name["algorithm"], name["map"], name["rule"]] = None
        return [self._run(*name, seed=seed) for seed in range(self._seeds) for name in names]

    def _run(self, algorithm: str, map_name: str, rule: str, seed: int) -> Run:
        section = pathlib.PurePath(algorithm).name.removesuffix("_rnn")
        lines = [*self._bindings, *self._algorithm_bindings.get(algorithm, ())]
        lines += [*self._map_bindings.get(map_name, ()), *self._bindings_of(rule)]
        return Run(algorithm, map_name, rule, seed, tuple(line.format(algorithm=section) for line in lines))

    def _bindings_of(self, rule: Any) -> Sequence[str]:
        if str(rule) in self._rules:
            return self._rules[str(rule)]
        if (clip := figures.clip_range(str(rule))) is None:
            known = ", ".join(["a number", "none", *self._rules])
            raise app.BadInput(f"sweep.grids: rule {rule!r} is not in sweep.rules; choose one of: {known}")
        return [f"{{algorithm}}.clip_range = {clip:g}"]


def read_axes(gin_files: Sequence[str], bindings: Sequence[str] = ()) -> Axes:
    """The sweep that gin files describe, the later ones having the last word."""
    with app.bad_input():
        gin.clear_config()
        app.read_gin(app.gin_paths(list(gin_files)), list(bindings))
        return Axes()


class Tables:
    """What runs came to: `runs.csv`, a row for each; `curves.csv`, a row for each update and each evaluation."""

    def __init__(self, folder: pathlib.Path):
        import pandas as pd

        self.folder = folder
        self.paths = folder / "runs.csv", folder / "curves.csv"
        self.runs, self.curves = (
            pd.read_csv(path, dtype={"rule": str}, keep_default_na=False, na_values=[""])
            if path.is_file()
            else pd.DataFrame(columns=[*KEYS, "seconds"])
            for path in self.paths
        )

    def have(self, run: Run) -> bool:
        """Whether a run is there.

        Raises: BadInput: it is, but with other settings.
        """
        found = self.select([run], self.runs)
        if len(found) and (settings := "; ".join(run.bindings)) != found.settings.iloc[0]:
            raise app.BadInput(
                f"{self.paths[0]} has {run.name} with other settings: {found.settings.iloc[0]} instead of {settings};"
                " name another folder"
            )
        return len(found) > 0

    def select(self, runs: Sequence[Run], table: "pd.DataFrame") -> "pd.DataFrame":
        """The rows that belong to some runs."""
        import pandas as pd

        keys = pd.MultiIndex.from_tuples([run[: len(KEYS)] for run in runs], names=KEYS)
        return table[pd.MultiIndex.from_frame(table[[*KEYS]]).isin(keys)]

    def seconds(self, run: Run) -> float:
        """What a run may take, by those there are: on its map with its algorithm, on its map, or of any kind."""
        runs = self.runs
        on_map = runs[runs["map"] == run.map]
        for like in (on_map[on_map.algorithm == run.algorithm], on_map, runs):
            if like.seconds.notna().any():
                return float(like.seconds.median())
        return _GUESS

    def add(self, run: Run, root_dir: pathlib.Path) -> None:
        """Takes up what a run recorded; saved at once, `runs.csv` last, which tells what there is."""
        import pandas as pd

        from tf_marl import tracking

        tags, rows = tracking.kept(root_dir / TRACKING_NAME)
        key = dict(zip(KEYS, run, strict=False)) | {"num_agents": int(tags["num_agents"])}
        last = [row for row in rows if _OUTCOME[0] in row][-1]
        updates = [row for row in rows if _SPEED in row]
        done = [row["env_steps"] for row in updates]
        seconds = sum((now - before) / row[_SPEED] for before, now, row in zip([0, *done], done, updates, strict=False))
        outcome = {name: last[name] for name in _OUTCOME}
        settings = {"settings": "; ".join(run.bindings), "git_commit": tags["git_commit"]}
        new = key | {"env_steps": last["env_steps"], "seconds": seconds} | outcome | settings
        curve = [
            key | {"env_steps": row["env_steps"]} | {name: row[name] for name in row if _CURVES.fullmatch(name)}
            for row in rows
            if any(_CURVES.fullmatch(name) for name in row)
        ]
        # An empty table knows no types, and would make whole numbers fractions.
        self.curves = pd.concat([self.curves, pd.DataFrame(curve)][not len(self.curves) :], ignore_index=True)
        self.runs = pd.concat([self.runs, pd.DataFrame([new])][not len(self.runs) :], ignore_index=True)
        for path, table in ((self.paths[1], self.curves), (self.paths[0], self.runs)):
            unfinished = path.with_suffix(".part")
            table.to_csv(unfinished, index=False, float_format="%.4g")
            unfinished.replace(path)


def cores() -> int:
    """How many there are for this process."""
    return len(os.sched_getaffinity(0))


def train_all(wanted: Sequence[Run], tables: Tables, name: str, processes: int) -> int:
    """Trains what the tables lack, side by side, and adds it to them.

    Every process has cores of its own, as far as they go: side by side on a core each, two runs of gin/paper/laptop.gin
    on 10m_vs_11m end after 138 s; one after the other on both cores (--processes=1, `train.num_shards = 2`), after 180.

    Args:
        wanted: runs, those that matter most first.
        tables: of what was run; the runs' own folders are beside them, in `runs`.
        name: of the MLflow run that theirs are under.
        processes: how many run at a time.
    Returns: the exit code: of Ctrl-C or SIGTERM, after which the runs have saved what they learned; or not 0 if a run
        failed, which keeps none of the others from running and is told at the end.
    """
    from tf_marl import tracking

    missing = [run for run in wanted if not tables.have(run)]
    if not missing:
        return 0
    store = app.FLAGS.tracking_uri or tracking.local_store(app.STORE_FOLDER)
    runs_folder = tables.folder / "runs"
    with app.bad_input("--tracking_uri: "), app.bad_input(f"--out={tables.folder}: ", (OSError, ValueError)):
        tracker = tracking.Tracker(
            store, app.FLAGS.experiment, name, params={}, tags={"sweep": name}, folder=runs_folder / TRACKING_NAME
        )
        arguments = ["--noreplay", "--noregister", f"--tracking_uri={store}", f"--experiment={tracker.experiment}"]
        arguments += [f"--parent_run_id={_run_id(tracker)}"]
    with app.first_signal() as stop:
        failed = _side_by_side(missing, tables, runs_folder, arguments, processes, stop)
    for path in tables.paths:
        if path.is_file():
            tracker.file(path)
    for run, why in failed.items():
        print(f"failed: {run.name}: {why}", file=sys.stderr)
    status = "KILLED" if stop() else "FAILED" if failed else "FINISHED"
    if left := tracker.finish(status, f"{len(failed)} runs failed" if failed else None):
        print(f"MLflow: {left}", file=sys.stderr)
    return stop.code or (app.FAILED if failed else 0)


def _side_by_side(
    missing: Sequence[Run],
    tables: Tables,
    folder: pathlib.Path,
    arguments: Sequence[str],
    processes: int,
    stop: app.Stop,
) -> dict[Run, str]:
    """Trains them all. Returns: those that failed, and the last line they said."""
    left, failed = list(missing), {}
    todo = iter(missing)
    lock = threading.Lock()

    def work(warm: Warm) -> None:
        while not stop():
            with lock:
                run = next(todo, None)
            if run is None:
                break
            root_dir = folder / run.name
            root_dir.mkdir(parents=True, exist_ok=True)
            stdout, stderr = root_dir / "stdout.txt", root_dir / "stderr.txt"
            where = [f"--root_dir={root_dir}", f"--run_name={run.name}", *arguments]
            code, seconds = warm("launch.train", app.CHECKOUT, stdout, stderr, *run.arguments(), *where)
            with lock:
                left.remove(run)
                ended = f"{seconds:.0f} s"
                if code == 0:
                    tables.add(run, root_dir)
                elif not stop():
                    said = stderr.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
                    failed[run] = f"{said[-1]} (exit code {code}, see {stderr})"
                    ended = "failed"
                else:
                    ended = "stopped"
                number = f"{len(missing) - len(left)} of {len(missing)}"
                more = time_left(left, tables, processes)
                print(f"{number}: {run.name}: {ended}; {more} left", file=sys.stderr, flush=True)
        warm.close()

    available = sorted(os.sched_getaffinity(0))
    share = max(len(available) // processes, 1)
    warms = [Warm(available[i * share % len(available) :][:share]) for i in range(min(processes, len(missing)))]
    threads = [threading.Thread(target=work, args=(warm,)) for warm in warms]
    for thread in threads:
        thread.start()
    told = False
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.1)
        if stop() and not told:
            told = True
            for warm in warms:
                warm.stop()
    return failed


def _run_id(tracker: "Tracker") -> str:
    """MLflow's, once the store gave one."""
    for _ in range(600):
        if tracker.run_id:
            return tracker.run_id
        time.sleep(0.1)
    raise app.BadInput(f"the store gives no run; {tracker.finish('FAILED')}")


def time_left(runs: Sequence[Run], tables: Tables, processes: int) -> str:
    """What some runs may take, side by side, as 1:23:45."""
    return str(datetime.timedelta(seconds=round(sum(map(tables.seconds, runs)) / processes)))
