"""Snapshots on disk that are whole or not there, whatever happens to the process, and that are not trusted blindly."""

import json
import logging
import os
import pathlib
import shutil
from typing import Any

import tensorflow as tf

_FILES = "snapshot"  # what the files of a snapshot are called
_RUN = "run.json"  # whose it is
_UNFINISHED, _REPLACED = "unfinished", "replaced"


class Checkpoints:
    """The last few states of some trackable objects, each in a folder named after its env steps.

    A snapshot is written beside its place, flushed to the disk, then renamed. Before it is read, it is read through
    once for its checksums.
    """

    def __init__(
        self, folder: str | os.PathLike[str], max_to_keep: int, run: dict[str, Any] | None = None, **objects: Any
    ):
        """
        Args:
            folder: of the snapshots; made when the first is saved.
            max_to_keep: how many to keep, the latest.
            run: what no other run's snapshot may be taken up for, settings for one: plain values by name.
            **objects: variables, modules, optimisers: anything that TensorFlow can save, by names of their own.
        """
        self.folder = pathlib.Path(folder)
        self._max_to_keep = max_to_keep
        self._run = run or {}
        self._checkpoint = tf.train.Checkpoint(**objects)

    def env_steps(self) -> list[int]:
        """Of the snapshots there are, ascending; what has another name than one of them is not ours."""
        numbers = [int(path.name) for path in self.folder.glob("[0-9]*") if path.name.isdecimal()]
        return sorted(number for number in numbers if self._place(number).exists())

    def save(self, env_steps: int) -> None:
        """Saves the objects as they are now, and drops what is no longer kept.

        Raises:
            OSError: it cannot be written; what was saved before is untouched.
        """
        unfinished, replaced, place = self.folder / _UNFINISHED, self.folder / _REPLACED, self._place(env_steps)
        try:
            for leftover in (unfinished, replaced):
                shutil.rmtree(leftover, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._checkpoint.write(str(unfinished / _FILES))
            if self._run:
                (unfinished / _RUN).write_text(json.dumps(self._run), "utf-8")
            for path in (*unfinished.iterdir(), unfinished):
                _flush(path)
            if place.exists():  # by a run that was killed after this step and came here again
                place.rename(replaced)
            unfinished.rename(place)
            _flush(self.folder)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
            raise OSError(f"no checkpoint can be written to {self.folder}: {reason}") from error
        shutil.rmtree(replaced, ignore_errors=True)
        kept = [other for other in self.env_steps() if other <= env_steps][-self._max_to_keep :]
        for other in set(self.env_steps()) - set(kept):  # a later one is damaged: else the run had gone on from there
            shutil.rmtree(self._place(other), ignore_errors=True)

    def restore(self, *names: str) -> int | None:
        """Gives the objects the values of the newest snapshot that is whole; a damaged one is warned of.

        Args: names, of the objects; none for all of them.
        Returns: its env steps; None if there is no snapshot.
        Raises:
            ValueError: none is whole, or it does not suit the objects; or, all of them being asked for, is of another
                run.
        """
        for env_steps in reversed(self.env_steps()):
            place = self._place(env_steps)
            if not _whole(place):
                logging.getLogger(__name__).warning(
                    "the checkpoint at %s env steps is damaged; looking for the one before: %s", env_steps, self.folder
                )
                continue
            files = str(place / _FILES)
            if names:
                part = tf.train.Checkpoint(**{name: getattr(self._checkpoint, name) for name in names})
                part.read(files).assert_existing_objects_matched().expect_partial()
            else:
                self._check_run(place)
                self._checkpoint.read(files).assert_existing_objects_matched()
            return env_steps
        if self.env_steps():
            raise ValueError(f"every checkpoint in {self.folder} is damaged; delete the folder to start anew")
        return None

    def _check_run(self, place: pathlib.Path) -> None:
        run = _run_of(place)
        for name, value in self._run.items():
            if run.get(name, value) != value:
                raise ValueError(f"{place} is of a run with {name} = {run[name]}, not {value}")

    def _place(self, env_steps: int) -> pathlib.Path:
        return self.folder / f"{env_steps:012}"


def _run_of(place: pathlib.Path) -> dict[str, Any]:
    """What a snapshot tells of its run; nothing, if it is older than that."""
    path = place / _RUN
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _whole(place: pathlib.Path) -> bool:
    """Whether all of a snapshot can be read and agrees with its checksums."""
    try:
        reader = tf.train.load_checkpoint(str(place / _FILES))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
        _run_of(place)
    except Exception:  # TensorFlow's reader raises IndexError, RuntimeError, an OpError: as it happens to stumble
        return False
    return True


def _flush(path: pathlib.Path) -> None:
    """Has the disk hold what was written to a file or folder, so that a power cut finds it there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
