"""Scripted teams, as policies and as enemies: what each does in a situation, and that all of it is legal."""

import functools

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from scipy import stats
from tf_agents.trajectories import time_step as ts

from tf_marl import environments
from tf_marl.compile import graph
from tf_marl.environments.combat.environment import Combat
from tf_marl.environments.combat.options import SCRIPTS, Options
from tf_marl.environments.combat.scenarios import scenario
from tf_marl.environments.combat.scripts import ScriptedPolicy, decide, random_legal

NO_OP, STOP, NORTH, SOUTH, EAST, WEST, ATTACK = range(7)
FAR = (30.0, 9.0)
BATTLES = 32


def choose(ring, name, places, **fields):
    """What a scripted team does there, action by action; units not in `places` [(row, place)] are dead."""
    world = ring.world
    spots = np.array([FAR] * len(world.scenario.units), float)
    health = np.zeros(len(spots))
    for row, place in places.items():
        spots[row], health[row] = place, world.scenario.units[row].hit_points
    for row, value in fields.pop("health", {}).items():
        health[row] = value
    columns = {field: np.zeros(len(spots)) for field in fields}
    for field, values in fields.items():
        for row, value in values.items():
            columns[field][row] = value
    policy = ScriptedPolicy(world.time_step_spec, world.action_spec, name, world.task)
    state = ring.start(spots, health=health, **columns)
    action = policy.action(world.time_step(state)).action.numpy()[0]
    assert state.available.numpy()[np.arange(len(action)), action, 0].all()
    return action


# Legal, whatever happens


@functools.cache
def core_of(map_name):
    return Combat(scenario(map_name), BATTLES)


def any_battles(world, seed):
    """Battles with everyone anywhere, near one another in some, in any health; most dead in some."""
    rng = np.random.default_rng(seed)
    battle = world.scenario
    shape = [len(battle.units), world.num_envs]
    cells = np.argwhere(battle.pathable)
    crowd = cells[rng.integers(len(cells), size=shape[1])]
    spread = rng.choice([0.5, 3.0, 30.0], shape[1])
    near = np.argsort(np.hypot(*(cells[:, None] - crowd[None]).transpose(2, 0, 1)) / spread + rng.random(), axis=0)
    rank = np.minimum(rng.exponential(2 + spread**2, shape).astype(int), len(cells) - 1)
    place = cells[np.take_along_axis(near, rank, axis=0)] + rng.random([*shape, 2]) * 0.999
    alive = rng.random(shape) < rng.choice([0.1, 0.6, 1.0], shape[1])
    state = world.reset(tf.constant([seed, 1]))
    units = state.units._replace(
        x=tf.constant(place[..., 0], tf.float32),
        y=tf.constant(place[..., 1], tf.float32),
        health=tf.constant(alive * world.physics.max_health * rng.uniform(0.01, 1, shape), tf.float32),
        shield=tf.constant(alive * world.physics.max_shield * rng.uniform(0, 1, shape), tf.float32),
        cooldown=tf.constant(rng.choice([0, 3, 20], shape), tf.float32),
        energy=tf.constant(rng.uniform(0, 200, shape), tf.float32),
    )
    return state._replace(units=units, available=world.task.available(units, world.task.agents)), rng


@hypothesis.settings(max_examples=6, deadline=None)
@hypothesis.given(seed=st.integers(0, 2**31 - 1))
@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("map_name", ["3m", "MMM", "MMM2", "1c3s5z", "bane_vs_bane", "2c_vs_64zg"])
def test_scripts_of_both_sides_act_legally_in_any_battle(map_name, name, seed):
    world = core_of(map_name)
    state, rng = any_battles(world, seed)
    for side in (world.task.agents, world.task.enemies):
        available = world.task.available(state.units, side)
        noise = tf.constant(rng.integers(0, 2**32, [len(available), world.num_envs]), tf.uint32)
        action = decide(name, world.task, side, state.units, available, noise).numpy()
        chosen = np.take_along_axis(available.numpy(), action[:, None], axis=1)
        assert chosen.all()
        assert ((action == NO_OP) == ~state.units.alive.numpy()[side.own]).all()


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    "map_name", ["2c_vs_64zg", *(pytest.param(name, marks=pytest.mark.slow) for name in ("3s5z", "MMM"))]
)
def test_scripted_policy_plays_whole_battles_legally(battles, map_name, name):
    world, play = battles(map_name)
    policy = ScriptedPolicy(world.time_step_spec, world.action_spec, name, world.task)
    act = graph.function(lambda state, seed: policy.action(world.time_step(state), seed=seed).action)
    state = world.reset(tf.constant([1, 2]))
    hurt = False
    for t in range(40):
        state = play(state, act(state, tf.constant([3, t])), tf.constant([5, t]))
        hurt = hurt or float(tf.reduce_max(state.reward)) > 0
    assert int(tf.reduce_sum(state.illegal_actions)) == 0
    assert hurt, "nobody fought"


@hypothesis.settings(max_examples=6, deadline=None)
@hypothesis.given(seed=st.integers(0, 2**31 - 1))
@pytest.mark.parametrize("map_name", ["MMM", "1c3s5z", "2c_vs_64zg"])
def test_units_can_be_read_off_the_state(map_name, seed):
    """Place, health and shield of the living; of agents also the cooldown, of their healer the energy."""
    world = core_of(map_name)
    state, _ = any_battles(world, seed)
    n = world.scenario.num_agents
    heals = np.array([unit.name == "medivac" for unit in world.scenario.agents])
    read, units = world.task.units(world.time_step(state).observation["state"]), state.units
    alive = units.alive.numpy()
    np.testing.assert_array_equal(read.alive, alive)
    for field in ("x", "y", "health", "shield"):
        np.testing.assert_allclose(
            getattr(read, field).numpy()[alive], getattr(units, field).numpy()[alive], rtol=1e-4, atol=1e-4
        )
    fights, tends = alive[:n] & ~heals[:, None], alive[:n] & heals[:, None]
    np.testing.assert_allclose(read.cooldown.numpy()[:n][fights], units.cooldown.numpy()[:n][fights], rtol=1e-4)
    np.testing.assert_allclose(read.energy.numpy()[:n][tends], units.energy.numpy()[:n][tends], rtol=1e-4)


# Whom they attack. A marine reaches a marine at 5 + 2 x 0.375 = 5.75 from centre to centre; attacks are legal up to 6.


def test_focus_fire_takes_the_weakest_in_reach(map_arena):
    ring = map_arena("3m")
    places = {0: (9, 16), 3: (13, 16), 4: (9, 21), 5: (14.9, 16)}
    # 4 away with 30, 5 away with 10, and 5.9 away with 1, which is beyond its reach.
    assert choose(ring, "focus_fire", places, health={3: 30, 4: 10, 5: 1})[0] == ATTACK + 1
    assert choose(ring, "focus_fire", places, health={3: 10, 4: 30, 5: 1})[0] == ATTACK
    assert choose(ring, "focus_fire", places)[0] == ATTACK  # of equals, the nearest


def test_focus_fire_goes_for_the_nearest_when_nobody_is_in_reach(map_arena):
    ring = map_arena("3m")
    assert choose(ring, "focus_fire", {0: (9, 16), 3: (14.95, 16), 4: (9, 21.8)}, health={3: 1})[0] == ATTACK + 1
    assert choose(ring, "focus_fire", {0: (9, 16), 3: (16, 18), 4: (9, 24)}, health={4: 1})[0] == EAST


def test_focus_fire_counts_shields_as_health(map_arena):
    ring = map_arena("2s3z")  # agents: stalkers 0 1, zealots 2 3 4; enemies likewise from 5 on
    places = {0: (9, 16), 7: (13, 16), 8: (9, 21)}
    assert choose(ring, "focus_fire", places, health={7: 50, 8: 90}, shield={7: 50})[0] == ATTACK + 3
    assert choose(ring, "focus_fire", places, health={7: 50, 8: 90}, shield={7: 30})[0] == ATTACK + 2


def test_nearest_takes_the_nearest_however_strong(map_arena):
    ring = map_arena("3m")
    assert choose(ring, "nearest", {0: (9, 16), 3: (13, 16), 4: (9, 21)}, health={4: 1})[0] == ATTACK
    assert choose(ring, "nearest", {0: (9, 16), 3: (14, 16), 4: (9, 20)}, health={3: 1})[0] == ATTACK + 1


@pytest.mark.parametrize("name", ["nearest", "focus_fire"])
@pytest.mark.parametrize(
    ("enemy", "move"),
    [((20, 13), EAST), ((2, 15), WEST), ((10, 23.5), NORTH), ((8, 8.5), SOUTH)],
)
def test_scripts_walk_to_the_nearest_enemy_when_they_may_attack_none(map_arena, name, enemy, move):
    assert choose(map_arena("3m"), name, {0: (9, 16), 3: enemy, 4: (29, 23)})[0] == move


def test_scripts_walk_round_a_blocked_way_if_a_second_direction_leads_nearer(map_arena):
    """On octagon the corner at the upper left is closed: from (5.2, 21.5), north is not pathable, east is."""
    ring = map_arena("2m_vs_1z")
    assert choose(ring, "nearest", {0: (5.2, 21.5), 2: (12.5, 29)})[0] == EAST
    assert choose(ring, "nearest", {0: (5.2, 21.5), 2: (5.2, 29)})[0] == STOP


@pytest.mark.parametrize("name", ["nearest", "focus_fire"])
def test_scripts_leave_alone_what_they_cannot_hit(map_arena, name):
    """MMM: marauders 0 1, marines 2-8; enemies marines 10-16, marauders 17 18, medivac 19."""
    ring = map_arena("MMM")
    action = choose(ring, name, {0: (9, 16), 2: (9, 15.5), 19: (11, 16), 17: (9, 21)}, health={19: 1})
    assert action[0] == ATTACK + 7  # the marauder shoots the marauder behind
    assert action[2] == ATTACK + 9  # the marine shoots the medivac
    assert choose(ring, name, {0: (9, 16), 19: (11, 16)})[0] == STOP


def test_dead_agents_of_scripts_do_nothing(map_arena):
    for name in SCRIPTS:
        action = choose(map_arena("3m"), name, {0: (9, 16), 3: (13, 16)})
        assert action[1:].tolist() == [NO_OP, NO_OP]
        assert action[0] != NO_OP


def test_random_takes_every_legal_action_and_no_other():
    """Agent 0 of 3m sees enemy 0 within 6 and stands at the northern edge: stop, S, E, W, attack 0."""
    world = core_of("3m")
    state = world.reset(tf.constant([1, 2]))
    x, y = (np.repeat([[9.0], [9], [9], [13], [25], [25]], BATTLES, 1) for _ in "xy")
    y[0], y[3] = 24.5, 24.5
    units = state.units._replace(x=tf.constant(x, tf.float32), y=tf.constant(y, tf.float32))
    available = world.task.available(units, world.task.agents)
    taken = set()
    for seed in range(8):
        noise = tf.random.stateless_uniform([3, BATTLES], [seed, 0], None, None, tf.uint32)
        taken |= set(decide("random", world.task, world.task.agents, units, available, noise).numpy()[0])
    assert taken == {STOP, SOUTH, EAST, WEST, ATTACK}


# Kiting. A stalker reaches a zealot at 6 + 0.625 + 0.5, a zealot a stalker at 0.1 + 0.625 + 0.5 = 1.225.


@pytest.mark.parametrize(
    ("zealot", "cooldown", "expected"),
    [
        ((11, 16), 20, WEST),  # 2.0 away is too near
        ((9, 14), 20, NORTH),
        ((11, 16), 0, ATTACK),  # ready
        ((11, 16), 3, ATTACK),  # nearly ready
        ((13, 16), 20, ATTACK),  # 4.0 away is far enough to wait
    ],
)
def test_focus_fire_backs_off_from_whom_it_outranges_while_its_weapon_cools_down(map_arena, zealot, cooldown, expected):
    assert choose(map_arena("3s_vs_3z"), "focus_fire", {0: (9, 16), 3: zealot}, cooldown={0: cooldown})[0] == expected


def test_backing_off_looks_at_everyone_near_and_at_the_ground(map_arena):
    ring = map_arena("3s_vs_3z")
    # Between two, it leaves sideways, away from the third; at the western edge of the map, too.
    between = {0: (9, 16), 3: (11, 16), 4: (7, 16), 5: (9, 18)}
    assert choose(ring, "focus_fire", between, cooldown={0: 20})[0] == SOUTH
    assert choose(ring, "focus_fire", {0: (-0.0, 16), 3: (2, 16)}, cooldown={0: 20})[0] in (NORTH, SOUTH, WEST)
    ring = map_arena("2s3z")  # band16 ends at y = 25
    assert choose(ring, "focus_fire", {0: (9, 24.5), 7: (9, 22.5)}, cooldown={0: 20})[0] in (EAST, WEST)


def test_nobody_backs_off_from_equals_and_nearest_never_does(map_arena):
    assert choose(map_arena("3m"), "focus_fire", {0: (9, 16), 3: (11, 16)}, cooldown={0: 12})[0] == ATTACK
    assert choose(map_arena("2s3z"), "focus_fire", {2: (9, 16), 7: (10, 16)}, cooldown={2: 12})[2] == ATTACK + 2
    assert choose(map_arena("3s_vs_3z"), "nearest", {0: (9, 16), 3: (11, 16)}, cooldown={0: 20})[0] == ATTACK


# The weakest of all


def test_weakest_goes_for_the_weakest_wherever_it_is(map_arena):
    ring = map_arena("3m")
    places = {0: (9, 16), 1: (9, 18), 3: (13, 16), 4: (20, 16)}
    assert choose(ring, "weakest", places, health={4: 10})[:2].tolist() == [EAST, EAST]  # past the one in reach
    assert choose(ring, "weakest", places, health={3: 10})[:2].tolist() == [ATTACK, ATTACK]
    # Of equals, all take the one that is nearest to their middle, (9, 20); agent 0 is nearer to the other.
    places = {0: (9, 16), 1: (9, 24), 3: (12, 16), 4: (12, 21)}
    assert choose(ring, "weakest", places)[:2].tolist() == [ATTACK + 1, ATTACK + 1]


def test_weakest_attacks_the_nearest_where_it_cannot_get_on(map_arena):
    """From the northern edge of the ground no move leads nearer to the enemy beyond it."""
    assert choose(map_arena("3m"), "weakest", {0: (9, 24.5), 3: (13, 24), 4: (9, 31)}, health={4: 1})[0] == ATTACK


def test_weakest_leaves_alone_what_it_cannot_hit(map_arena):
    """A marauder does not follow the medivac, which is the weakest."""
    assert choose(map_arena("MMM"), "weakest", {0: (9, 16), 19: (11, 16), 17: (9, 21)}, health={19: 1})[0] == ATTACK + 7


# Keeping a distance. A marine takes steps of 1.125, so it can come nearer than 5.75 - 1.125 = 4.625 to shoot again.


@pytest.mark.parametrize(
    ("enemy", "cooldown", "expected"),
    [
        ((11, 16), 8, WEST),
        ((13.6, 16), 8, WEST),
        ((13.7, 16), 8, ATTACK),  # one step farther away it would have to come back
        ((11, 16), 3, ATTACK),  # nearly ready
        ((16, 16), 8, EAST),
    ],
)
def test_kite_backs_off_from_equals_too_while_its_weapon_cools_down(map_arena, enemy, cooldown, expected):
    assert choose(map_arena("3m"), "kite", {0: (9, 16), 3: enemy}, cooldown={0: cooldown})[0] == expected


def test_kite_does_not_back_off_with_a_weapon_for_close_combat(map_arena):
    assert choose(map_arena("2s3z"), "kite", {2: (9, 16), 7: (10, 16)}, cooldown={2: 12})[2] == ATTACK + 2


# Hiding. Marines hit at 5.75, and danger begins 1.5 before that, at 7.25.


@pytest.mark.parametrize(
    ("enemy", "expected"),
    [((13, 16), WEST), ((16, 16), WEST), ((16.5, 16), STOP), ((9, 20), SOUTH)],
)
def test_weak_units_keep_out_of_reach_while_a_strong_one_fights(map_arena, enemy, expected):
    places = {0: (9, 16), 1: (29, 10), 3: enemy}
    assert choose(map_arena("3m"), "retreat", places, health={0: 14})[0] == expected
    assert choose(map_arena("3m"), "retreat", places)[0] == choose(map_arena("3m"), "nearest", places)[0]


def test_nobody_hides_if_there_is_nobody_to_fight(map_arena):
    ring = map_arena("3m")
    assert choose(ring, "retreat", {0: (9, 16), 3: (13, 16)}, health={0: 5})[0] == ATTACK
    assert choose(ring, "retreat", {0: (9, 16), 1: (9, 18), 3: (13, 16)}, health={0: 5, 1: 9})[0] == ATTACK


def test_hidden_units_attack_whom_they_reach_without_being_reached(map_arena):
    """A weak stalker, 4 away from a zealot: 150 of its 160 hit points and shield points are gone."""
    places = {0: (9, 16), 1: (9, 22), 3: (13, 16)}
    assert choose(map_arena("3s_vs_3z"), "retreat", places, health={0: 10}, shield={})[0] == ATTACK
    near = places | {3: (11, 16)}
    assert choose(map_arena("3s_vs_3z"), "retreat", near, health={0: 10}, shield={})[0] == WEST


def test_shields_count_as_strength(map_arena):
    places = {0: (9, 16), 1: (9, 22), 3: (11, 16)}
    assert choose(map_arena("3s_vs_3z"), "retreat", places, health={0: 10}, shield={0: 80})[0] == ATTACK


def test_weak_units_go_to_their_healer_first(map_arena):
    ring = map_arena("MMM")
    places = {0: (29, 10), 2: (9, 16), 10: (13, 16)}
    assert choose(ring, "retreat", places | {9: (9, 22)}, health={2: 9})[2] == NORTH
    assert choose(ring, "retreat", places | {9: (9, 18)}, health={2: 9})[2] == WEST  # with it, but in danger
    assert choose(ring, "retreat", places | {9: (9, 18), 10: (20, 16)}, health={2: 9})[2] == STOP


# Keeping apart


def test_split_units_walk_apart(map_arena):
    ring = map_arena("3m")
    assert choose(ring, "split", {0: (9, 16), 1: (10, 16), 3: (25, 16)})[:2].tolist() == [WEST, EAST]
    assert choose(ring, "split", {0: (9, 16), 1: (11.5, 16), 3: (25, 16)})[:2].tolist() == [EAST, EAST]


def test_split_units_attack_first(map_arena):
    ring = map_arena("3m")
    places = {0: (9, 16), 1: (9, 17), 3: (13, 16)}
    assert choose(ring, "split", places)[:2].tolist() == [ATTACK, ATTACK]
    assert choose(ring, "split", places, cooldown={0: 8})[:2].tolist() == [SOUTH, ATTACK]
    ring = map_arena("2s3z")  # a zealot that steps aside would have to come back
    places = {2: (9, 16), 3: (9, 17), 7: (10, 16)}
    assert choose(ring, "split", places, cooldown={2: 12})[2] == ATTACK + 2


# Healers


@pytest.mark.parametrize("name", ["nearest", "retreat"])
def test_healers_tend_the_weakest_hurt_within_six(map_arena, name):
    ring = map_arena("MMM")
    places = {9: (9, 16), 0: (12, 16), 2: (9, 18), 3: (14.9, 16), 4: (9, 23), 10: FAR}
    assert choose(ring, name, places, health={0: 40, 2: 20, 3: 30, 4: 1})[9] == ATTACK + 2
    assert choose(ring, name, places, health={0: 40, 3: 30, 4: 1})[9] == ATTACK + 3
    assert choose(ring, name, places, health={0: 124, 4: 1})[9] == ATTACK  # 4 is 7 away


@pytest.mark.parametrize("name", ["nearest", "retreat"])
def test_healers_without_a_patient_follow(map_arena, name):
    ring = map_arena("MMM")
    assert choose(ring, name, {9: (9, 16), 2: (13, 16), 10: FAR})[9] == EAST
    assert choose(ring, name, {9: (9, 16), 2: (9, 20), 3: (16, 16), 10: FAR})[9] == NORTH
    assert choose(ring, name, {9: (9, 16), 2: (9, 18.5), 10: FAR})[9] == STOP  # near enough
    assert choose(ring, name, {9: (9, 16), 10: (9, 20)})[9] == STOP  # nobody left to follow


# As enemies


def scripted(map_name, enemy, places, num_steps=1, **fields):
    """The units after steps in which the agents stand and a script leads the enemies."""
    world = Combat(scenario(map_name), 1, Options(enemy=enemy))
    units = world.scenario.units
    state = world.reset(tf.constant([1, 2]))
    spots = np.array([places.get(row, (1.0, 8.0)) for row in range(len(units))], float)
    columns = {"health": [unit.hit_points if row in places else 0 for row, unit in enumerate(units)]}
    for field, values in fields.items():
        columns.setdefault(field, [0] * len(units))
        for row, value in values.items():
            columns[field][row] = value
    columns |= {"x": spots[:, 0], "y": spots[:, 1]}
    replaced = {name: tf.constant(np.asarray(column, np.float32)[:, None]) for name, column in columns.items()}
    state = state._replace(units=state.units._replace(**replaced))
    for t in range(num_steps):
        alive = state.units.alive.numpy()[: world.scenario.num_agents, 0]
        state = world.step(state, tf.constant([np.where(alive, STOP, NO_OP)], tf.int32), tf.constant([3, t]))
    return state.units


@pytest.mark.parametrize(("enemy", "victim"), [("focus_fire", 1), ("nearest", 0), ("game", 0)])
def test_enemies_fight_by_their_script(enemy, victim):
    """Agent 0 is nearer, agent 1 weaker; both are in reach."""
    units = scripted("3m", enemy, {0: (16, 16), 1: (20, 21), 3: (20, 16)}, health={1: 30})
    lost = np.array([45, 30]) - units.health.numpy()[:2, 0]
    assert lost.tolist() == [6 * (victim == 0), 6 * (victim == 1)]


@pytest.mark.parametrize("enemy", ["focus_fire", "nearest"])
def test_scripted_enemies_go_for_the_agents_wherever_they_are(enemy):
    """The game's enemies would walk west, to (9, 16)."""
    units = scripted("3m", enemy, {0: (29, 16), 3: (16, 16)}, num_steps=3)
    np.testing.assert_allclose(units.x[3, 0], 16 + 3 * 1.125, atol=1e-3)
    np.testing.assert_allclose(scripted("3m", "game", {0: (29, 16), 3: (16, 16)}).x[3, 0], 16 - 1.125, atol=1e-3)


def test_scripted_enemy_kites():
    """An enemy stalker, its weapon cooling down, 2 away from a zealot."""
    units = scripted("2s3z", "focus_fire", {2: (18, 16), 5: (20, 16)}, cooldown={5: 20})
    np.testing.assert_allclose(units.x[5, 0], 20 + 1.4766, atol=1e-2)


def test_kiting_enemy_keeps_its_distance():
    """A zealot chases an enemy stalker. It catches one that attacks the nearest, and not one that kites."""
    world = Combat(scenario("2s3z"), 8, Options(enemy=("nearest", "kite")))
    state = world.reset(tf.constant([1, 2]))
    alive = np.isin(np.arange(10), [2, 5])[:, None] & np.ones(8, bool)
    x = np.where(np.arange(10) == 5, 20.5, 16.0)[:, None] + np.zeros(8)
    health, shield = (alive * full for full in (world.physics.max_health, world.physics.max_shield))
    fields = {"x": x, "y": 0 * x + 16, "health": health, "shield": shield}
    state = state._replace(
        units=state.units._replace(**{name: tf.constant(field, tf.float32) for name, field in fields.items()})
    )
    state = state._replace(available=world.task.available(state.units, world.task.agents))
    for t in range(5):
        assert state.available.numpy()[2, ATTACK].all()
        state = world.step(state, tf.constant([[NO_OP, NO_OP, ATTACK, NO_OP, NO_OP]] * 8), tf.constant([3, t]))
    kites = state.leader.numpy() == list(world.options.enemies).index("kite")
    distance, stalker = (state.units.x[5] - state.units.x[2]).numpy(), state.units.shield[5].numpy()
    assert 0 < kites.sum() < 8
    assert (distance[kites] > 2.0).all()
    assert (stalker[kites] == 80).all()
    assert (distance[~kites] < 1.3).all()
    assert (stalker[~kites] < 80).all()
    assert (state.units.shield[2].numpy() < 50).all()  # both shoot


def test_weak_enemy_retreats_and_the_strong_one_fights():
    units = scripted("3m", "retreat", {0: (16, 16), 3: (20, 16), 4: (20, 18)}, health={3: 14})
    np.testing.assert_allclose(units.x[3:5, 0], [20 + 1.125, 20], atol=1e-2)
    assert units.health[0, 0] == 45 - 6


def test_scripted_enemy_healer_heals_the_weakest_within_six():
    """The weaker marine's centre is 6.5 away: too far for an order, which counts to the centre.

    The game's healer looks 6 from edge to edge, so it flies to that one instead and leaves the other.
    """
    places = {2: (2, 8), 10: (20, 22.5), 11: (21, 16), 19: (20, 16)}
    units = scripted("MMM", "focus_fire", places, health={10: 10, 11: 20}, energy={19: 50})
    np.testing.assert_allclose(units.health.numpy()[10:12, 0], [10, 24.5], atol=1e-3)
    np.testing.assert_allclose(units.energy[19, 0], 50 + 0.28125 - 4.5 * 0.33, atol=1e-3)
    units = scripted("MMM", "game", places, health={10: 10, 11: 20}, energy={19: 50})
    assert units.health[11, 0] == 20
    assert units.y[19, 0] > 16.5


def test_random_enemies_differ_between_battles():
    world = Combat(scenario("3m"), 32, Options(enemy="random"))
    state = world.reset(tf.constant([1, 2]))
    start = state.units
    state = world.step(state, tf.ones([32, 3], tf.int32), tf.constant([3, 4]))
    moves = np.stack([state.units.x - start.x, state.units.y - start.y], -1)[3:].reshape(-1, 2)
    # Nobody is in sight: stop or a move north, south, east or west, all of which 96 draws bring up.
    assert {tuple(move) for move in np.sign(np.round(moves, 1)).astype(int)} >= {(0, 1), (0, -1), (1, 0), (-1, 0)}


# Several enemies, of which each episode draws one


def test_episodes_draw_their_enemies_by_weight():
    """Chi-squared, for the first episode and for the next one in half of the battles."""
    weights = {"kite": 5, "game": 1, "focus_fire": 2}
    world = Combat(scenario("3m"), 4000, Options(enemy=weights))
    names = list(world.options.enemies)
    expected = np.array([weights[name] for name in names]) / 8 * 4000
    first = world.reset(tf.constant([1, 2]))
    assert stats.chisquare(np.bincount(first.leader), expected).pvalue > 1e-3
    ends = np.arange(4000) % 2 == 0
    over = first._replace(step_type=tf.where(ends, ts.StepType.LAST, ts.StepType.MID))
    second = world.step(over, tf.ones([4000, 3], tf.int32), tf.constant([3, 4]))
    again = world.step(second, tf.ones([4000, 3], tf.int32), tf.constant([3, 5]))
    np.testing.assert_array_equal(second.leader[1::2], first.leader[1::2])
    np.testing.assert_array_equal(again.leader, second.leader)
    pairs = np.bincount(3 * first.leader.numpy()[ends] + second.leader.numpy()[ends])
    assert stats.chisquare(pairs, np.outer(expected, expected).ravel() / 8000).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("map_name", ["MMM", "terran_5_vs_5"])
def test_each_battle_goes_as_under_its_leader_alone(map_name):
    """To the bit, healers included, in battles where everyone is anywhere."""
    enemies = ("game", "retreat", "random")
    worlds = {enemy: Combat(scenario(map_name), BATTLES, Options(enemy=enemy)) for enemy in (enemies, *enemies)}
    start, _ = any_battles(worlds[enemies], 3)
    names = np.array(list(worlds[enemies].options.enemies))[start.leader]
    assert len(set(names)) == len(enemies)
    after = {}
    for enemy, world in worlds.items():
        state = start if enemy == enemies else start._replace(leader=())
        state = world.step(state, tf.ones([BATTLES, world.scenario.num_agents], tf.int32), tf.constant([3, 4]))
        after[enemy] = [leaf.numpy() for leaf in (*state.units, state.reward, state.step_type)]
    for enemy in enemies:
        for mixed, alone in zip(after[enemies], after[enemy], strict=True):
            np.testing.assert_array_equal(mixed[..., names == enemy], alone[..., names == enemy])
    differs = [(after["game"][0] != after[enemy][0]).any() for enemy in ("retreat", "random")]
    assert all(differs)


def test_one_enemy_needs_no_draw():
    for enemy in ("game", ("kite",), {"kite": 2.0}):
        world = Combat(scenario("3m"), 2, Options(enemy=enemy))
        assert world.draw(tf.constant([1, 2])).leader == world.reset(tf.constant([1, 2])).leader == ()


# Refusals


@pytest.mark.parametrize("option", ["obs_instead_of_state", "shuffle_enemies"])
def test_scripted_policy_refuses_options_that_hide_the_state(option):
    env = environments.load("3m", **{option: True})
    with pytest.raises(ValueError, match=rf"environment\.{option}") as refused:
        ScriptedPolicy(env.time_step_spec(), env.action_spec(), "nearest", env.world.task)
    assert "\n" not in str(refused.value)


def test_scripted_enemies_do_not_mind_being_shuffled():
    world = Combat(scenario("3m"), 4, Options(enemy="nearest", shuffle_enemies=True))
    state = world.reset(tf.constant([1, 2]))
    after = world.step(state, tf.ones([4, 3], tf.int32), tf.constant([3, 4]))
    np.testing.assert_array_less(after.units.x[3:] + 0.5, state.units.x[3:])  # all walk west, to the agents


def test_random_chooses_each_legal_action_equally_often():
    """Chi-squared over 20,000 draws, for agents with all, some and one of 70 actions."""
    rng = np.random.default_rng(0)
    available = np.zeros([3, 70], bool)
    available[0] = True
    available[1, [1, 3, 5, 40, 69]] = True
    available[2, 0] = True
    noise = tf.constant(rng.integers(0, 2**32, [3, 20_000]), tf.uint32)
    chosen = random_legal(tf.constant(np.repeat(available[:, :, None], 20_000, axis=2)), noise).numpy()
    for legal, actions in zip(available, chosen, strict=True):
        counts = np.bincount(actions, minlength=70)
        assert not counts[~legal].any()
        if legal.sum() > 1:
            assert stats.chisquare(counts[legal]).pvalue > 1e-3
