"""A roster knows the type of each unit in a battle, and gives the numbers that follow from the types.

On SMAC's maps the types never change, so the numbers are constants. In SMACv2's scenarios each battle draws its own
types, so the numbers are tensors with a value for each battle. Both broadcast in the same way, and so the rules of
battle are written once.

The letters in all shapes: K units, T types, B battles.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_marl.environments.combat.units import UnitType


class Roster:
    """Holds the types of K units.

    Args:
        types: the T types that there are.
        kinds: which of the types each unit is: a constant [K, 1] int, or [K, B] int32 where battles draw their own.
    """

    def __init__(self, types: Sequence[UnitType], kinds: "np.ndarray | tf.Tensor"):
        self.types = tuple(types)
        self.kinds = kinds
        self.is_drawn = tf.is_tensor(kinds)

    @classmethod
    def of(cls, units: Sequence[UnitType]) -> "Roster":
        """Returns the roster of units whose types never change.

        Args:
            units: K types, one for each unit.
        """
        types = tuple(dict.fromkeys(units))
        return cls(types, np.array([[types.index(unit)] for unit in units], np.int32).reshape(-1, 1))

    def __len__(self) -> int:
        """Returns K, the number of units."""
        return self.kinds.shape[0]

    def __getitem__(self, rows: slice | list[int]) -> "Roster":
        """Returns the roster of some of the units.

        Args:
            rows: which of the units.
        """
        if self.is_drawn and isinstance(rows, list):
            return Roster(self.types, tf.gather(self.kinds, rows))
        return Roster(self.types, self.kinds[rows])

    def rows(self, holds: Callable[[UnitType], Any]) -> list[int]:
        """Returns the units for which something holds; where types are drawn, all for which it may hold.

        Args:
            holds: a function of a unit's type.
        """
        return [k for k, kinds in enumerate(self._possible()) if any(holds(self.types[kind]) for kind in kinds)]

    def some(self, holds: Callable[[UnitType], Any]) -> bool:
        """Returns whether something holds for any of the units; where types are drawn, whether it may hold.

        Args:
            holds: a function of a unit's type.
        """
        return bool(self.rows(holds))

    def column(self, value: Callable[[UnitType], Any]) -> "np.ndarray | tf.Tensor":
        """Returns the number that `value` gives for each unit: [K, 1], or [K, B] where types are drawn.

        It is bool if the values are, and else float32. If all types have one value, it is a constant [K, 1].

        Args:
            value: a function of a unit's type.
        """
        values = _numbers([value(kind) for kind in self.types])
        if not self.is_drawn:
            return values[self.kinds]
        return np.full([len(self), 1], values[0]) if (values == values[0]).all() else choose(self.kinds, values)

    def pairs(self, others: "Roster", value: Callable[[UnitType, UnitType], Any]) -> "np.ndarray | tf.Tensor":
        """Returns the number that `value` gives for each pair of units: [K, J, 1], or [K, J, B] where types are drawn.

        Args:
            others: the roster of the J units that come second in a pair.
            value: a function of the types of two units.
        """
        table = _numbers([[value(kind, other) for other in others.types] for kind in self.types])
        if not self.is_drawn:
            return table[self.kinds[:, 0]][:, others.kinds[:, 0], None]
        if (table == table[0, 0]).all():
            return np.full([len(self), len(others), 1], table[0, 0])
        return choose(self.kinds[:, None], [choose(others.kinds, row)[None] for row in table])

    def _possible(self) -> list[list[int]]:
        """Returns for each unit the types that it may be of."""
        if self.is_drawn:
            return [list(range(len(self.types)))] * len(self)
        return [[int(kind)] for kind in self.kinds[:, 0]]


def _numbers(values: list) -> np.ndarray:
    """Returns an array of the values: of bool if they all are, and else of float32."""
    array = np.array(values)
    return array if array.dtype == bool else array.astype(np.float32)


def choose(kinds: tf.Tensor, values: "Sequence[Any] | np.ndarray") -> tf.Tensor:
    """Returns a value for each kind. Comparisons are faster here than a look-up.

    Args:
        kinds: [..., B] int32, from 0.
        values: the value of each kind: numbers, or tensors that broadcast with `kinds`.
    """
    chosen = values[-1]
    for kind in range(len(values) - 1)[::-1]:
        chosen = tf.where(kinds == kind, values[kind], chosen)
    return chosen
