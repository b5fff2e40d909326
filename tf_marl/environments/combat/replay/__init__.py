"""Battles to watch: played once, kept env step by env step, shown as a page, a GIF or a film.

The page (`web`, filled in by `page`) is one file that needs no network; GIF and MP4 show the same battles
without its panels. TensorFlow is imported only to play, so a wrong file name is told before it is loaded.
"""

import pathlib

from tf_marl.environments.combat.replay.html import page
from tf_marl.environments.combat.replay.pictures import write_gif, write_mp4
from tf_marl.environments.combat.replay.recording import Battle, Episode, Unit, record

__all__ = ["SUFFIXES", "Battle", "Episode", "Unit", "check_name", "page", "record", "write"]

SUFFIXES = (".html", ".gif", ".mp4")


def check_name(path: str | pathlib.Path) -> None:
    """Raises ValueError if `write` does not know what to make of that file name."""
    if pathlib.Path(path).suffix not in SUFFIXES:
        raise ValueError(f"{path}: a replay is a file that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def write(path: str | pathlib.Path, episodes: list[Episode], title: str = "") -> None:
    """Writes the episodes, one recording's, as a page, a GIF or a film, whichever the file's name asks for.

    Args:
        path: ends in .html, .gif or .mp4.
        episodes: shown in this order.
        title: who plays, for people to read.
    Raises:
        ValueError: the name ends in something else.
    """
    check_name(path)
    suffix = pathlib.Path(path).suffix
    if suffix == ".html":
        pathlib.Path(path).write_text(page(episodes, title), "utf-8")
    elif suffix == ".gif":
        write_gif(str(path), episodes)
    else:
        write_mp4(str(path), episodes)
