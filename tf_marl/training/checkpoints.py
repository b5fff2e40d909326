"""Snapshots survive a killed process or a power cut: on disk, each one is complete or absent."""

import json
import logging
import os
import pathlib
import shutil
import zipfile
from typing import Any, Protocol

import tensorflow as tf

_FILES = "snapshot"  # prefix of the files of a snapshot
_RUN = "run.json"  # the facts that identify the snapshot's run
_ARCHIVE = "archive"  # among these facts: the names of the archive's files
_UNFINISHED, _REPLACED = "unfinished", "replaced"


class Archive(Protocol):
    """Describes what is too large to be written anew with every snapshot, and changes little between two of them."""

    def write(self, folder: pathlib.Path, earlier: pathlib.Path | None) -> list[str]:
        """Writes its present state to a folder, in files of the zip format, and returns their names.

        Args:
            folder: to write to; it exists.
            earlier: a folder with files of its own that may be linked instead; None if there is none.
        """

    def read(self, folder: pathlib.Path) -> None:
        """Reads from such a folder the state that fits the objects of the snapshot, which have been restored.

        Args:
            folder: that holds the files.
        Raises:
            ValueError: they do not fit the present settings.
        """


class Checkpoints:
    """Saves the latest states of some trackable objects, each in a folder named after its env steps.

    A snapshot is written to a temporary folder, flushed to the disk and then renamed. Before it is restored, all of it
    is read once to verify its checksums.

    Args:
        folder: of the snapshots; it is created at the first save.
        max_to_keep: how many snapshots to keep, the latest ones.
        run: facts that identify the run, such as settings: plain values by name. A snapshot of a run with other values
            is refused.
        archive: what is written in files of its own, so that a snapshot adds only what is new; None if there is none.
        **objects: variables, modules, optimisers and other objects that TensorFlow can save, by names of their own.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        max_to_keep: int,
        run: dict[str, Any] | None = None,
        archive: Archive | None = None,
        **objects: Any,
    ):
        self.folder = pathlib.Path(folder)
        self._max_to_keep = max_to_keep
        self._run = run or {}
        self._archive = archive
        self._latest: pathlib.Path | None = None  # the snapshot that was saved or restored last
        self._checkpoint = tf.train.Checkpoint(**objects)

    def env_steps(self) -> list[int]:
        """Returns the env steps of all snapshots in the folder, ascending; other files there are ignored."""
        numbers = [int(path.name) for path in self.folder.glob("[0-9]*") if path.name.isdecimal()]
        return sorted(number for number in numbers if self._place(number).exists())

    def save(self, env_steps: int) -> None:
        """Saves the present state of the objects and deletes snapshots beyond `max_to_keep`.

        Args:
            env_steps: of the run so far; they name the snapshot. Snapshots of later env steps are deleted too.
        Raises:
            OSError: the snapshot cannot be written; earlier ones are not touched.
        """
        unfinished, replaced, place = self.folder / _UNFINISHED, self.folder / _REPLACED, self._place(env_steps)
        try:
            for leftover in (unfinished, replaced):
                shutil.rmtree(leftover, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._checkpoint.write(str(unfinished / _FILES))
            facts = dict(self._run)
            if self._archive is not None:
                facts[_ARCHIVE] = self._archive.write(unfinished, self._latest)
            if facts:
                (unfinished / _RUN).write_text(json.dumps(facts), "utf-8")
            for path in (*unfinished.iterdir(), unfinished):
                _flush(path)
            if place.exists():  # by a run that was killed after this step and came here again
                place.rename(replaced)
            unfinished.rename(place)
            _flush(self.folder)
            self._latest = place
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
            raise OSError(f"no checkpoint can be written to {self.folder}: {reason}") from error
        shutil.rmtree(replaced, ignore_errors=True)
        kept = [other for other in self.env_steps() if other <= env_steps][-self._max_to_keep :]
        for other in set(self.env_steps()) - set(kept):  # later ones are damaged, or the run would have resumed there
            shutil.rmtree(self._place(other), ignore_errors=True)

    def restore(self, *names: str) -> int | None:
        """Sets the objects to the values of the newest intact snapshot, with a warning for each damaged one.

        Args:
            *names: of the objects to restore; none means all of them.
        Returns:
            The snapshot's env steps; None if there is no snapshot.
        Raises:
            ValueError: all snapshots are damaged; or the snapshot holds no value for one of the objects, or one of
                another shape; or all objects are asked for and the snapshot is of another run.
        """
        for env_steps in reversed(self.env_steps()):
            place = self._place(env_steps)
            if not _whole(place, with_archive=not names):
                logging.getLogger(__name__).warning(
                    "the checkpoint at %s env steps is damaged; looking for the one before: %s", env_steps, self.folder
                )
                continue
            files = str(place / _FILES)
            try:
                if names:
                    part = tf.train.Checkpoint(**{name: getattr(self._checkpoint, name) for name in names})
                    part.read(files).assert_existing_objects_matched().expect_partial()
                else:
                    self._check_run(place)
                    self._checkpoint.read(files).assert_existing_objects_matched()
                    if self._archive is not None:
                        self._archive.read(place)
                    self._latest = place
            except AssertionError as lacks:
                raise ValueError(f"{place} lacks what this learner or these environments need: {lacks}") from lacks
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
    """Returns the facts about its run that a snapshot holds; snapshots of older versions hold none."""
    path = place / _RUN
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _whole(place: pathlib.Path, with_archive: bool) -> bool:
    """Returns whether all of a snapshot can be read and matches its checksums; the archive only if that is needed."""
    try:
        reader = tf.train.load_checkpoint(str(place / _FILES))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
        archive = _run_of(place).get(_ARCHIVE, ())
        for name in archive if with_archive else ():
            with zipfile.ZipFile(place / name) as file:
                if file.testzip():
                    return False
    except Exception:  # TensorFlow's reader raises IndexError, RuntimeError or an OpError, depending on the damage
        return False
    return True


def _flush(path: pathlib.Path) -> None:
    """Makes the disk store what was written to a file or folder, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
