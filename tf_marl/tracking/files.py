"""Files that are there whole or not at all."""

import contextlib
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def written_whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Where to write what is to lie at `path`: it takes its place there, or that of an older file, at the end."""
    unfinished = path.with_name(f".{path.name}")  # its ending tells Matplotlib what to write
    path.parent.mkdir(parents=True, exist_ok=True)
    yield unfinished
    unfinished.replace(path)
