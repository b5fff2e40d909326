"""This module knows the ground of a map: who can stand where, and the way round obstacles.

A unit that could see its goal steers straight for it. Any other unit steers for the last cell that it could see of a
shortest path. Both are looked up in a table over all pairs of cells, which is made once for each map.
"""

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

_INSET = 0.45  # cells; a view counts if it is free from four points of the cell, so far from its middle in x and y
_CORNERS = _INSET * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
_SAMPLES_PER_CELL = 2  # along a line of view


def is_rectangle(mask: np.ndarray) -> bool:
    """Returns whether the True cells of a mask fill a rectangle.

    Args:
        mask: [X, Y] bool.
    """
    xs, ys = np.nonzero(mask)
    return mask.sum() == (np.ptp(xs) + 1) * (np.ptp(ys) + 1)


def in_sight(pathable: np.ndarray, cells: np.ndarray, others: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Tells which cells a straight line over pathable ground connects.

    Args:
        pathable: [X, Y] bool.
        cells: [P, 2] int, the cells to look from.
        others: [Q, 2] int, the cells to look at, each at its middle.
        offsets: [K, 2], the points of a cell to look from, relative to its middle, in cells. The view from all of them
            must be free.
    Returns:
        [P, Q] bool: whether the views from a cell to another one are free.
    """
    free = np.ones([len(cells), len(others)], bool)
    samples = _SAMPLES_PER_CELL * max(pathable.shape)
    for offset in offsets:
        for t in np.linspace(0, 1, samples):
            start, end = (1 - t) * (cells + 0.5 + offset), t * (others + 0.5)
            x, y = ((start[:, None, axis] + end[None, :, axis]).astype(np.int16) for axis in (0, 1))
            free &= pathable[x, y]
    return free


class Paths:
    """Holds the way between any two cells of one map, with P pathable cells.

    Args:
        pathable: [X, Y] bool.

    Attributes:
        index: [X * Y] int32. It gives each cell its row in the table. A blocked cell has the row of the nearest
            pathable cell.
        waypoint: [P, P] int32, by the row of a cell and the row of its goal. The entry is x * Y + y of the cell to
            steer for, or -1 where the unit goes straight to its goal. None if that is so everywhere on the map.
    """

    def __init__(self, pathable: np.ndarray):
        cells = np.argwhere(pathable)
        every = np.stack(np.meshgrid(*map(np.arange, pathable.shape), indexing="ij"), axis=-1).reshape(-1, 2)
        self.index = np.square(every[:, None] - cells[None]).sum(-1).argmin(1).astype(np.int32)
        self.waypoint: np.ndarray | None = None
        if is_rectangle(pathable) or in_sight(pathable, cells, cells, np.zeros([1, 2])).all():
            return
        steps = self._steps(pathable, cells)
        visible = in_sight(pathable, cells, cells, _CORNERS) | (steps == 1)
        # from_goal[goal, cell] is the next cell on the way from `cell` to `goal`; negative if there is no way.
        from_goal = csgraph.dijkstra(sparse.csr_matrix(steps), directed=False, return_predecessors=True)[1]
        start, goal = np.indices(visible.shape)
        reached = start
        for _ in range(len(cells)):
            following = from_goal[goal, reached]
            goes_on = (following >= 0) & visible[start, np.maximum(following, 0)]
            if not goes_on.any():
                break
            reached = np.where(goes_on, following, reached)
        straight = visible | (reached == goal) | (reached == start)
        if not straight.all():
            ids = cells @ [pathable.shape[1], 1]
            self.waypoint = np.where(straight, -1, ids[reached]).astype(np.int32)

    @staticmethod
    def _steps(pathable: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Returns the lengths of steps between neighbouring cells, [P, P]; 0 where no step leads.

        A diagonal step must not pass the corner of a blocked cell.
        """
        x, y = cells[:, 0], cells[:, 1]
        dx, dy = np.abs(x[:, None] - x), np.abs(y[:, None] - y)
        past_no_corner = pathable[x[:, None], y] & pathable[x, y[:, None]]
        lengths = np.where(dx + dy == 1, 1.0, 0.0)
        return np.where((dx == 1) & (dy == 1) & past_no_corner, np.sqrt(2), lengths)
