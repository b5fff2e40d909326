"""Page and pictures share this layout: the part of the map that they show, and a shape for each unit type."""

import numpy as np

from tf_marl.environments.combat.replay.recording import Episode

SHAPES = ((0, 0), (4, 0), (3, 0), (6, 0), (4, 45))  # per type on a map: corners (0 is a circle), degrees turned
_MARGIN = 2.5  # map units between the outermost unit and the edge of the picture
_MIN_VIEW = (20.0, 12.0)  # map units, width and height of the picture at least


def view(episodes: list[Episode]) -> list[float]:
    """Returns the part of the map where something happens: its left, bottom, right and top, in map units.

    It is no taller than wide, and no smaller than `_MIN_VIEW`.

    Args:
        episodes: the episodes to show; all from one recording.
    """
    size = float(len(episodes[0].battle.terrain))
    spans = []
    for columns in ([episode.x for episode in episodes], [episode.y for episode in episodes]):
        spans.append((float(min(map(np.min, columns))) - _MARGIN, float(max(map(np.max, columns))) + _MARGIN))
    (left, right), (bottom, top) = spans
    width = max(right - left, _MIN_VIEW[0], top - bottom)
    height = max(top - bottom, _MIN_VIEW[1], width / 2)

    def place(low: float, high: float, length: float) -> tuple[float, float]:
        length = min(length, size)
        low = min(max((low + high - length) / 2, 0.0), size - length)
        return round(low, 2), round(low + length, 2)

    left, right = place(left, right, width)
    bottom, top = place(bottom, top, height)
    return [left, bottom, right, top]
