"""Battles set up by hand: a scenario of chosen units in chosen places, played without a policy."""

import tf_marl  # noqa: F401  isort: skip

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.environments.combat.environment import Combat, Draws, State
from tf_marl.environments.combat.physics import Orders, Units
from tf_marl.environments.combat.scenarios import Scenario, scenario
from tf_marl.environments.combat.units import unit_types


class Arena:
    """Steps a `Combat` with given places, actions and draws; everything [.., B = 1] is squeezed away."""

    def __init__(self, core: Combat):
        self.core = core
        self._play = tf.function(core.play, jit_compile=True)

    def draws(self, jitter: float = 0.0) -> Draws:
        shape = [len(self.core.scenario.units), self.core.num_envs]
        still = self.core.draw(tf.constant([0, 0]))._replace(spawn=tf.zeros(shape), rally=tf.zeros(shape[1:]))
        return still._replace(cooldown=tf.fill(shape, jitter))

    def start(self, places=None, **fields) -> State:
        """A fresh battle with units at `places` [U, 2], or where they spawn, and further unit fields [U] set."""
        places = np.asarray(self.core.scenario.spawn if places is None else places)
        return self.with_units(self.core.reset(tf.constant([0, 0])), **fields, x=places[:, 0], y=places[:, 1])

    def with_units(self, state: State, **fields) -> State:
        batch = self.core.num_envs
        columns = {
            name: tf.constant(np.repeat(np.asarray(value)[:, None], batch, axis=1), getattr(state.units, name).dtype)
            for name, value in fields.items()
        }
        units = state.units._replace(**columns)
        return state._replace(units=units, available=self.core.task.available(units, self.core.task.agents))

    def orders(self, units: Units, targets: list[int]) -> Orders:
        """The agents attack (healers: heal) those units, -1 for nobody, and do not move; nor do idle enemies."""
        everyone = np.full([len(self.core.scenario.units), self.core.num_envs], -1, np.int32)
        everyone[: len(targets)] = np.array(targets)[:, None]
        return Orders(tf.constant(everyone), tf.zeros(everyone.shape, tf.bool), units.x, units.y)

    def step(self, state: State, action, jitter: float = 0.0) -> State:
        return self._play(state, tf.constant([action] * self.core.num_envs, tf.int32), self.draws(jitter))


TYPES = unit_types("liberty")


def make_scenario(agents: list[str], enemies: list[str], base: str = "3s_vs_3z") -> Scenario:
    """A scenario of these units on open ground; the enemies stay where they are unless somebody is near."""
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
    """(agents, enemies) -> Arena, compiled once for each pair."""
    return lambda agents, enemies: _arena(tuple(agents), tuple(enemies))


@functools.cache
def _map_arena(map_name: str) -> Arena:
    return Arena(Combat(scenario(map_name), 1))


@pytest.fixture(scope="session")
def map_arena():
    """map name -> Arena on that map, one battle."""
    return _map_arena
