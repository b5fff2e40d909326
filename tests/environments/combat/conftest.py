"""This module sets up battles of chosen units in chosen places, and plays them without a policy."""

import tf_marl  # noqa: F401  isort: skip

import dataclasses
import functools
import types
from collections.abc import Mapping

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.compile import graph
from tf_marl.environments.combat.environment import Combat, Draws, State
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.physics import Orders, Units
from tf_marl.environments.combat.scenarios import Scenario, scenario
from tf_marl.environments.combat.task import FIRST_ATTACK, NO_OP, STOP
from tf_marl.environments.combat.units import unit_types


class Arena:
    """Steps a `Combat` with given places, actions and random draws. All of its battles get the same."""

    def __init__(self, world: Combat):
        self.world = world
        self._play = graph.function(world.play, jit_compile=True)

    def draws(self, jitter: float = 0.0) -> Draws:
        shape = [len(self.world.scenario.units), self.world.num_envs]
        still = self.world.draw(tf.constant([0, 0]))._replace(spawn=tf.zeros(shape), rally=tf.zeros(shape[1:]))
        return still._replace(cooldown=tf.fill(shape, jitter))

    def start(self, places=None, **fields) -> State:
        """Starts a battle with units at `places`, [U, 2], or where they spawn. `fields` set other unit fields, [U]."""
        places = np.asarray(self.world.scenario.spawn if places is None else places)
        return self.with_units(self.world.reset(tf.constant([0, 0])), **fields, x=places[:, 0], y=places[:, 1])

    def with_units(self, state: State, **fields) -> State:
        batch = self.world.num_envs
        columns = {
            name: tf.constant(np.repeat(np.asarray(value)[:, None], batch, axis=1), getattr(state.units, name).dtype)
            for name, value in fields.items()
        }
        units = state.units._replace(**columns)
        return state._replace(units=units, available=self.world.task.available(units, self.world.task.agents))

    def orders(self, units: Units, targets: list[int]) -> Orders:
        """Orders agents to attack or heal their targets (-1 for nobody). Nobody moves, and enemies do nothing."""
        everyone = np.full([len(self.world.scenario.units), self.world.num_envs], -1, np.int32)
        everyone[: len(targets)] = np.array(targets)[:, None]
        return Orders(tf.constant(everyone), tf.zeros(everyone.shape, tf.bool), units.x, units.y)

    def step(self, state: State, action, jitter: float = 0.0) -> State:
        return self._play(state, tf.constant([action] * self.world.num_envs, tf.int32), self.draws(jitter))


TYPES = unit_types("liberty")


def make_scenario(agents: list[str], enemies: list[str], base: str = "3s_vs_3z") -> Scenario:
    """Makes a scenario of these units on open ground. The enemies stay where they are unless somebody is near."""
    units = tuple(TYPES[name] for name in agents + enemies)
    return dataclasses.replace(
        scenario(base),
        name="arena",
        agents=units[: len(agents)],
        enemies=units[len(agents) :],
        spawn=np.array(
            [[4.0 + 2 * i, 4.0] for i in range(len(agents))] + [[28.0, 28.0 - 2 * i] for i in range(len(enemies))]
        ),
        attack_segment=np.array([[28.0, 28.0]] * 2),
        agent_type_bits=(),
        enemy_type_bits=(),
        episode_limit=1000,
    )


@functools.cache
def _arena(agents: tuple[str, ...], enemies: tuple[str, ...]) -> Arena:
    return Arena(Combat(make_scenario(list(agents), list(enemies)), 1))


@pytest.fixture(scope="session")
def arena():
    """Gives a function (agents, enemies) -> `Arena`, which is compiled once for each pair of teams."""
    return lambda agents, enemies: _arena(tuple(agents), tuple(enemies))


@functools.cache
def _map_arena(map_name: str) -> Arena:
    return Arena(Combat(scenario(map_name), 1))


@pytest.fixture(scope="session")
def map_arena():
    """Gives a function (map name) -> `Arena` with one battle on that map."""
    return _map_arena


@functools.cache
def _battles(map_name: str):
    world = Combat(scenario(map_name), 16)
    return world, graph.function(world.step, jit_compile=True)


@pytest.fixture(scope="session")
def battles():
    """Gives a function (map name) -> world of 16 battles on that map, and its compiled step."""
    return _battles


ENEMY = "enemy "  # prefix of the names of enemies in a zoo
NOTHING: Mapping[str, int | str] = types.MappingProxyType({})
_GRAVE = (1.0, 1.0)  # where units lie that a test does not use


class Zoo:
    """Plays one compiled battle with every kind of unit on open ground. Each test keeps alive only the units it needs.

    Units have names: `zealot` belongs to the agents, `enemy zealot` to the enemies, and `zergling 2` is the agents'
    second zergling. The enemies have no orders. The battle goes on because one marine of the agents and one enemy spine
    crawler are always alive, in corners far apart. A step is one game loop.
    """

    AGENTS = (
        *("marine", "marine 2", "marauder", "medivac", "stalker", "zealot", "colossus", "zergling"),
        *("baneling", "baneling 2", "hydralisk"),
    )
    ENEMIES = (
        *("marine", "marauder", "medivac", "stalker", "zealot", "colossus", "zergling", "zergling 2", "zergling 3"),
        *("zergling 4", "baneling", "baneling 2", "hydralisk", "spine_crawler"),
    )
    KEEPERS = types.MappingProxyType({"marine 2": (30.0, 30.0), "enemy spine_crawler": (30.0, 2.0)})

    def __init__(self):
        kinds = [[name.split()[0] for name in side] for side in (self.AGENTS, self.ENEMIES)]
        battle = dataclasses.replace(make_scenario(*kinds), enemy_order="none", attack_segment=None)
        self.names = [*self.AGENTS, *(ENEMY + name for name in self.ENEMIES)]
        self.ring = Arena(Combat(battle, 1, Options(step_mul=1)))
        self.max_reward = self.ring.world.task.max_reward

    def start(self, places: dict[str, tuple[float, float]], **fields: dict[str, float]) -> State:
        """Starts a battle of the units at `places`; all others are dead. `health={"marine": 5}` sets a unit's field."""
        places = self.KEEPERS | places
        columns = {"health": [unit.hit_points for unit in self.ring.world.scenario.units]}
        columns["health"] = [
            h if name in places else 0.0 for name, h in zip(self.names, columns["health"], strict=True)
        ]
        for field, values in fields.items():
            if field not in columns:
                columns[field] = getattr(self.ring.start().units, field).numpy()[:, 0]
            for name, value in values.items():
                columns[field][self.names.index(name)] = value
        return self.ring.start([places.get(name, _GRAVE) for name in self.names], **columns)

    def play(
        self, state: State, actions: Mapping[str, int | str] = NOTHING, loops: int = 8, jitter: float = 0.0
    ) -> State:
        """Plays game loops. An action is a number or the name of a unit to attack or heal. Agents without one stop."""
        wanted = [STOP] * len(self.AGENTS)
        for name, action in actions.items():
            agent = self.AGENTS.index(name)
            if isinstance(action, str):
                slots = self.ENEMIES if action.startswith(ENEMY) else self.AGENTS
                action = FIRST_ATTACK + slots.index(action.removeprefix(ENEMY))
            assert state.available[agent, action, 0], f"{name} may not do {action}"
            wanted[agent] = action
        for _ in range(loops):
            alive = state.units.alive.numpy()[: len(wanted), 0]
            state = self.ring.step(state, np.where(alive, wanted, NO_OP), jitter)
        return state

    def unit(self, state: State, name: str) -> types.SimpleNamespace:
        """Returns all fields of one unit as numbers."""
        row = self.names.index(name)
        return types.SimpleNamespace(
            **{field: column.numpy()[row, 0].item() for field, column in state.units._asdict().items()}
        )


@pytest.fixture(scope="session")
def zoo():
    return Zoo()
