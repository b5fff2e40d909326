"""This program stands in for StarCraft II: python standin.py SETTINGS -listen HOST -port PORT ...

pysc2 starts it and talks to it by websocket and protobuf, as it does to the game. The battles are computed in another
process, `engine.py`. SETTINGS is a JSON file with these entries, of which only `engine` is required:

    engine          path of the engine's socket
    start_seconds   seconds that the start takes
    step_seconds    seconds that every step takes
    faults          list of [launch, step, kind]: faults to show, with launches and their steps counted from 0
    fault_rate      probability of a random fault at every step
    fault_kinds     kinds of random faults
    backwards       whether units are listed in the opposite of the map's order

Kinds of faults at a step:

    die             the process ends
    hang            it never answers
    drop            it closes the connection and goes on running
    garble          it answers with an error

Kinds of faults at step -1, the start:

    refuse          it ends before anybody can connect
    no_units        it never shows units
    one_battle      it shows no units after the first battle

When both sides are gone, the game spawns new units within the same step. The stand-in does so at the next step, and
shows them at once.
"""

import base64
import hashlib
import itertools
import json
import os
import pathlib
import random
import socket
import struct
import sys
import time
from multiprocessing import connection

from s2clientprotocol import sc2api_pb2 as sc2

STOP, MOVE, ATTACK, HEAL = 4, 16, 23, 386  # abilities
LOOPS_PER_STEP = 8


class WebSocket:
    """Implements the server's side of one connection (RFC 6455), as far as pysc2's client needs it."""

    def __init__(self, stream: socket.socket):
        self._file = stream.makefile("rwb")
        head = b"".join(iter(self._file.readline, b"\r\n")).decode()
        key = next(line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("sec-websocket-key"))
        accept = hashlib.sha1((key.strip() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        self._file.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n"
        )
        self._file.flush()

    def receive(self) -> bytes | None:
        """Reads one message; None if the client has closed the connection."""
        head = self._file.read(2)
        if len(head) < 2 or head[0] & 15 == 8:
            return None
        size = head[1] & 127
        if size == 126:
            (size,) = struct.unpack(">H", self._file.read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._file.read(8))
        mask, data = self._file.read(4), self._file.read(size)
        whole = int.from_bytes(data, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        return whole.to_bytes(size, "big")

    def send(self, data: bytes) -> None:
        size = len(data)
        head = struct.pack(">BB", 130, size) if size < 126 else struct.pack(">BBH", 130, 126, size)
        self._file.write((struct.pack(">BBQ", 130, 127, size) if size >= 2**16 else head) + data)
        self._file.flush()


class Game:
    """Plays one game and answers pysc2's requests."""

    def __init__(self, settings: dict):
        self.engine = connection.Client(settings["engine"])
        self.launch = self.tell("hello", os.getppid())
        self.status = sc2.launched
        self.units: list[dict] = []
        self.num_agents = 0
        self.pathable = b""
        self.loop = 0
        self.steps = 0
        self.chosen: dict[int, int] = {}  # agent -> SMAC's action
        self.killed: set[int] = set()  # tags of units that a debug request has killed
        self._settings = settings

    def tell(self, *message):
        self.engine.send(message)
        return self.engine.recv()

    def fault(self, step: int) -> str | None:
        """Returns the kind of fault to show at this step of this launch; None for no fault."""
        settings = self._settings
        kind = next((k for launch, at, k in settings.get("faults", []) if (launch, at) == (self.launch, step)), None)
        if kind is None and step >= 0 and random.random() < settings.get("fault_rate", 0):
            kind = random.choice(settings["fault_kinds"])
        if kind:
            self.tell("fault", kind)
        return kind

    def living(self) -> list[dict]:
        return [unit for unit in self.units if unit["health"] > 0 and unit["tag"] not in self.killed]

    def answer(self, request: sc2.Request) -> sc2.Response:
        response = sc2.Response(id=request.id)
        name = request.WhichOneof("request")
        getattr(response, name).SetInParent()
        handler = getattr(self, name, None)
        if handler is not None:
            handler(getattr(request, name), getattr(response, name))
        response.status = self.status
        return response

    # Each method below answers the request of its name.

    def ping(self, request, response) -> None:
        response.game_version, response.base_build, response.data_build = "4.10.0", 75689, 75689

    def create_game(self, request, response) -> None:
        map_name = pathlib.Path(request.local_map.map_path).stem
        told = self.tell("create", map_name, request.random_seed)
        self.pathable, self.num_agents = told["pathable"], told["agents"]
        self.units = self.tell("spawn")
        self.status = sc2.init_game

    def join_game(self, request, response) -> None:
        response.player_id = 1
        self.status = sc2.in_game

    def game_info(self, request, response) -> None:
        raw = response.start_raw
        raw.map_size.x = raw.map_size.y = raw.playable_area.p1.x = raw.playable_area.p1.y = 32
        raw.playable_area.p0.x = raw.playable_area.p0.y = 0
        for grid, bits, data in ((raw.pathing_grid, 1, self.pathable), (raw.terrain_height, 8, bytes(32 * 32))):
            grid.bits_per_pixel, grid.data = bits, data
            grid.size.x = grid.size.y = 32

    def data(self, request, response) -> None:
        for unit_type in sorted({unit["unit_type"] for unit in self.units}):
            response.units.add(unit_id=unit_type)

    def observation(self, request, response) -> None:
        response.observation.game_loop = self.loop
        units = [] if self._settings.get("shows_no_units") else self.living()
        for unit in reversed(units) if self._settings.get("backwards") else units:
            shown = response.observation.raw_data.units.add(
                display_type=1, alliance=1 if unit["owner"] == 1 else 4, is_active=True, build_progress=1.0
            )
            shown.pos.x, shown.pos.y = unit["x"], unit["y"]
            for name in unit.keys() - {"x", "y"}:
                setattr(shown, name, unit[name])

    def action(self, request, response) -> None:
        index = {unit["tag"]: i for i, unit in enumerate(self.units)}
        for action in request.actions:
            command = action.action_raw.unit_command
            (tag,) = command.unit_tags
            agent, target = index[tag], index.get(command.target_unit_tag)
            unit = self.units[agent]
            if command.ability_id == STOP:
                self.chosen[agent] = 1
            elif command.ability_id == MOVE:
                dx, dy = command.target_world_space_pos.x - unit["x"], command.target_world_space_pos.y - unit["y"]
                vertical = 2 if dy > 0 else 3
                self.chosen[agent] = vertical if abs(dy) > abs(dx) else 4 if dx > 0 else 5
            else:
                self.chosen[agent] = 6 + target - (0 if command.ability_id == HEAL else self.num_agents)
            response.result.append(1)

    def step(self, request, response) -> None:
        self.loop += request.count
        if not self.living():  # the map spawns new units
            if not self._settings.get("has_one_battle"):
                self.units, self.killed = self.tell("spawn"), set()
        elif request.count == LOOPS_PER_STEP:
            time.sleep(self._settings.get("step_seconds", 0))
            agents = self.units[: self.num_agents]
            actions = [self.chosen.get(i, int(unit["health"] > 0)) for i, unit in enumerate(agents)]
            self.units = self.tell("step", actions)
            self.steps += 1
        self.chosen = {}

    def debug(self, request, response) -> None:
        for command in request.debug:
            self.killed.update(command.kill_unit.tag)

    def save_replay(self, request, response) -> None:
        response.data = b"a replay of %d game loops" % self.loop

    def quit(self, request, response) -> None:
        sys.exit()


def main(settings_file: str, *arguments: str) -> None:
    settings = json.loads(pathlib.Path(settings_file).read_text())
    given = dict(itertools.pairwise(arguments))
    game = Game(settings)
    time.sleep(settings.get("start_seconds", 0))
    fault = game.fault(-1)
    if fault == "refuse":
        sys.exit("no licence, no game")
    settings["shows_no_units"], settings["has_one_battle"] = fault == "no_units", fault == "one_battle"
    with socket.create_server((given["-listen"], int(given["-port"]))) as server:
        stream = server.accept()[0]
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        web = WebSocket(stream)
        while message := web.receive():
            request = sc2.Request.FromString(message)
            is_step = request.WhichOneof("request") == "step" and request.step.count == LOOPS_PER_STEP
            fault = game.fault(game.steps) if is_step else None
            if fault == "die":
                os._exit(139)
            elif fault == "hang":
                time.sleep(3600)
            elif fault == "drop":
                stream.shutdown(socket.SHUT_RDWR)
                time.sleep(3600)
            elif fault == "garble":
                broken = sc2.Response(id=request.id, error=["the game is not itself"], status=game.status)
                web.send(broken.SerializeToString())
                continue
            web.send(game.answer(request).SerializeToString())


if __name__ == "__main__":
    main(*sys.argv[1:])
