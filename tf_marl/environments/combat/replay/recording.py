"""Battles played once and kept env step by env step."""

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

MOVES = ("no-op", "stop", "north", "south", "east", "west")  # the action after these attacks enemy 0, and so on
_KEPT = ("x", "y", "health", "shield", "energy", "target")  # of the simulator's units


class Unit(NamedTuple):
    """What does not change about a unit."""

    name: str  # of its type
    radius: float  # map units
    max_health: float
    max_shield: float
    max_energy: float  # of those who heal; the others have none


class Battle(NamedTuple):
    """What does not change in the episodes of one recording; N agents, M enemies, U = N + M units."""

    map_name: str
    terrain: np.ndarray  # [32, 32] of ".", "^" (a cliff, for cliff walkers alone) and "#", indexed [x, y]
    agents: tuple[Unit, ...]
    enemies: tuple[Unit, ...]
    sight: float  # map units, how far agents see
    attack_distance: float  # map units, how far enemies may be for SMAC to allow an attack
    seed: tuple[int, ...]  # two numbers, the recording's

    @property
    def units(self) -> tuple[Unit, ...]:
        return self.agents + self.enemies

    @property
    def unit_types(self) -> list[str]:
        """Names, each once."""
        return list(dict.fromkeys(unit.name for unit in self.units))

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the A actions."""
        return MOVES + tuple(f"attack {j}" for j in range(len(self.enemies)))


class Episode(NamedTuple):
    """One episode of T env steps; row t of [T + 1, ...] is the battle after t of them."""

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
    reward: np.ndarray  # [T], likewise
    value: np.ndarray | None  # [T + 1, N]: the critic's, if there is one

    @property
    def num_steps(self) -> int:
        return len(self.reward)

    def aims(self, t: int) -> list[int]:
        """[U]: the unit that each unit attacks or heals on the way from row t to t + 1, or -1.

        A unit whose target dies in that step has none any more at its end; then it is the one it was told to attack.
        """
        n, health = len(self.battle.agents), self.health
        aims = self.target[t + 1].tolist()
        for u, unit in enumerate(self.battle.units):
            if u >= n:
                told = int(self.target[t, u])
            elif (slot := int(self.action[t, u]) - len(MOVES)) >= 0:
                told = slot if unit.max_energy else n + int(self.slots[slot])
            else:
                told = -1
            if aims[u] < 0 <= told and health[t, told] > 0 >= health[t + 1, told]:
                aims[u] = told
        return aims


def record(
    world: "CompiledWorld",
    policy: "tf_policy.TFPolicy",
    seed: Sequence[int],
    episodes: int,
) -> list[Episode]:
    """Plays as `Evaluator` does, one episode in each environment of `world`, and keeps the first of them.

    Args:
        world: B battles, a `Combat`. B is part of what a seed means: an evaluation's episodes need that evaluation's B.
        policy: greedy, as a rule; if its `info` tells a `value` [B, N], or [B, 1] of the team, that is kept too.
        seed: two numbers; equal seeds and weights give equal episodes.
        episodes: how many to keep, at most B.
    Returns:
        The episodes of the battles 0 to `episodes` - 1.
    """
    import tensorflow as tf

    from tf_marl.compile import graph
    from tf_marl.environments.combat.task import ATTACK_DISTANCE, SIGHT

    def kept(state: "State") -> dict[str, tf.Tensor]:
        """What is kept of a moment, battles last."""
        time_step = world.time_step(state)
        return {name: getattr(state.units, name) for name in _KEPT} | {
            "order": state.order,
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
        """Also returns: what the policy tells of the moment before."""
        state, _, action_step = world.play_step(policy, seed, t, state, world.time_step(state), policy_state)
        told = {"value": tf.transpose(action_step.info["value"])} if "value" in policy.info_spec else {}
        return state, action_step.state, kept(state), told

    state, policy_state, moment = start()
    moments = []
    going = np.ones(episodes, bool)
    for t in itertools.count():
        # One step beyond the last moment, which tells what that was worth.
        state, policy_state, after, told = step(state, policy_state, tf.constant(t))
        moments.append(moment | told)
        if not going.any():
            break
        moment = after
        going &= ~moment["last"].numpy()[:episodes]
    film = {name: np.stack([moment[name].numpy()[..., :episodes] for moment in moments]) for name in moments[0]}

    # Not typed as such: that would tie `Combat`, which writes replays, and this file in a circle.
    scenario = world.scenario  # type: ignore[attr-defined]

    def look(unit: "UnitType") -> Unit:
        energy = unit.heal.energy_max if unit.heal else 0.0
        return Unit(unit.name, unit.radius, unit.hit_points, unit.shield_points, energy)

    battle = Battle(
        map_name=scenario.name,
        terrain=np.where(scenario.pathable, ".", np.where(scenario.cliffs, "^", "#")),
        agents=tuple(map(look, scenario.agents)),
        enemies=tuple(map(look, scenario.enemies)),
        sight=SIGHT,
        attack_distance=ATTACK_DISTANCE,
        seed=tuple(int(word) for word in seed),
    )
    return [cut(battle, {name: column[..., i] for name, column in film.items()}) for i in range(episodes)]


def cut(battle: Battle, film: dict[str, np.ndarray]) -> Episode:
    """Cuts one battle's film [>= T + 1, ...] at the end of its first episode."""
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
