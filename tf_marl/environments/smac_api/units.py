"""This module answers SMAC's questions about the units, and about what actions order them to do."""

import math
import warnings

import numpy as np

from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.task import FIRST_ATTACK, NO_OP, NORTH, STOP, TINY, attack_distance, sight_range
from tf_marl.environments.combat.units import UnitType
from tf_marl.environments.smac_api.battle import Battle
from tf_marl.environments.smac_api.program import Facts
from tf_marl.environments.smac_api.protocol import ABILITY_IDS, TYPE_IDS, Action, ActionRaw, Point, Unit, UnitCommand


class Units(Battle):
    """Holds SMAC's attributes and helper methods about the units."""

    def _rows(self, facts: Facts) -> list[int]:
        """Returns the row in the map's order of each agent, then of the enemy in each slot: U integers."""
        return [*range(self.n_agents), *(self.n_agents + facts.order.astype(int)).tolist()]

    def _type(self, facts: Facts, row: int) -> UnitType:
        scenario = self.program.world.scenario
        return scenario.lottery.types[int(facts.units[6, row])] if scenario.lottery else scenario.units[row]

    def _unit(self, facts: Facts, row: int) -> Unit:
        kind = self._type(facts, row)
        x, y, health, shield, energy, cooldown, _ = facts.units[:, row].tolist()
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
        return [self._type(self.facts, row).type_id for row in self._rows(self.facts)]

    def get_visibility_matrix(self) -> np.ndarray:
        """Returns which units each agent sees, [N, U] bool.

        An agent sees another unit if both are alive and the distance of their centres is less than the sight range.

        Raises:
            RuntimeError: there is no battle yet.
        """
        x, y, health = self.now.units[:3, self._rows(self.now)]
        n = self.n_agents
        sight = np.array([[self.unit_sight_range(agent)] for agent in range(n)])
        near = np.square(x[:n, None] - x) + np.square(y[:n, None] - y) < sight**2
        seen = near & (health[:n, None] > 0) & (health > 0)
        # Of two agents, the one with the lower id decides for both, as in SMAC. Sight ranges differ in SMACv2.
        pairs = np.triu(seen[:, :n], 1)
        return np.concatenate([pairs | pairs.T, seen[:, n:]], axis=1)

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
        """Returns the order that an action stands for; None for the no-op and what else orders nothing.

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
        elif action < self.n_actions_no_attack:  # a look
            return None
        else:
            ability, targets = ("heal", self.agents) if unit.energy_max else ("attack", self.enemies)
            target = targets[action - self.n_actions_no_attack]
            if not self.get_can_shoot(a_id, target):
                return None
            command = UnitCommand(ABILITY_IDS[ability], [unit.tag], target_unit_tag=target.tag)
        return Action(ActionRaw(command))

    def _ranges(self, agent_id: int) -> tuple[UnitType, Options, bool]:
        scenario = self.program.world.scenario
        kind = self._type(self.now, agent_id) if scenario.lottery else scenario.agents[agent_id]
        return kind, self.options, scenario.lottery is not None

    def unit_shoot_range(self, agent_id: int) -> float:
        """Returns an agent's attack distance in map units, which is SMAC's 6 without `use_unit_ranges`.

        Args:
            agent_id: 0 to N - 1.
        """
        return attack_distance(*self._ranges(agent_id))

    def unit_sight_range(self, agent_id: int) -> float:
        """Returns an agent's sight range in map units, which is SMAC's 9 without `use_unit_ranges`.

        Args:
            agent_id: 0 to N - 1.
        """
        return sight_range(*self._ranges(agent_id))

    @property
    def fov_directions(self) -> np.ndarray:
        """Returns the directions in which the agents look, [N, 2], of length 1; to the east without `conic_fov`."""
        if self.facts is None or not self.options.conic_fov:
            return np.tile([1.0, 0.0], (self.n_agents, 1))
        return self.canonical_fov_directions[self.facts.look.astype(int)]

    def is_position_in_cone(self, agent_id: int, pos: Point, range: str = "sight_range") -> bool:  # noqa: A002 - SMACv2's
        """Returns whether a place is in an agent's cone of view, by SMACv2's arctangents.

        Args:
            agent_id: 0 to N - 1.
            pos: the place.
            range: `sight_range` or `shoot_range`, how far the cone goes.
        """
        reach = {"sight_range": self.unit_sight_range, "shoot_range": self.unit_shoot_range}[range](agent_id)
        x, y, *_ = self.get_unit_by_id(agent_id).pos
        (look_x, look_y), dx, dy = self.fov_directions[agent_id], pos.x - x, pos.y - y
        side = 1 if dx > 0 else -1
        angle = math.atan(dy / (side * max(side * dx, TINY)))
        middle = math.atan(look_y / (side * max(side * look_x, TINY)))
        return math.hypot(dx, dy) <= reach and abs(angle - middle) < self.conic_fov_angle / 2

    def get_can_shoot(self, a_id: int, t_unit: Unit) -> bool:
        """Returns whether a unit is near enough for an agent to attack or to heal it.

        Args:
            a_id: 0 to N - 1.
            t_unit: the unit.
        """
        if self.options.conic_fov:
            return self.is_position_in_cone(a_id, t_unit.pos, range="shoot_range")
        return self.distance(*self.get_unit_by_id(a_id).pos, *t_unit.pos) <= self.unit_shoot_range(a_id)

    def get_true_avail_agent_actions(self, agent_id: int) -> list[int]:
        """Returns a list of A numbers: 1 for an action that the agent may take and whose target is near enough, else 0.

        It differs from `get_avail_agent_actions` without `action_mask`.

        Args:
            agent_id: 0 to N - 1.
        """
        may = self.now.avail_actions[agent_id].astype(int).tolist()
        unit, first = self.get_unit_by_id(agent_id), self.n_actions_no_attack
        targets = self.agents if unit.energy_max else self.enemies
        for slot in [slot for slot in range(len(may) - first) if may[first + slot]]:
            may[first + slot] = int(self.get_can_shoot(agent_id, targets[slot]))
        return may

    def get_capabilities_agent(self, agent_id: int) -> np.ndarray:
        """Returns the one-hot vector of an agent's type, float32 [type bits]; empty on maps without type bits.

        Args:
            agent_id: 0 to N - 1.
        """
        size = len(self.capability_attr_names)
        kind = self.get_unit_type_id(self.get_unit_by_id(agent_id), True)
        return np.eye(size, dtype=np.float32)[kind] if size else np.zeros(0, np.float32)

    def get_capabilities(self) -> np.ndarray:
        """Returns the one-hot vectors of all agents' types, one after the other, float32 [N * type bits]."""
        return np.concatenate([self.get_capabilities_agent(agent) for agent in range(self.n_agents)])

    def unit_max_cooldown(self, unit: Unit) -> float:
        """Returns the number of game loops by which the state divides a unit's cooldown.

        For a healer it is the number by which the state divides its energy. For a type that no agent has it is 15.

        Args:
            unit: the unit.
        """
        scenario = self.program.world.scenario
        kinds = scenario.lottery.types if scenario.lottery else scenario.agents
        return next((kind.cooldown_normaliser for kind in kinds if kind.type_id == unit.unit_type), 15)

    def unit_max_shield(self, unit: Unit) -> float | None:
        """Returns a unit's largest shield, in shield points; None for units without shields.

        Args:
            unit: the unit.
        """
        return unit.shield_max or None

    def only_medivac_left(self, ally: bool) -> bool:
        """Returns whether a side has lost by SMAC's rule for maps with Medivacs; always False on other maps.

        The agents have lost when only Medivacs of them live, or nobody. The enemies have lost when one Medivac alone
        lives; in SMACv2's scenarios, when only Medivacs live, or nobody.

        Args:
            ally: True for the agents, False for the enemies.
        """
        if self.map_type not in scenarios.MAP_TYPES_WITH_MEDIVACS:
            return False
        left = [unit.unit_type for unit in (self.agents if ally else self.enemies).values() if unit.health > 0]
        medivac = TYPE_IDS["medivac"]
        return set(left) <= {medivac} if ally or self.program.world.task.is_drawn else left == [medivac]

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
