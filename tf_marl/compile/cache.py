"""Programs that XLA compiled are kept in files, so that the next process does not compile them again.

Compiling a battle with its policy takes longer than all else at the start of a run. TensorFlow finds a kept program by
what it computes, and runs the same machine code as if it had just been compiled.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import shutil

_MAX_BYTES = 2**30  # of all programs of one kind of machine; a battle's takes about 5 MB
_FACTS = ("model name", "flags", "Features", "CPU part")  # of /proc/cpuinfo; the last two are ARM's
_MIN_FREE_BYTES = 2**30  # a disk that runs full while TensorFlow writes ends the process, so then nothing is kept


def keep_programs(folder: pathlib.Path) -> None:
    """Has TensorFlow keep compiled programs in a folder and use those that are there; call it before TensorFlow starts.

    It does nothing if `TF_XLA_FLAGS` is set, if the folder cannot be written to, if its disk is nearly full, or if its
    path has blanks. The oldest programs are removed when there is more than a gigabyte of them.

    Args:
        folder: made if need be; machines may share it.
    """
    if "TF_XLA_FLAGS" in os.environ or any(letter.isspace() for letter in str(folder.absolute())):
        return
    try:
        folder = folder.absolute() / _machine()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK) or shutil.disk_usage(folder).free < _MIN_FREE_BYTES:
            return
        _remove_oldest(folder)
    except (OSError, importlib.metadata.PackageNotFoundError):
        return
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={folder}"


def _machine() -> str:
    """Returns a name for all that machine code depends on and TensorFlow does not look at: processor and versions."""
    processor = {line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(_FACTS)}
    compiler = [importlib.metadata.version("tensorflow"), os.environ.get("XLA_FLAGS", "")]
    return hashlib.sha256("\n".join([*sorted(processor), *compiler]).encode()).hexdigest()[:16]


def _remove_oldest(folder: pathlib.Path) -> None:
    files = sorted(((path, path.stat()) for path in folder.iterdir()), key=lambda file: file[1].st_mtime, reverse=True)
    total = 0
    for path, stat in files:
        total += stat.st_size
        if total > _MAX_BYTES or not stat.st_size:  # an empty one is what a power cut leaves
            path.unlink(missing_ok=True)
