"""This module answers SMAC's questions about the units, and about what actions order them to do."""

import math
import warnings

import numpy as np

from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.task import ATTACK_DISTANCE, FIRST_ATTACK, NO_OP, NORTH, SIGHT, STOP
from tf_marl.environments.smac_api.battle import Battle
from tf_marl.environments.smac_api.program import Facts
from tf_marl.environments.smac_api.protocol import ABILITY_IDS, TYPE_IDS, Action, ActionRaw, Point, Unit, UnitCommand


class Units(Battle):
    """Holds SMAC's attributes and helper methods about the units."""

    def _rows(self, facts: Facts) -> list[int]:
        """Returns the row in the map's order of each agent, then of the enemy in each slot: U integers."""
        return [*range(self.n_agents), *(self.n_agents + facts.order.astype(int)).tolist()]

    def _unit(self, facts: Facts, row: int) -> Unit:
        kind = self.program.world.scenario.units[row]
        x, y, health, shield, energy, cooldown = facts.units[:, row].tolist()
        return Unit(
            tag=row + 1,
            owner=1 if row < self.n_agents else 2,
            unit_type=kind.type_id,
            pos=Point(x, y),
            radius=kind.radius,
            health=health,
            health_max=kind.hit_points,
            shield=shield,
            shield_max=kind.shield_points,
            energy=energy,
            energy_max=kind.heal.energy_max if kind.heal else 0.0,
            weapon_cooldown=cooldown,
        )

    @property
    def agents(self) -> dict[int, Unit]:
        """Returns the agents' units by agent id, including dead ones; empty before the first `reset`."""
        return {} if self.facts is None else {i: self._unit(self.facts, i) for i in range(self.n_agents)}

    @property
    def enemies(self) -> dict[int, Unit]:
        """Returns the enemies' units by enemy id, including dead ones; empty before the first `reset`.

        Enemy j is the one that action 6 + j attacks.
        """
        if (facts := self.facts) is None:
            return {}
        return {j: self._unit(facts, row) for j, row in enumerate(self._rows(facts)[self.n_agents :])}

    def get_unit_by_id(self, a_id: int) -> Unit:
        """Returns the unit of an agent.

        Args:
            a_id: the agent's id, 0 to N - 1.
        Raises:
            RuntimeError: there is no battle yet.
        """
        return self._unit(self.now, range(self.n_agents)[a_id])

    def get_unit_types(self) -> list[int] | None:
        """Returns the game's type ids of the N agents, then of the M enemies.

        Before the first `reset` it warns and returns None.
        """
        if self.facts is None:
            warnings.warn("unit types are not known yet; call reset() first", stacklevel=2)
            return None
        return [self.program.world.scenario.units[row].type_id for row in self._rows(self.facts)]

    def get_visibility_matrix(self) -> np.ndarray:
        """Returns which units each agent sees, [N, U] bool.

        An agent sees another unit if both are alive and the distance of their centres is less than the sight range.

        Raises:
            RuntimeError: there is no battle yet.
        """
        x, y, health = self.now.units[:3, self._rows(self.now)]
        n = self.n_agents
        near = np.square(x[:n, None] - x) + np.square(y[:n, None] - y) < SIGHT**2
        return near & (health[:n, None] > 0) & (health > 0) & ~np.eye(n, len(x), dtype=bool)

    def get_unit_type_id(self, unit: Unit, ally: bool) -> int:
        """Returns which type bit of its side a unit has; 0 on maps without type bits.

        Args:
            unit: the unit.
            ally: whether it is an agent's unit.
        """
        scenario = self.program.world.scenario
        bits = scenario.agent_type_bits if ally else scenario.enemy_type_bits
        return [TYPE_IDS[name] for name in bits].index(unit.unit_type) if bits else 0

    def get_agent_action(self, a_id: int, action: int) -> Action | None:
        """Returns the order that an action stands for; None for the no-op.

        Args:
            a_id: the agent's id, 0 to N - 1.
            action: the number of the action.
        Raises:
            AssertionError: the action is not available.
            RuntimeError: there is no battle yet.
        """
        self.require(a_id, action)
        if action == NO_OP:
            return None
        unit = self.get_unit_by_id(a_id)
        if action == STOP:
            command = UnitCommand(ABILITY_IDS["stop"], [unit.tag])
        elif action < FIRST_ATTACK:
            goal = unit.pos.toward(action - NORTH, self.options.move_amount)
            command = UnitCommand(ABILITY_IDS["move"], [unit.tag], target_world_space_pos=goal)
        else:
            ability, targets = ("heal", self.agents) if unit.energy_max else ("attack", self.enemies)
            tag = targets[action - FIRST_ATTACK].tag
            command = UnitCommand(ABILITY_IDS[ability], [unit.tag], target_unit_tag=tag)
        return Action(ActionRaw(command))

    def unit_shoot_range(self, agent_id: int) -> float:
        """Returns SMAC's attack distance in map units, which is the same for all units.

        Args:
            agent_id: not used.
        """
        return ATTACK_DISTANCE

    def unit_sight_range(self, agent_id: int) -> float:
        """Returns SMAC's sight range in map units, which is the same for all units.

        Args:
            agent_id: not used.
        """
        return SIGHT

    def unit_max_cooldown(self, unit: Unit) -> float:
        """Returns the number of game loops by which the state divides a unit's cooldown.

        For a healer it is the number by which the state divides its energy. For a type that no agent has it is 15.

        Args:
            unit: the unit.
        """
        kinds = self.program.world.scenario.agents
        return next((kind.cooldown_normaliser for kind in kinds if kind.type_id == unit.unit_type), 15)

    def unit_max_shield(self, unit: Unit) -> float | None:
        """Returns a unit's largest shield, in shield points; None for units without shields.

        Args:
            unit: the unit.
        """
        return unit.shield_max or None

    def only_medivac_left(self, ally: bool) -> bool:
        """Returns whether a side has lost by SMAC's rule for MMM maps; always False on other maps.

        The agents have lost when only Medivacs of them live, or nobody. The enemies have lost when one Medivac alone
        lives.

        Args:
            ally: True for the agents, False for the enemies.
        """
        if self.map_type != scenarios.MMM:
            return False
        left = [unit.unit_type for unit in (self.agents if ally else self.enemies).values() if unit.health > 0]
        medivac = TYPE_IDS["medivac"]
        return set(left) <= {medivac} if ally else left == [medivac]

    @staticmethod
    def distance(x1: float, y1: float, x2: float, y2: float) -> float:
        """Returns the distance between two points, in map units.

        Args:
            x1: map units.
            y1: map units.
            x2: map units.
            y2: map units.
        """
        return math.hypot(x2 - x1, y2 - y1)

    @property
    def death_tracker_ally(self) -> np.ndarray:
        """Returns 1 for each dead agent and 0 for each living one, [N] float64.

        As in SMAC, all are 0 with `reward_sparse`.
        """
        return self._dead()[: self.n_agents]

    @property
    def death_tracker_enemy(self) -> np.ndarray:
        """Returns 1 for each dead enemy and 0 for each living one, [M] float64.

        As in SMAC, all are 0 with `reward_sparse`.
        """
        return self._dead()[self.n_agents :]

    def _dead(self) -> np.ndarray:
        if self.facts is None or self.options.reward_sparse:
            return np.zeros(self.n_agents + self.n_enemies)
        return (self.facts.units[2, self._rows(self.facts)] == 0).astype(np.float64)
