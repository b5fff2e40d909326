"""This program computes the battles of all stand-ins (`standin.py`): python engine.py SOCKET

The battles are those of `CombatEnv`. One process computes all of them, so that a stand-in does not load TensorFlow and
can be restarted often. It also keeps books for the tests: how many games were started, how many ran at once, and which
faults they showed.
"""

import collections
import itertools
import pathlib
import sys
import threading
from multiprocessing import connection
from typing import Any

import numpy as np

from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.units import DATA
from tf_marl.environments.smac_api import CombatEnv

FIRST_AGENT_TYPE = 1970  # SMAC's maps have unit types of their own for agents; the game's build decides their ids


class Engine:
    """Serves any number of stand-ins, and tests that ask for the books."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._books: dict[str, Any] = {"launches": 0, "at_once": 0, "faults": collections.Counter()}
        self._alive: collections.Counter = collections.Counter()  # by the process that started them

    def serve(self, caller: connection.Connection) -> None:
        """Answers one caller until it leaves."""
        env, battles, parent = None, 0, None
        try:
            while True:
                what, *rest = caller.recv()
                answer: Any = None
                if what == "hello":
                    (parent,) = rest
                    with self._lock:
                        answer = self._books["launches"]
                        self._books["launches"] += 1
                        self._alive[parent] += 1
                        self._books["at_once"] = max(self._books["at_once"], self._alive[parent])
                elif what == "create":
                    map_name, seed = rest
                    env = CombatEnv(map_name, seed=seed)
                    answer = {"pathable": np.packbits(env.pathing_grid.T).tobytes(), "agents": env.n_agents}
                elif what == "spawn":
                    env.reset()
                    battles += 1
                    answer = _units(env, battles)
                elif what == "step":
                    env.step(rest[0])
                    answer = _units(env, battles)
                elif what == "fault":
                    with self._lock:
                        self._books["faults"][rest[0]] += 1
                elif what == "books":
                    answer = self._books
                elif what == "forget":
                    self._forget()
                caller.send(answer)
        except (EOFError, ConnectionError):
            self._alive[parent] -= 1


def _units(env: CombatEnv, battles: int) -> list[dict[str, Any]]:
    """Lists all units, the dead too, agents first, with the fields of the game's protocol. No tag is used twice."""
    order = DATA["maps"][env.map_name]["agent_order"]
    names = [unit.name for unit in scenarios.scenario(env.map_name).agents]
    units = []
    for i, unit in enumerate(itertools.chain(env.agents.values(), env.enemies.values())):
        fields = {name: getattr(unit, name) for name in unit.__slots__ if name != "pos"}
        if i < env.n_agents:
            fields["unit_type"] = FIRST_AGENT_TYPE + order.index(names[i])
        units.append(fields | {"tag": 1000 * battles + unit.tag, "x": unit.pos.x, "y": unit.pos.y})
    return units


def main(path: str) -> None:
    engine = Engine()
    with connection.Listener(path) as listener:
        pathlib.Path(f"{path}.ready").touch()
        while True:
            threading.Thread(target=engine.serve, args=[listener.accept()], daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
