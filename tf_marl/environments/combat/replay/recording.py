"""A recording plays battles once and keeps them env step by env step.

The letters in all shapes: T env steps, N agents, M enemies, U = N + M units, A actions, B battles.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf
    from tf_agents.policies import tf_policy
    from tf_agents.typing import types

    from tf_marl.environments.combat.units import UnitType
    from tf_marl.environments.world import CompiledWorld, State

MOVES = ("no-op", "stop", "north", "south", "east", "west")
_KEPT = ("x", "y", "health", "shield", "energy", "target")  # the fields of physics.Units that are kept


class Unit(NamedTuple):
    """Describes what does not change about a unit."""

    name: str  # of its type
    radius: float  # map units
    max_health: float
    max_shield: float
    max_energy: float  # of healers; 0 for other units
    sight: float = 9.0  # map units, how far it sees as an agent
    attack_distance: float = 6.0  # map units, how far its targets may be for SMAC to allow an attack


class Battle(NamedTuple):
    """Describes what does not change in an episode; N agents, M enemies, U = N + M units."""

    map_name: str
    terrain: np.ndarray  # [32, 32] of ".", "^" (a cliff, for cliff walkers alone) and "#", indexed [x, y]
    agents: tuple[Unit, ...]
    enemies: tuple[Unit, ...]
    seed: tuple[int, ...]  # two integers: the seed of the recording
    num_looks: int = 0  # directions in which agents can look; 0 where they see all round

    @property
    def units(self) -> tuple[Unit, ...]:
        """Returns the U units: agents first, then enemies."""
        return self.agents + self.enemies

    @property
    def moves(self) -> tuple[str, ...]:
        """Returns the names of the actions that come before the attacks."""
        return MOVES + tuple(f"look to {360 * i / self.num_looks:g}°" for i in range(self.num_looks))

    @property
    def actions(self) -> tuple[str, ...]:
        """Returns the names of the A actions."""
        return self.moves + tuple(f"attack {j}" for j in range(len(self.enemies)))


class Episode(NamedTuple):
    """Holds one episode of T env steps. Row t of an array [T + 1, ...] is the battle after t steps."""

    battle: Battle
    outcome: str  # won, lost, draw (everyone is dead) or timeout
    slots: np.ndarray  # [M] int: the enemy that each attack action names
    x: np.ndarray  # [T + 1, U] map units, to the east
    y: np.ndarray  # [T + 1, U] map units, to the north
    health: np.ndarray  # [T + 1, U] hit points; 0 is dead
    shield: np.ndarray  # [T + 1, U] shield points
    energy: np.ndarray  # [T + 1, U]
    target: np.ndarray  # [T + 1, U] int: the unit that this one attacks or heals, or -1
    available: np.ndarray  # [T + 1, N, A] bool
    action: np.ndarray  # [T, N] int: row t leads from t to t + 1
    reward: np.ndarray  # [T]: row t is what the step from t to t + 1 earned
    value: np.ndarray | None  # [T + 1, N]: the critic's values, or None without a critic

    @property
    def num_steps(self) -> int:
        """Returns T, the number of env steps in the episode."""
        return len(self.reward)

    def aims(self, t: int) -> list[int]:
        """Returns whom each unit attacks or heals from row t to row t + 1: U indices of units, -1 for nobody.

        A unit whose target dies in that step has no target any more when the step ends. Its aim is then the unit that
        it was ordered to attack.

        Args:
            t: the row at which the step starts, 0 to T - 1.
        """
        n, health, first_attack = len(self.battle.agents), self.health, len(self.battle.moves)
        aims = self.target[t + 1].tolist()
        for u, unit in enumerate(self.battle.units):
            if u >= n:
                told = int(self.target[t, u])
            elif (slot := int(self.action[t, u]) - first_attack) >= 0:
                told = slot if unit.max_energy else n + int(self.slots[slot])
            else:
                told = -1
            if aims[u] < 0 <= told and health[t, told] > 0 >= health[t + 1, told]:
                aims[u] = told
        return aims


def unit_types(episodes: list[Episode]) -> list[str]:
    """Returns the names of the unit types in some episodes, each once.

    Args:
        episodes: all from one recording.
    """
    return list(dict.fromkeys(unit.name for episode in episodes for unit in episode.battle.units))


def record(
    world: "CompiledWorld",
    policy: "tf_policy.TFPolicy",
    seed: Sequence[int],
    episodes: int,
) -> list[Episode]:
    """Plays one episode in each environment of a world, as `Evaluator` does, and keeps the first of them.

    Args:
        world: a `Combat` with B battles. B is part of what a seed means, so the episodes of an evaluation need that
            evaluation's B.
        policy: the team that plays, usually greedily. If its `info` holds a `value`, [B, N] or [B, 1] for the whole
            team, that is kept too.
        seed: two integers. Equal seeds and weights give equal episodes.
        episodes: how many episodes to keep, at most B.
    Returns:
        The episodes of the first battles, `episodes` of them.
    """
    import tensorflow as tf

    from tf_marl.compile import graph
    from tf_marl.environments.combat.task import attack_distance, sight_range

    # `world` is not typed as `Combat`: `Combat` writes replays, so the two files would import each other.
    scenario, task = world.scenario, world.task  # type: ignore[attr-defined]

    def kept(state: "State") -> dict[str, tf.Tensor]:
        """Returns what is kept of a moment, as tensors by name, with B as the last axis."""
        time_step = world.time_step(state)
        return {name: getattr(state.units, name) for name in _KEPT} | {
            "order": state.order,
            **({} if scenario.lottery is None else {"kinds": state.kinds}),
            "available": state.available,
            "action": state.last_action,
            "reward": time_step.reward,
            "last": time_step.is_last(),
            "terminated": time_step.discount == 0.0,
            "won": world.info(state)["battle_won"],
        }

    @graph.function(jit_compile=True)
    def start() -> "tuple[State, types.NestedTensor, dict[str, tf.Tensor]]":
        state = world.reset(seed)
        return state, policy.get_initial_state(world.num_envs), kept(state)

    @graph.function(jit_compile=True)
    def step(
        state: "State", policy_state: "types.NestedTensor", t: tf.Tensor
    ) -> "tuple[State, types.NestedTensor, dict[str, tf.Tensor], dict[str, tf.Tensor]]":
        """Plays one env step; its last result is what the policy says about the moment before the step."""
        state, _, action_step = world.play_step(policy, seed, t, state, world.time_step(state), policy_state)
        told = {"value": tf.transpose(action_step.info["value"])} if "value" in policy.info_spec else {}
        return state, action_step.state, kept(state), told

    state, policy_state, moment = start()
    moments = []
    going = np.ones(episodes, bool)
    for t in itertools.count():
        # One step goes beyond the last moment, because only a step tells the value of the moment before it.
        state, policy_state, after, told = step(state, policy_state, tf.constant(t))
        moments.append(moment | told)
        if not going.any():
            break
        moment = after
        going &= ~moment["last"].numpy()[:episodes]
    film = {name: np.stack([moment[name].numpy()[..., :episodes] for moment in moments]) for name in moments[0]}

    def look(unit: "UnitType") -> Unit:
        energy, ranges = unit.heal.energy_max if unit.heal else 0.0, (unit, task.options, task.is_drawn)
        return Unit(
            unit.name,
            unit.radius,
            unit.hit_points,
            unit.shield_points,
            energy,
            sight_range(*ranges),
            attack_distance(*ranges),
        )

    def battle(number: int) -> Battle:
        types = scenario.units
        if scenario.lottery is not None:
            types = [scenario.lottery.types[kind] for kind in film["kinds"][0, :, number]]
        units = tuple(map(look, types))
        return Battle(
            map_name=scenario.name,
            terrain=np.where(scenario.pathable, ".", np.where(scenario.cliffs, "^", "#")),
            agents=units[: scenario.num_agents],
            enemies=units[scenario.num_agents :],
            seed=tuple(int(word) for word in seed),
            num_looks=task.num_looks,
        )

    return [cut(battle(i), {name: column[..., i] for name, column in film.items()}) for i in range(episodes)]


def cut(battle: Battle, film: dict[str, np.ndarray]) -> Episode:
    """Cuts the recording of one battle at the end of its first episode.

    Args:
        battle: what does not change in the recording.
        film: what was kept of each moment, by name: arrays [T + 1 or more, ...].
    Returns:
        The episode.
    """
    end = int(film["last"].argmax())
    film = {name: column[: end + 1] for name, column in film.items()}
    living, value = film["health"][end] > 0, film.get("value")
    if film["won"][end]:
        outcome = "won"
    elif not film["terminated"][end]:
        outcome = "timeout"
    else:
        outcome = "lost" if living.any() else "draw"
    return Episode(
        battle=battle,
        outcome=outcome,
        # Empty where the enemies are not shuffled.
        slots=film["order"][0] if film["order"].size else np.arange(len(battle.enemies)),
        **{name: film[name] for name in _KEPT},
        available=film["available"],
        value=np.repeat(value, len(battle.agents) // value.shape[1], axis=1) if value is not None else None,
        action=film["action"][1:],
        reward=film["reward"][1:],
    )
