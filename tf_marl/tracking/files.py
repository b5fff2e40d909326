"""This module writes files that are either complete or absent."""

import contextlib
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def written_whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Replaces the file or folder at `path` in one step, when the context ends without an error.

    Args:
        path: the final place; its parent folders are created.

    Yields:
        A temporary path beside it, to write to.
    """
    unfinished = path.with_name(f".{path.name}")  # keeps the suffix, from which Matplotlib takes the format
    path.parent.mkdir(parents=True, exist_ok=True)
    yield unfinished
    unfinished.replace(path)
