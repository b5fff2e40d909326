"""The embedded battle joins SMAC's rules and our physics: B battles at once, in TensorFlow operations alone."""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from tf_marl.environments.combat import physics, replay, scenarios
from tf_marl.environments.combat.options import ENEMIES, SCRIPTS, Options
from tf_marl.environments.combat.roster import choose
from tf_marl.environments.combat.scenarios import Scenario
from tf_marl.environments.combat.scripts import ScriptedPolicy, decide
from tf_marl.environments.combat.task import NO_OP, STOP, Sightings, Task
from tf_marl.environments.world import CompiledWorld


class Draws(NamedTuple):
    """Holds all random numbers of one env step; U units, M enemies, B battles."""

    spawn: tf.Tensor  # [U, B] in [-1, 1]: displacement at spawn, should the battle start anew
    rally: tf.Tensor  # [B] in [0, 1]: where on the map's segment the enemies attack-move, should the battle start anew
    cooldown: tf.Tensor  # [U, B] float: game loops added to the period of an attack started in this step
    order: tf.Tensor  # [M, B] in [0, 1]: the enemies are sorted by it at the start; [0, B] unless they are shuffled
    script: tf.Tensor  # [M, B] uint32, for the enemies' scripts; [0, B] without any
    leader: Any = ()  # [B] in [0, 1): who leads the enemies, should the battle start anew; () where it is always one
    start: Any = ()  # [num_uniforms, B] in [0, 1): types and places, should the battle start anew; () if not drawn
    turn: Any = ()  # [N, B] in [0, 1): the agents look in this order; () where one's sighting is everyone's
    chance: Any = ()  # [N, M, B] in [0, 1): who gets to see an enemy that another agent finds; () likewise


class State(NamedTuple):
    """Holds the states of B battles. The battles are the last axis, as in `physics.py`."""

    units: physics.Units
    rally_x: tf.Tensor  # [B] map units: where the enemies attack-move
    rally_y: tf.Tensor  # [B]
    order: tf.Tensor  # [M, B] int32: the enemy that each attack action names; [0, B] unless they are shuffled
    last_action: tf.Tensor  # [N, B] int32; -1 before the first step
    available: tf.Tensor  # [N, A, B] bool
    step_count: tf.Tensor  # [B] int32, env steps into the episode
    step_type: tf.Tensor  # [B] int32, as in TimeStep
    reward: tf.Tensor  # [B], of the last step
    discount: tf.Tensor  # [B]: 0 if the last step ended the task, else 1, at the time limit too
    battle_won: tf.Tensor  # [B] bool
    illegal_actions: tf.Tensor  # [B] int32: how many unavailable actions were replaced since `reset`
    # What only some scenarios and options need; () where they do not.
    leader: Any = ()  # [B] int32: which of `Options.enemies` leads the enemies, where there are several
    kinds: Any = ()  # [U, B] int32: which of the scenario's types each unit is, where they are drawn
    max_reward: Any = ()  # [B]: the return by which rewards are scaled, where types are drawn
    enemy_target: Any = ()  # [M, B] int32: whom an enemy was ordered to attack, or NOBODY, where types are drawn
    look: Any = ()  # [N, B] int32: the direction in which an agent looks, with `conic_fov`
    last_orders: Any = ()  # physics.Orders, each field [N, B]: what the agents' units were told last, where that counts
    sightings: Any = ()  # task.Sightings, with `prob_obs_enemy` below 1 or `wipe_rows`


class Combat(CompiledWorld):
    """Plays SMAC's maps and SMACv2's scenarios in the embedded battle, B battles side by side.

    Observation:
        `obs` float32 [N, O], `state` float32 [S], `avail_actions` bool [N, A] and `alive` bool [N], as SMAC defines
        them.
    Action:
        int32 [N]: 0 is the no-op (for the dead), 1 is stop, 2 to 5 move north, south, east and west, and 6 + j attacks
        enemy j (a healer heals agent j). With `conic_fov`, actions that look come before the attacks. An unavailable
        action is replaced by stop, for the dead by the no-op, and counted in `illegal_actions`.
    Reward:
        SMAC's shaped reward of the team. A clean win returns 20, on SMACv2's scenarios about 20. Options change it.
    Episode end:
        one side is dead (on maps with medivacs, all but its healers), and the discount is 0. Or the map's time limit is
        reached, and the discount stays 1.

    Args:
        scenario: the map.
        num_envs: B, how many battles run side by side.
        options: SMAC's, SMACv2's and our options.
    """

    outcomes = ("battle_won",)
    replay_suffixes = replay.SUFFIXES
    scripts = SCRIPTS
    enemies = ENEMIES

    def __init__(self, scenario: Scenario, num_envs: int, options: Options = Options()):  # noqa: B008 - it is frozen
        self.name = scenario.name
        self.scenario = scenario
        self.num_envs = num_envs
        self.options = options
        self.unit_types = None if scenario.lottery else tuple(unit.name for unit in scenario.agents)
        self.episode_limit = scenario.episode_limit
        self.physics = physics.Physics(scenario)
        self.task = Task(scenario, options, self.physics)
        self._leaders = tuple(options.enemies)
        self._has_scripts = self._leaders != ("game",)
        n, a = scenario.num_agents, self.task.num_actions
        self.time_step_spec = ts.time_step_spec(
            {
                "obs": tf.TensorSpec([n, self.task.obs_size], tf.float32, "obs"),
                "state": tf.TensorSpec([self.task.state_size], tf.float32, "state"),
                "avail_actions": tf.TensorSpec([n, a], tf.bool, "avail_actions"),
                "alive": tf.TensorSpec([n], tf.bool, "alive"),
            }
        )
        self.action_spec = tensor_spec.BoundedTensorSpec([n], tf.int32, 0, a - 1, "action")

    def resize(self, num_envs: int) -> "Combat":
        return Combat(self.scenario, num_envs, self.options)

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self.options)

    def scripted(self, name: str) -> ScriptedPolicy:
        if name not in SCRIPTS:
            super().scripted(name)
        return ScriptedPolicy(self.time_step_spec, self.action_spec, name, self.task)

    def against(self, enemy: str) -> "Combat":
        if enemy not in ENEMIES:
            super().against(enemy)
        return Combat(self.scenario, self.num_envs, dataclasses.replace(self.options, enemy=enemy))

    def write_replay(
        self, path: pathlib.Path, policy: tf_policy.TFPolicy, seed: Any, num_episodes: int, title: str
    ) -> None:
        replay.write(path, replay.record(self, policy, seed, num_episodes), title)

    def draw(self, seed: tf.Tensor) -> Draws:
        """Draws the random numbers of one env step.

        Args:
            seed: [2] int32.
        Returns:
            The random numbers for B battles; their shapes are in `Draws`.
        """
        u, m, b = len(self.scenario.units), self.scenario.num_enemies, self.num_envs
        spawn, rally, cooldown, order, script = tf.unstack(tf.random.experimental.stateless_split(seed, 5))
        low, high = physics.COOLDOWN_JITTER
        return Draws(
            spawn=tf.random.stateless_uniform([u, b], spawn, -1.0, 1.0),
            rally=tf.random.stateless_uniform([b], rally),
            cooldown=tf.random.stateless_uniform([u, b], cooldown, low, high),
            order=tf.random.stateless_uniform([m, b] if self.options.shuffle_enemies else [0, b], order),
            script=tf.random.stateless_uniform([m if self._has_scripts else 0, b], script, None, None, tf.uint32),
            **self._more_draws(seed),
        )

    def _more_draws(self, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Draws what only some scenarios and options need, by the names of `Draws`."""
        # Seeds of their own, so that they change no other random number.
        start, turn, chance, leader = (tf.random.experimental.stateless_fold_in(seed, i) for i in range(4))
        n, m, b = self.scenario.num_agents, self.scenario.num_enemies, self.num_envs
        draws = {}
        if self.scenario.lottery is not None:
            draws["start"] = tf.random.stateless_uniform([self.scenario.lottery.num_uniforms, b], start)
        if self.task.has_sightings:
            draws["turn"] = tf.random.stateless_uniform([n, b], turn)
            draws["chance"] = tf.random.stateless_uniform([n, m, b], chance)
        if len(self._leaders) > 1:
            draws["leader"] = tf.random.stateless_uniform([b], leader)
        return draws

    def reset(self, seed: tf.Tensor) -> State:
        """Starts B fresh episodes.

        Args:
            seed: [2] int32.
        Returns:
            The state of B battles.
        """
        draws = self.draw(seed)
        n, m, u = self.scenario.num_agents, self.scenario.num_enemies, len(self.scenario.units)
        zero = tf.zeros_like(draws.rally)
        no_time = tf.zeros([self.num_envs], tf.int32)
        blank = State(
            units=self.physics.spawn(draws.spawn),
            rally_x=zero,
            rally_y=zero,
            order=tf.zeros(draws.order.shape, tf.int32),
            last_action=tf.fill([n, self.num_envs], -1),
            available=tf.zeros([n, self.task.num_actions, self.num_envs], tf.bool),
            step_count=no_time,
            step_type=no_time + ts.StepType.FIRST,
            reward=zero,
            discount=zero + 1.0,
            battle_won=tf.zeros_like(zero, tf.bool),
            illegal_actions=no_time,
        )
        if self.scenario.lottery is not None:
            blank = blank._replace(
                kinds=tf.zeros([u, self.num_envs], tf.int32),
                max_reward=zero,
                enemy_target=tf.fill([m, self.num_envs], physics.NOBODY),
            )
        if len(self._leaders) > 1:
            blank = blank._replace(leader=no_time)
        if self.options.conic_fov:
            blank = blank._replace(look=tf.zeros([n, self.num_envs], tf.int32))
        if self.task.orders_last:
            blank = blank._replace(last_orders=physics.Orders.none([n, self.num_envs]))
        if self.task.has_sightings:
            blank = blank._replace(sightings=Sightings.none(n, m, self.num_envs))
        return self._looked(self._begun(blank, draws, True), draws)

    def step(self, state: State, action: tf.Tensor, seed: tf.Tensor) -> State:
        return self.play(state, action, self.draw(seed))

    def play(self, state: State, action: tf.Tensor, draws: Draws) -> State:
        """Plays one env step, given all its random numbers; `step` draws them from a seed and calls this.

        Battles that are over start anew. They pass through the same operations as the others, but frozen. If both
        outcomes were computed and one chosen afterwards, XLA would compute both of them for every pair of units.

        Args:
            state: the B battles before the step.
            action: [B, N] int32.
            draws: the random numbers of the step.
        Returns:
            The B battles after the step.
        """
        starts = state.step_type == ts.StepType.LAST
        old, state = state.units, self._begun(state, draws, starts)
        before, order, rules = state.units, self._shown(state.order), self._rules(state)
        agents = rules.agents
        action = tf.transpose(action)
        chosen = action[:, None] == np.arange(rules.num_actions)[None, :, None]
        legal = tf.reduce_any(chosen & state.available, axis=1)
        action = tf.where(legal, action, tf.where(old.alive[agents.own], STOP, NO_OP))
        # Orders to battles that start have no effect, so they may rest on the units of the battle before.
        own_orders = rules.orders(old, action, agents, order)
        if rules.orders_last:
            is_order = rules.is_order(action, rules.targets(old, agents, order, self._looks(state)))
            own_orders = tf.nest.map_structure(
                lambda new, last: tf.where(is_order, new, last), own_orders, state.last_orders
            )
            state = state._replace(last_orders=own_orders)
        if self.options.conic_fov:
            state = state._replace(look=tf.where(starts, state.look, rules.look(state.look, action)))
        if self.scenario.lottery is not None:
            state = state._replace(enemy_target=rules.physics.order_the_idle(old, state.enemy_target))
        orders = tf.nest.map_structure(
            lambda ours, theirs: tf.concat([ours, theirs], axis=0),
            own_orders,
            self._enemy_orders(state._replace(units=old), rules, draws),
        )
        units = rules.physics.advance(
            before, orders, draws.cooldown, self.options.step_mul, frozen=starts, obey=self._obey(state)
        )
        step_count = tf.where(starts, 0, state.step_count + 1)
        ending = rules.ending(units, step_count)
        over = ending.terminated | ending.truncated
        illegal = tf.reduce_sum(tf.cast(~legal & ~starts, tf.int32), axis=0)
        step_type = tf.where(over, ts.StepType.LAST, ts.StepType.MID)
        scale = None if self.scenario.lottery is None else state.max_reward
        after = state._replace(
            units=units,
            last_action=tf.where(starts, -1, action),
            step_count=step_count,
            step_type=tf.where(starts, ts.StepType.FIRST, step_type),
            reward=tf.where(starts, 0.0, rules.reward(before, units, ending, scale)),
            discount=tf.where(ending.terminated, 0.0, 1.0),
            battle_won=ending.won,
            illegal_actions=state.illegal_actions + illegal,
        )
        return self._looked(after, draws)

    def time_step(self, state: State) -> ts.TimeStep:
        observation = self._rules(state).observation(
            state.units,
            state.last_action,
            state.available,
            state.step_count,
            self._shown(state.order),
            self._looks(state),
            state.sightings if self.task.has_sightings else None,
        )
        return ts.TimeStep(state.step_type, state.reward, state.discount, observation)

    def info(self, state: State) -> dict[str, tf.Tensor]:
        """Returns facts about the battles that are recorded but not observed.

        Args:
            state: the B battles.
        Returns:
            `battle_won` bool, and `dead_allies`, `dead_enemies` and `illegal_actions` int32, [B] each.
        """
        dead = tf.cast(~state.units.alive, tf.int32)
        n = self.scenario.num_agents
        return {
            "battle_won": state.battle_won,
            "dead_allies": tf.reduce_sum(dead[:n], axis=0),
            "dead_enemies": tf.reduce_sum(dead[n:], axis=0),
            "illegal_actions": state.illegal_actions,
        }

    def _shown(self, order: tf.Tensor) -> tf.Tensor | None:
        return order if self.options.shuffle_enemies else None

    def _looks(self, state: State) -> tf.Tensor | None:
        return state.look if self.options.conic_fov else None

    def _rules(self, state: State) -> Task:
        """Returns the rules for the unit types of these battles."""
        return self.task if self.scenario.lottery is None else self.task.of_kinds(state.kinds)

    def _begun(self, state: State, draws: Draws, starts: tf.Tensor | bool) -> State:
        """Puts the battles that start at their start: units, rally point, order, and what only some scenarios need.

        Args:
            state: the B battles.
            draws: the random numbers of the step.
            starts: [B] bool, which battles start; True for all.
        Returns:
            The B battles, of which some have begun.
        """

        def begin(new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
            return tf.where(starts, new, old)

        if self.scenario.attack_segment is not None:
            start, end = self.scenario.attack_segment.astype(np.float32)
            rally = start[:, None] + draws.rally * (end - start)[:, None]
            state = state._replace(rally_x=begin(rally[0], state.rally_x), rally_y=begin(rally[1], state.rally_y))
        state = state._replace(order=begin(tf.argsort(draws.order, axis=0), state.order))
        places = None
        if self.scenario.lottery is not None:
            start = self.scenario.lottery.start(draws.start)
            places = start.x, start.y
            state = state._replace(
                kinds=begin(start.kinds, state.kinds), enemy_target=begin(physics.NOBODY, state.enemy_target)
            )
        rules = self._rules(state)
        units = tf.nest.map_structure(begin, rules.physics.spawn(draws.spawn, places), state.units)
        state = state._replace(units=units)
        if self.scenario.lottery is not None:
            is_first = state.max_reward == 0  # only before the battle's first episode
            scaled_anew = starts & (is_first | (self.options.reward_scale_of == "episode"))
            state = state._replace(max_reward=tf.where(scaled_anew, rules.max_reward, state.max_reward))
        if len(self._leaders) > 1:
            weights = np.array(list(self.options.enemies.values()))
            bounds = np.cumsum(weights / weights.sum())[:-1, None].astype(np.float32)
            leader = tf.reduce_sum(tf.cast(draws.leader >= bounds, tf.int32), axis=0)
            state = state._replace(leader=begin(leader, state.leader))
        if self.options.conic_fov:
            state = state._replace(look=begin(0, state.look))
        n, m = self.scenario.num_agents, self.scenario.num_enemies
        if self.task.orders_last:
            nothing = physics.Orders.none([n, self.num_envs])
            state = state._replace(last_orders=tf.nest.map_structure(begin, nothing, state.last_orders))
        if self.task.has_sightings:
            unseen = Sightings.none(n, m, self.num_envs)
            state = state._replace(sightings=tf.nest.map_structure(begin, unseen, state.sightings))
        return state

    def _looked(self, state: State, draws: Draws) -> State:
        """Lets the agents look at the battles as they stand: who sees whom, and which actions are available."""
        rules, look = self._rules(state), self._looks(state)
        if self.task.has_sightings:
            sightings = rules.sightings(state.sightings, state.units, look, draws.turn, draws.chance)
            state = state._replace(sightings=sightings)
        available = rules.available(state.units, rules.agents, self._shown(state.order), look)
        return state._replace(available=available)

    def _obey(self, state: State) -> tf.Tensor | bool:
        """Returns whether the enemies obey orders, which those that the game leads do not: [B] bool where it varies."""
        if "game" not in self._leaders or not self._has_scripts:
            return self._has_scripts
        return state.leader != self._leaders.index("game")

    def _enemy_orders(self, state: State, rules: Task, draws: Draws) -> physics.Orders:
        """Returns the orders to the enemies, each field [M, B]: their script's, or those that the map gives them."""
        units, side = state.units, rules.enemies
        available = rules.available(units, side) if self._has_scripts else None
        orders = []
        for name in self._leaders:
            if name == "game":
                given = rules.physics.opening_orders(state.rally_x, state.rally_y)
                orders.append(given if self.scenario.lottery is None else given._replace(target=state.enemy_target))
            else:
                action = decide(name, rules, side, units, available, draws.script)
                orders.append(rules.orders(units, action, side))
        if len(orders) == 1:
            return orders[0]
        return tf.nest.map_structure(lambda *fields: choose(state.leader[None], fields), *orders)


def names() -> tuple[str, ...]:
    """Returns the names of SMAC's 23 maps and of SMACv2's 15 scenarios."""
    return scenarios.map_names() + scenarios.drawn_names()


def make(map_name: str, num_envs: int, seed: int, **options: Any) -> Combat:
    """Makes the battle on one of SMAC's maps or in one of SMACv2's scenarios; `environments.make` calls this.

    Args:
        map_name: one of `names()`.
        num_envs: B, how many battles run side by side.
        seed: not used, because each call of `reset` and `step` takes a seed.
        **options: those of `options.Options`.
    Returns:
        The world.
    Raises:
        ValueError: there is no such map, or an option is unknown or has a wrong value.
    """
    del seed  # each call brings one
    chosen = Options(**options)
    return Combat(scenarios.scenario(map_name, chosen.profile), num_envs, chosen)
