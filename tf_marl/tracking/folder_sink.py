"""This module keeps runs in a plain folder, `folder:DIR`, without a server, a database or MLflow.

Each run has a folder of its own:

    DIR/EXPERIMENT/RUN_NAME-XXXXXXXX/
        run.json        experiment, name, status (RUNNING, FINISHED, FAILED, KILLED), error, times [ms since 1970]
        params.json     settings, one string each
        tags.json       versions, git commit and other tags
        metrics.csv     columns env_steps, time_ms, metric, value; one row per value, in the order of recording
        artifacts/      files by their names
        models/STEP/    saved_model/ and the files beside it; model.json: name, signature and metrics
"""

import csv
import io
import json
import os
import pathlib
import re
import shutil
from collections.abc import Sequence
from typing import Any

from tf_marl.tracking.files import written_whole
from tf_marl.tracking.sink import MARK, Metrics, Model, Sink, SinkError

_METRICS = "metrics.csv"  # `start` makes it last, so a folder without it is not a run
_COLUMNS = ("env_steps", "time_ms", "metric", "value")


class FolderSink(Sink):
    """Keeps one run in a folder of runs."""

    def __init__(self, tracking_uri: str):
        _, _, path = tracking_uri.partition(":")
        if not path or re.match(r"//(?!/)", path):  # a host, which no folder has
            raise SinkError(f"{tracking_uri!r} names no folder; write folder:DIR, such as folder:runs or folder:/data")
        self._root = pathlib.Path(path).expanduser().absolute()
        super().__init__(f"folder:{self._root}")
        self._recorded: set[tuple[int, str]] = set()  # (step, metric) in `metrics.csv`
        self._size = 0  # bytes of the whole rows in `metrics.csv`; 0 until it is read

    def check_reachable(self) -> None:
        """Checks whether files can be written to the folder, and creates it if need be.

        Raises:
            SinkError: nothing can be written there.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            probe = self._root / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            why = error.strerror or error
            raise SinkError(f"{self.address} cannot be written ({why}); mend that or name another folder") from None

    def start(self, experiment: str, run_name: str, params: dict[str, str], tags: dict[str, str], time: int) -> None:
        experiment_id, run_id = _file_name(experiment), f"{_file_name(run_name)}-{tags[MARK][:8]}"
        run = self._root / experiment_id / run_id
        _write_json(run / "params.json", params)
        _write_json(run / "tags.json", tags)
        page = {"experiment": experiment, "run_name": run_name, "status": "RUNNING", "error": None}
        _write_json(run / "run.json", page | {"start_time_ms": time, "end_time_ms": None})
        (run / _METRICS).touch()
        self.experiment_id, self.run_id = experiment_id, run_id
        self._take_up()

    def resume(self, tags: dict[str, str]) -> None:
        self._change("tags.json", tags)
        self._change("run.json", {"status": "RUNNING", "error": None, "end_time_ms": None})

    def record(self, rows: Sequence[Metrics]) -> None:
        if not self._size:
            self._take_up()
        lines = [(row.step, row.time, name, value) for row in rows for name, value in row.values.items()]
        new = [line for line in lines if (line[0], line[2]) not in self._recorded]
        self._append(new)
        self._recorded.update((step, name) for step, _, name, _ in new)

    def artifact(self, name: str, path: pathlib.Path) -> None:
        with written_whole(self._run / "artifacts" / name) as copy:
            shutil.copyfile(path, copy)

    def model(self, model: Model) -> None:
        place = self._run / "models" / str(model.step)
        if not place.exists():
            with written_whole(place) as copy:
                shutil.rmtree(copy, ignore_errors=True)  # of a process that came no further
                shutil.copytree(model.folder, copy)
                page = model._asdict()
                del page["folder"]
                _write_json(copy / "model.json", page)
        self.record([Metrics(model.step, model.time, model.metrics)])

    def finish(self, status: str, error: str | None, time: int) -> None:
        self._change("run.json", {"status": status, "error": error, "end_time_ms": time})

    def page(self) -> str | None:
        return str(self._run) if self.run_id else None

    def lost(self, error: Exception) -> bool:
        return not (self._run / _METRICS).is_file()

    @property
    def _run(self) -> pathlib.Path:
        return self._root / str(self.experiment_id) / str(self.run_id)

    def _change(self, name: str, changes: dict[str, Any]) -> None:
        path = self._run / name
        _write_json(path, json.loads(path.read_text("utf-8")) | changes)

    def _take_up(self) -> None:
        """Reads which metrics `metrics.csv` holds. The next row will follow its last whole one."""
        path = self._run / _METRICS
        whole, _, _ = path.read_bytes().rpartition(b"\n")
        try:
            _, *rows = csv.reader(io.StringIO(whole.decode("utf-8"), newline="")) if whole else [_COLUMNS]
            self._recorded = {(int(step), name) for step, _, name, _ in rows}
        except (ValueError, csv.Error):  # after a power cut, or by somebody's hand; all of it is in the journal
            path.unlink()
            raise
        self._size = len(whole) + 1 if whole else 0
        if not self._size:
            self._append([_COLUMNS])

    def _append(self, lines: Sequence[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(lines)
        data = text.getvalue().encode("utf-8")
        with open(self._run / _METRICS, "r+b") as file:
            file.truncate(self._size)  # what a full disk cut short
            file.seek(self._size)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._size += len(data)


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _file_name(text: str) -> str:
    """Returns a valid file name for a text: runs of unusual characters become `_`, and 100 characters are kept."""
    return re.sub(r"[^A-Za-z0-9_.+=-]+", "_", text)[:100].lstrip(".") or "_"
