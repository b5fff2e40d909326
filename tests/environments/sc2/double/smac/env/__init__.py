"""This module is a double of SMAC's environment for tests without smac. It behaves like smac, on the real pysc2.

It has only what the worker of the `sc2` backend uses: the default observation and state, the shaped reward, and the way
in which SMAC reacts to crashes. Sizes are those of smac on the maps of `MAPS`.
"""

import math
from typing import NamedTuple

import numpy as np
from absl import flags

flags.FLAGS(["smac"])  # smac does this on import

from pysc2 import maps, run_configs  # noqa: E402
from pysc2.lib import protocol  # noqa: E402
from pysc2.maps import lib  # noqa: E402
from s2clientprotocol import common_pb2, debug_pb2, raw_pb2, sc2api_pb2  # noqa: E402

SIGHT, REACH, MOVE_AMOUNT = 9.0, 6.0, 2
STOP, MOVE, ATTACK = 4, 16, 23  # abilities
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))


class Map(NamedTuple):
    """Describes a map, as SMAC's registry of maps does."""

    agents: int
    enemies: int
    limit: int  # of an episode, in env steps
    race: int
    types: tuple[int, ...]  # the agents' type ids minus the lowest one, in the order of their bits; empty without bits
    enemy_types: tuple[int, ...]  # the enemies' type ids, in the order of their bits; empty without bits
    cooldowns: tuple[int, ...]  # longest weapon cooldown of each agent type, in game loops
    max_shields: dict[int, int]  # by enemy type id, and by agent type (0, 1, ...); empty if no unit has shields


MAPS = {
    "3m": Map(3, 3, 60, common_pb2.Terran, (), (), (15,), {}),
    "2s3z": Map(5, 5, 120, common_pb2.Protoss, (0, 1), (73, 74), (35, 22), {74: 80, 73: 50, 0: 80, 1: 50}),
    "bane_vs_bane": Map(24, 24, 200, common_pb2.Zerg, (0, 1), (9, 105), (1, 11), {}),
}


class SMACMap(lib.Map):
    directory = "SMAC_Maps"
    players = 2
    game_steps_per_episode = 0


for _name in MAPS:
    globals()[_name] = type(_name, (SMACMap,), {"filename": _name})


class StarCraft2Env:
    """Plays one battle at a time with the interface of `smac.env.StarCraft2Env`."""

    def __init__(self, map_name="8m", step_mul=8, seed=None, continuing_episode=False, **options):
        self.map_name = map_name
        self._map = MAPS[map_name]
        self.n_agents, self.n_enemies = self._map.agents, self._map.enemies
        self.episode_limit = self._map.limit
        self.n_actions = 6 + self.n_enemies
        self.max_reward = 10 * self.n_enemies + 200
        self._step_mul = step_mul
        self._seed = seed
        self._continuing_episode = continuing_episode
        self._episode_count = 0
        self._process = None
        self.replay_dir = ""

    def _launch(self):
        config = run_configs.get()
        self._config = config
        self._process = config.start(window_size=(640, 480), want_rgb=False)
        self._game = self._process.controller
        path = maps.get(self.map_name).path
        create = sc2api_pb2.RequestCreateGame(
            local_map=sc2api_pb2.LocalMap(map_path=path, map_data=config.map_data(path)), random_seed=self._seed
        )
        create.player_setup.add(type=sc2api_pb2.Participant)
        create.player_setup.add(type=sc2api_pb2.Computer, race=self._map.race, difficulty=sc2api_pb2.VeryHard)
        self._game.create_game(create)
        options = sc2api_pb2.InterfaceOptions(raw=True)
        self._game.join_game(sc2api_pb2.RequestJoinGame(race=self._map.race, options=options))
        raw = self._game.game_info().start_raw
        bits = np.unpackbits(np.frombuffer(raw.pathing_grid.data, np.uint8))
        self._pathable = bits.reshape(raw.map_size.y, raw.map_size.x).T.astype(bool)
        self._size = raw.map_size.x

    def full_restart(self):
        self._process.close()
        self._launch()

    def close(self):
        if self._process:
            self._process.close()

    def reset(self):
        if self._episode_count == 0:
            self._launch()
        else:
            living = [u.tag for u in (*self.agents.values(), *self.enemies.values()) if u.health > 0]
            try:
                self._game.debug([debug_pb2.DebugCommand(kill_unit=debug_pb2.DebugKillUnit(tag=living))])
                self._game.step(2)
            except (protocol.ProtocolError, protocol.ConnectionError):
                self.full_restart()
        self._steps = 0
        self._last_action = np.zeros((self.n_agents, self.n_actions))
        try:
            while not self._see_units():
                self._game.step(1)
        except (protocol.ProtocolError, protocol.ConnectionError):
            self.full_restart()
        return self.get_obs(), self.get_state()

    def _see_units(self):
        units = self._game.observe().observation.raw_data.units
        agents = sorted((u for u in units if u.owner == 1), key=lambda u: (u.unit_type, u.pos.x, u.pos.y))
        self.agents = dict(enumerate(agents))
        self.enemies = dict(enumerate(u for u in units if u.owner == 2))
        if self._episode_count == 0:  # as in smac, a second call in the first episode adds to max_reward again
            self.max_reward += sum(u.health_max + u.shield_max for u in self.enemies.values())
            self._lowest_type = min(u.unit_type for u in agents)  # as in smac, raises if there are no agents
        return len(self.agents) == self.n_agents and len(self.enemies) == self.n_enemies

    def step(self, actions):
        self._last_action = np.eye(self.n_actions)[actions]
        commands = []
        for i, action in enumerate(actions):
            assert self.get_avail_agent_actions(i)[action], f"agent {i} cannot take action {action}"
            unit = self.agents[i]
            command = raw_pb2.ActionRawUnitCommand(unit_tags=[unit.tag])
            if action == 0:
                continue
            if action == 1:
                command.ability_id = STOP
            elif action < 6:
                dx, dy = DIRECTIONS[action - 2]
                command.ability_id = MOVE
                command.target_world_space_pos.x = unit.pos.x + MOVE_AMOUNT * dx
                command.target_world_space_pos.y = unit.pos.y + MOVE_AMOUNT * dy
            else:
                command.ability_id = ATTACK
                command.target_unit_tag = self.enemies[action - 6].tag
            commands.append(sc2api_pb2.Action(action_raw=raw_pb2.ActionRaw(unit_command=command)))
        try:
            self._game.actions(sc2api_pb2.RequestAction(actions=commands))
            self._game.step(self._step_mul)
            seen = {u.tag: u for u in self._game.observe().observation.raw_data.units}
        except (protocol.ProtocolError, protocol.ConnectionError):
            self.full_restart()
            return 0, True, {}
        self._steps += 1
        reward = 0.0
        for side, counts in ((self.agents, False), (self.enemies, True)):
            for i, before in list(side.items()):
                health = before.health + before.shield
                after = seen.get(before.tag)
                if after is None:
                    if counts and before.health > 0:
                        reward += health + 10
                    before.health = 0
                else:
                    side[i] = after
                    reward += counts * (health - after.health - after.shield)
        allies, enemies = (any(u.health > 0 for u in side.values()) for side in (self.agents, self.enemies))
        reward = abs(reward) + 200 * (allies and not enemies)
        info = {"battle_won": allies and not enemies}
        terminated = not (allies and enemies)
        if not terminated and self._steps >= self.episode_limit:
            terminated = True
            if self._continuing_episode:
                info["episode_limit"] = True
        self._episode_count += terminated
        return reward / (self.max_reward / 20), terminated, info

    def get_unit_by_id(self, i):
        return self.agents[i]

    def get_avail_agent_actions(self, i):
        unit = self.agents[i]
        if unit.health == 0:
            return [1] + [0] * (self.n_actions - 1)
        cells = [(int(unit.pos.x + dx), int(unit.pos.y + dy)) for dx, dy in DIRECTIONS]
        moves = [all(0 <= c < self._size for c in cell) and self._pathable[cell] for cell in cells]
        attacks = [e.health > 0 and _distance(unit, e) <= REACH for e in self.enemies.values()]
        return [0, 1, *map(int, moves), *map(int, attacks)]

    def get_avail_actions(self):
        return [self.get_avail_agent_actions(i) for i in range(self.n_agents)]

    def get_obs(self):
        return [self._obs(i) for i in range(self.n_agents)]

    def _obs(self, i):
        me, available = self.agents[i], self.get_avail_agent_actions(i)
        others = [(j, u, False) for j, u in self.agents.items() if j != i]
        rows = []
        for j, unit, is_enemy in [(j, u, True) for j, u in self.enemies.items()] + others:
            row = [0.0] * (5 + bool(self._map.max_shields) + len(self._map.types))
            distance = _distance(me, unit)
            if me.health > 0 and unit.health > 0 and distance < SIGHT:
                first = available[6 + j] if is_enemy else 1
                row = [first, distance / SIGHT, (unit.pos.x - me.pos.x) / SIGHT, (unit.pos.y - me.pos.y) / SIGHT]
                row += [unit.health / unit.health_max, *self._shield(unit, is_enemy), *self._bits(unit, is_enemy)]
            rows += row
        own = [me.health / me.health_max, *self._shield(me, False), *self._bits(me, False)]
        if me.health == 0:
            own = [0.0] * len(own)
        return np.array([*available[2:6], *rows, *own], np.float32)

    def get_state(self):
        rows, half = [], self._size / 2
        for is_enemy, side in ((False, self.agents), (True, self.enemies)):
            for unit in side.values():
                cooldown = [] if is_enemy else [unit.weapon_cooldown / self._map.cooldowns[self._type(unit)]]
                row = [unit.health / unit.health_max, *cooldown]
                row += [(unit.pos.x - half) / self._size, (unit.pos.y - half) / self._size]
                row += [*self._shield(unit, is_enemy), *self._bits(unit, is_enemy)]
                rows += row if unit.health > 0 else [0.0] * len(row)
        return np.array([*rows, *self._last_action.flatten()], np.float32)

    def _type(self, unit):
        return unit.unit_type - self._lowest_type

    def _bits(self, unit, is_enemy):
        kinds = self._map.enemy_types if is_enemy else self._map.types
        kind = unit.unit_type if is_enemy else self._type(unit)
        return [float(kind == other) for other in kinds]

    def _shield(self, unit, is_enemy):
        kind = unit.unit_type if is_enemy else self._type(unit)
        return [unit.shield / self._map.max_shields[kind]] if self._map.max_shields else []

    def save_replay(self):
        self._config.save_replay(self._game.save_replay(), replay_dir=self.replay_dir, prefix=self.map_name)


def _distance(one, other):
    return math.hypot(other.pos.x - one.pos.x, other.pos.y - one.pos.y)
