"""A replay shows people a battle: it is played once, kept env step by env step, and written as a page, a GIF or a film.

The page is one HTML file that needs no network; `page` makes it from the parts in `web/`. GIF and MP4 show the same
battles without the page's panels. TensorFlow is imported only to play, so a wrong file name is reported before it
loads.
"""

import pathlib

from tf_marl.environments.combat.replay.html import page
from tf_marl.environments.combat.replay.pictures import write_gif, write_mp4
from tf_marl.environments.combat.replay.recording import Battle, Episode, Unit, record

__all__ = ["SUFFIXES", "Battle", "Episode", "Unit", "check_name", "page", "record", "write"]

SUFFIXES = (".html", ".gif", ".mp4")


def check_name(path: str | pathlib.Path) -> None:
    """Checks that `write` knows how to write a file of that name.

    Args:
        path: the name of the file.
    Raises:
        ValueError: the name ends in none of `SUFFIXES`.
    """
    if pathlib.Path(path).suffix not in SUFFIXES:
        raise ValueError(f"{path}: a replay is a file that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def write(path: str | pathlib.Path, episodes: list[Episode], title: str = "") -> None:
    """Writes episodes as a page, a GIF or a film, depending on the ending of the file's name.

    Args:
        path: the file to write; its name ends in .html, .gif or .mp4.
        episodes: the episodes to show, in this order; all from one recording.
        title: who plays, for people to read.
    Raises:
        ValueError: the name ends in none of `SUFFIXES`.
    """
    check_name(path)
    suffix = pathlib.Path(path).suffix
    if suffix == ".html":
        pathlib.Path(path).write_text(page(episodes, title), "utf-8")
    elif suffix == ".gif":
        write_gif(str(path), episodes)
    else:
        write_mp4(str(path), episodes)
