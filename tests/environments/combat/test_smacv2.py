"""SMACv2's scenarios: its rules of view, range, reward and end, each against a plain loop over units."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from tf_marl import environments
from tf_marl.compile import graph
from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.environment import Combat
from tf_marl.environments.combat.physics import NOBODY
from tf_marl.environments.combat.scripts import random_legal
from tf_marl.environments.combat.task import FIRST_ATTACK, STOP, Sightings

# actions, obs and state, as SMACv2's `get_env_info` reports them
SIZES = {
    "protoss": {"5_vs_5": (11, 92, 130), "10_vs_10": (16, 182, 310), "20_vs_20": (26, 362, 820)}
    | {"10_vs_11": (17, 191, 327), "20_vs_23": (29, 389, 901)},
    "terran": {"5_vs_5": (11, 82, 120), "10_vs_10": (16, 162, 290), "20_vs_20": (26, 322, 780)}
    | {"10_vs_11": (17, 170, 306), "20_vs_23": (29, 346, 858)},
}
SIZES["zerg"] = SIZES["terran"]
SHOOT = {"stalker": 6, "zealot": 2, "colossus": 7, "marine": 5, "marauder": 6, "medivac": 4}
SHOOT |= {"zergling": 2, "hydralisk": 5, "baneling": 2}
SIGHT = {"stalker": 10, "zealot": 9, "colossus": 10, "marine": 9, "marauder": 10, "medivac": 11}
SIGHT |= {"zergling": 8, "hydralisk": 9, "baneling": 8}
COOLDOWN = {"stalker": 35, "zealot": 22, "colossus": 24, "marine": 15, "marauder": 25, "medivac": 200}
COOLDOWN |= {"zergling": 11, "hydralisk": 10, "baneling": 1}


@pytest.mark.parametrize("race", SIZES)
def test_sizes_equal_smacv2s(race):
    assert {f"{race}_{teams}" for teams in SIZES[race]} <= set(environments.names("combat"))
    for teams, sizes in SIZES[race].items():
        world = environments.make(f"{race}_{teams}")
        observation = world.time_step_spec.observation
        shapes = observation["avail_actions"].shape[1], observation["obs"].shape[1], observation["state"].shape[0]
        assert (*shapes, world.episode_limit) == (*sizes, 200)


def test_smacs_maps_come_first_and_smacv2s_scenarios_after_them():
    names = environments.names("combat")
    assert names[:23] == environments.map_names()
    assert len(names) == 23 + 15


def scene(name: str, seed: int, dead: float = 0.2, num_envs: int = 4, **options):
    """A world and a state with units anywhere near one another, some of them dead and most of them hurt."""
    world = environments.make(name, num_envs=num_envs, **options)
    state = world.reset([seed, 0])
    rng = np.random.default_rng(seed)
    shape = state.units.x.shape
    laws = world.task.of_kinds(state.kinds).physics
    health = laws.max_health * rng.uniform(0.05, 1, shape) * (rng.uniform(size=shape) > dead)
    units = state.units._replace(
        x=tf.constant(rng.uniform(8, 24, shape), tf.float32),
        y=tf.constant(rng.uniform(8, 24, shape), tf.float32),
        health=tf.cast(health, tf.float32),
        shield=tf.cast(laws.max_shield * rng.uniform(0, 1, shape), tf.float32),
        cooldown=tf.constant(rng.uniform(0, 10, shape), tf.float32),
    )
    state = state._replace(units=units, step_count=tf.fill([num_envs], 20))
    if world.options.conic_fov:
        look = rng.integers(0, 12, [world.scenario.num_agents, num_envs])
        state = state._replace(look=tf.constant(look, tf.int32))
    rules = world.task.of_kinds(state.kinds)
    available = rules.available(units, rules.agents, None, state.look if world.options.conic_fov else None)
    return world, state._replace(available=available), rng


class Plain:
    """One battle as SMACv2's code sees it: units as objects, loops instead of tensors."""

    def __init__(self, world, state, battle):
        self.world, self.options = world, world.options
        self.n, self.m = world.scenario.num_agents, world.scenario.num_enemies
        types = world.scenario.lottery.types
        columns = {name: column.numpy()[:, battle] for name, column in state.units._asdict().items()}
        self.types = [types[kind] for kind in state.kinds.numpy()[:, battle]]
        self.bits = [list(types).index(unit) for unit in self.types]
        self.x, self.y, self.health = columns["x"], columns["y"], columns["health"]
        self.shield, self.energy, self.cooldown = columns["shield"], columns["energy"], columns["cooldown"]
        self.look = state.look.numpy()[:, battle] if self.options.conic_fov else None
        self.available = state.available.numpy()[:, :, battle]

    def within(self, i, j, reach):
        dx, dy = float(self.x[j]) - float(self.x[i]), float(self.y[j]) - float(self.y[i])
        distance = math.hypot(dx, dy)
        if self.look is None:
            return distance < reach[self.types[i].name]
        look = 2 * math.pi * self.look[i] / 12
        side = 1 if dx > 0 else -1
        middle = math.atan(math.sin(look) / (side * max(side * math.cos(look), 1e-7)))
        angle = math.atan(dy / (side * max(side * dx, 1e-7)))
        return distance <= reach[self.types[i].name] and abs(angle - middle) < math.pi / 12

    def targets(self, i):
        """Which attack slots agent i reaches: enemies, or for a medivac agents that are no medivacs."""
        heals = self.types[i].name == "medivac"
        row = np.zeros(self.m)
        for slot in range(self.n if heals else self.m):
            j = slot if heals else self.n + slot
            if self.health[j] > 0 and not (heals and self.types[j].name == "medivac"):
                row[slot] = self.within(i, j, SHOOT)
        return row

    def row(self, i, j, first):
        sight = SIGHT[self.types[i].name]
        dx, dy = self.x[j] - self.x[i], self.y[j] - self.y[i]
        row = [first, math.hypot(dx, dy) / sight, dx / sight, dy / sight, self.health[j] / self.types[j].hit_points]
        row += [self.shield[j] / self.types[j].shield_points] if self.types[j].shield_points else []
        return row + np.eye(3)[self.bits[j]].tolist()

    def obs(self, i, may_see=lambda i, j: True):
        size = self.world.task.obs_size
        if self.health[i] == 0:
            return np.zeros(size)
        out = self.available[i, 2:6].astype(float).tolist()
        reached = self.targets(i)
        width = self.world.task.enemy_columns
        for j in range(self.m):
            k = self.n + j
            seen = self.health[k] > 0 and self.within(i, k, SIGHT) and may_see(i, j)
            out += self.row(i, k, reached[j]) if seen else [0.0] * width
        for j in range(self.n):
            if j != i:
                seen = self.health[j] > 0 and self.within(i, j, SIGHT)
                out += self.row(i, j, 1.0) if seen else [0.0] * width
        out += [self.health[i] / self.types[i].hit_points]
        out += [self.shield[i] / self.types[i].shield_points] if self.types[i].shield_points else []
        out += [self.x[i] / 32, self.y[i] / 32]
        if self.look is not None:
            out += [math.cos(2 * math.pi * self.look[i] / 12), math.sin(2 * math.pi * self.look[i] / 12)]
        return np.array(out + np.eye(3)[self.bits[i]].tolist())

    def state(self):
        out = []
        for i, kind in enumerate(self.types):
            row = [self.health[i] / kind.hit_points]
            if i < self.n:
                ready = self.energy[i] if kind.name == "medivac" else self.cooldown[i]
                row += [ready / COOLDOWN[kind.name]]
            row += [(self.x[i] - 16) / 32, (self.y[i] - 16) / 32]
            row += [self.shield[i] / kind.shield_points] if kind.shield_points else []
            if i < self.n and self.look is not None:
                row += [math.cos(2 * math.pi * self.look[i] / 12), math.sin(2 * math.pi * self.look[i] / 12)]
            row += np.eye(3)[self.bits[i]].tolist()
            out += row if self.health[i] > 0 else [0.0] * len(row)
        return np.array(out)


@pytest.mark.parametrize("name", ["protoss_5_vs_5", "terran_5_vs_5", "zerg_5_vs_5", "terran_10_vs_11"])
@pytest.mark.parametrize("conic_fov", [False, True])
def test_observation_state_and_targets_equal_plain_loops(name, conic_fov):
    world, state, _ = scene(name, 3, conic_fov=conic_fov)
    made = {key: leaf.numpy() for key, leaf in world.time_step(state).observation.items()}
    first = world.task.first_attack
    assert first == FIRST_ATTACK + 12 * conic_fov
    for battle in range(world.num_envs):
        plain = Plain(world, state, battle)
        size = len(plain.state())
        np.testing.assert_allclose(made["state"][battle, :size], plain.state(), atol=1e-5)
        for i in range(plain.n):
            np.testing.assert_allclose(made["obs"][battle, i], plain.obs(i), atol=1e-5)
            alive = plain.health[i] > 0
            np.testing.assert_array_equal(made["avail_actions"][battle, i, first:], plain.targets(i) * alive)
            np.testing.assert_array_equal(made["avail_actions"][battle, i, FIRST_ATTACK:first], alive)


def test_without_the_action_mask_every_living_target_may_be_named():
    world, state, _ = scene("terran_5_vs_5", 5, action_mask=False)
    observation = world.time_step(state).observation
    available, obs = observation["avail_actions"].numpy(), observation["obs"].numpy()
    for battle in range(world.num_envs):
        plain = Plain(world, state, battle)
        for i in range(plain.n):
            medic = plain.types[i].name == "medivac"
            living = [
                plain.health[j] > 0 and not (medic and plain.types[j].name == "medivac")
                for j in (range(5) if medic else range(5, 10))
            ]
            np.testing.assert_array_equal(available[battle, i, 6:], np.array(living) & (plain.health[i] > 0))
            # The observation still tells who is near enough.
            np.testing.assert_allclose(obs[battle, i], plain.obs(i), atol=1e-5)


@pytest.mark.parametrize(("probability", "wipe_rows"), [(0.0, False), (0.4, False), (1.0, True), (0.4, True)])
def test_sightings_equal_a_plain_loop(probability, wipe_rows):
    """Agents look one after the other; who finds an enemy keeps it until one of the two dies."""
    options = {"prob_obs_enemy": probability, "wipe_rows": wipe_rows}
    world, state, rng = scene("zerg_5_vs_5", 1, dead=0.0, **options)
    n, m, b = 5, 5, world.num_envs
    sightings = Sightings.none(n, m, b)
    tags = [[None] * m for _ in range(b)]
    shown = np.zeros([b, m, n], bool)
    dead = np.zeros(state.units.x.shape, bool)
    for _ in range(6):
        dead |= rng.uniform(size=dead.shape) < 0.1
        places = [tf.constant(rng.uniform(6, 26, dead.shape), tf.float32) for _ in range(2)]
        health = tf.where(dead, 0.0, 20.0)
        units = state.units._replace(x=places[0], y=places[1], health=health)
        state = state._replace(units=units)
        turn, chance = rng.uniform(size=[n, b]), rng.uniform(size=[n, m, b])
        rules = world.task.of_kinds(state.kinds)
        state = state._replace(available=rules.available(units, rules.agents))
        draws = tf.constant(turn, tf.float32), tf.constant(chance, tf.float32)
        sightings = rules.sightings(sightings, units, None, *draws)
        obs = rules.observation(units, state.last_action, state.available, state.step_count, sightings=sightings)[
            "obs"
        ].numpy()
        for battle in range(b):
            plain = Plain(world, state, battle)
            for j in range(m):
                tag = tags[battle][j]
                if tag is not None and (dead[tag, battle] or dead[n + j, battle]):
                    tags[battle][j], shown[battle, j] = None, False
            for i in np.argsort(turn[:, battle]):
                kept = np.zeros(m, bool)
                if plain.health[i] > 0:
                    for j in range(m):
                        if plain.within(i, n + j, SIGHT) and tags[battle][j] is None:
                            tags[battle][j] = i
                            shown[battle, j, i] = True
                            for other in range(n):
                                if other != i and chance[other, j, battle] < probability:
                                    shown[battle, j, other] = True
                        if shown[battle, j, i]:
                            kept[j] = True
                        elif wipe_rows:
                            kept[: j + 1] = False
                expected = plain.obs(i, may_see=lambda _, j, kept=kept: kept[j])
                np.testing.assert_allclose(obs[battle, i], expected, atol=1e-5)
            spotter = sightings.spotter.numpy()[:, battle]
            assert spotter.tolist() == [NOBODY if tag is None else tag for tag in tags[battle]]


def test_a_side_of_medivacs_alone_has_lost():
    world = environments.make("terran_5_vs_5", num_envs=3)
    state = world.reset([0, 0])
    marine, medivac = 0, 2
    kinds = np.full([10, 3], marine)
    kinds[:2, 0] = kinds[5:7, 1] = kinds[[0, 5], 2] = medivac
    health = np.zeros([10, 3])
    health[[0, 1, 5], 0] = 10  # two medivacs against a marine
    health[[0, 5, 6], 1] = 10  # a marine against two medivacs
    health[[0, 5], 2] = 10  # a medivac against a medivac
    units = state.units._replace(health=tf.constant(health, tf.float32))
    ending = world.task.of_kinds(tf.constant(kinds, tf.int32)).ending(units, tf.fill([3], 7))
    assert ending.won.numpy().tolist() == [False, True, False]
    assert ending.lost.numpy().tolist() == [True, False, True]
    assert ending.terminated.numpy().all()


def test_recovering_enemies_pay_nothing():
    world = environments.make("protoss_5_vs_5", num_envs=1)
    units = world.reset([0, 0]).units
    hurt = units._replace(shield=units.shield - 5)
    assert world.task.battle_reward(hurt, units).numpy() == 0
    assert world.task.battle_reward(units, hurt).numpy() == 25  # of five enemies


@pytest.mark.parametrize("of", ["first_episode", "episode"])
def test_rewards_are_scaled_by_the_first_or_by_each_episode(of):
    world = environments.make("protoss_5_vs_5", num_envs=8, reward_scale_of=of)
    first = world.reset([0, 0])
    largest = [world.task.of_kinds(first.kinds).max_reward.numpy()]
    np.testing.assert_array_equal(first.max_reward, largest[0])
    over = first._replace(step_type=tf.fill([8], ts.StepType.LAST))
    starts = tf.constant([True] * 6 + [False] * 2)
    second = world._begun(over, world.draw(tf.constant([5, 5])), starts)
    largest.append(world.task.of_kinds(second.kinds).max_reward.numpy())
    assert (largest[0][:6] != largest[1][:6]).any()
    np.testing.assert_array_equal(second.kinds[:, 6:], first.kinds[:, 6:])
    np.testing.assert_array_equal(second.max_reward, largest[1] if of == "episode" else largest[0])
    health = {"stalker": 160, "zealot": 150, "colossus": 350}
    types = [health[unit.name] for unit in world.scenario.lottery.types]
    np.testing.assert_array_equal(largest[0], 250 + np.array(types)[first.kinds.numpy()[5:]].sum(0))


def test_idle_enemies_are_sent_to_the_closest_living_agent():
    world, state, _ = scene("zerg_5_vs_5", 2, dead=0.3)
    n = 5
    target = state.units.target.numpy()
    target[5, :] = 1  # this one attacks somebody by itself
    ordered = np.full([5, 4], NOBODY, np.int32)
    ordered[1], ordered[2] = 0, 3  # two were sent before
    units = state.units._replace(target=tf.constant(target))
    orders = world.task.of_kinds(state.kinds).physics.order_the_idle(units, tf.constant(ordered)).numpy()
    for battle in range(4):
        plain = Plain(world, state, battle)
        alive = plain.health > 0
        for j in range(5):
            if ordered[j, battle] != NOBODY and alive[ordered[j, battle]]:
                expected = ordered[j, battle]
            elif not alive[n + j] or j == 0 or not alive[:n].any():
                expected = NOBODY if (not alive[n + j] or j == 0) else orders[j, battle]
            else:
                distance = np.hypot(plain.x[:n] - plain.x[n + j], plain.y[:n] - plain.y[n + j])
                expected = np.argmin(np.where(alive[:n], distance, np.inf))
            assert orders[j, battle] == expected


# Whole battles


@pytest.mark.parametrize("race", SIZES)
@pytest.mark.parametrize("num_envs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_step_with_all_options_is_a_graph_of_the_promised_shapes(race, num_envs):
    options = {"conic_fov": True, "action_mask": False, "prob_obs_enemy": 0.5, "wipe_rows": True}
    world = environments.make(f"{race}_5_vs_5", num_envs=num_envs, shuffle_enemies=True, **options)

    def play(seed):
        return world.time_step(world.step(world.reset(seed), tf.zeros([num_envs, 5], tf.int32), seed))

    made = graph.function(play).get_concrete_function(tf.TensorSpec([2], tf.int32)).structured_outputs
    assert {name: leaf.shape for name, leaf in made.observation.items()} == {
        name: [num_envs, *spec.shape] for name, spec in world.time_step_spec.observation.items()
    }


@pytest.fixture(
    scope="module", params=["terran", *(pytest.param(race, marks=pytest.mark.slow) for race in ("protoss", "zerg"))]
)
def played(request):
    world = environments.make(f"{request.param}_5_vs_5", num_envs=16, conic_fov=request.param == "zerg")

    def play(state, seed):
        noise = tf.random.stateless_uniform(state.available.shape[::2], seed + 1, None, None, tf.uint32)
        state = world.step(state, tf.transpose(random_legal(state.available, noise)), seed)
        return state, world.time_step(state)

    return world, graph.function(play, jit_compile=True)


@hypothesis.settings(
    max_examples=4, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(seed=st.integers(0, 2**31 - 2))
def test_battles_keep_their_laws(played, seed):
    world, play = played
    state = world.reset(tf.constant([seed, 0]))
    steps, ended = np.zeros(16, int), 0
    for t in range(210):
        before, (state, time_step) = state, play(state, tf.constant([seed, t]))
        step_type = time_step.step_type.numpy()
        observation = {name: leaf.numpy() for name, leaf in time_step.observation.items()}
        assert all(np.isfinite(leaf).all() for leaf in (*observation.values(), time_step.reward, *state.units))
        starts = step_type == ts.StepType.FIRST
        assert (starts == (before.step_type.numpy() == ts.StepType.LAST)).all()
        alive, was_alive = state.units.alive.numpy(), before.units.alive.numpy()
        assert alive[:, starts].all()
        assert not (alive & ~was_alive)[:, ~starts].any()
        assert (state.kinds.numpy() == before.kinds.numpy())[:, ~starts].all()
        assert observation["avail_actions"].any(-1).all()
        assert (observation["avail_actions"][..., 0] == ~observation["alive"]).all()
        assert not observation["obs"][~observation["alive"]].any()
        steps = np.where(starts, 0, steps + 1)
        assert steps.max() <= 200
        assert (step_type[steps == 200] == ts.StepType.LAST).all()
        ended += int((step_type == ts.StepType.LAST).sum())
    assert ended >= 16
    assert not state.illegal_actions.numpy().any()


def test_an_order_lasts_where_the_next_action_is_none():
    """An agent that looks round goes on walking; one that attacks somebody far away does, too."""
    for options, silent in (({"conic_fov": True}, FIRST_ATTACK), ({"action_mask": False}, FIRST_ATTACK)):
        world = environments.make("protoss_5_vs_5", num_envs=1, step_mul=2, **options)
        state = world.reset([0, 0])
        places = np.r_[np.linspace(2, 10, 5), np.full(5, 30.0)][:, None].astype(np.float32)
        units = state.units._replace(x=tf.constant(places), y=tf.constant(places))
        state = state._replace(units=units)
        rules = world.task.of_kinds(state.kinds)
        look = state.look if world.options.conic_fov else None
        state = state._replace(available=rules.available(units, rules.agents, None, look))
        x = []
        for action in (4, silent, STOP, STOP):  # east
            state = world.step(state, tf.fill([1, 5], action), tf.constant([0, 0]))
            x.append(state.units.x.numpy()[:5, 0])
        stride = 2 / 16 * np.array([unit.speed for unit in world.scenario.lottery.types])[state.kinds.numpy()[:5, 0]]
        np.testing.assert_allclose(x[0], places[:5, 0] + stride, atol=1e-4)
        np.testing.assert_allclose(x[1], x[0] + stride, atol=1e-4)
        np.testing.assert_allclose(x[3], x[1], atol=1e-4)


@pytest.mark.parametrize("name", ["protoss_5_vs_5", "terran_5_vs_5", "terran_10_vs_11"])
@pytest.mark.parametrize("script", ["nearest", "focus_fire"])
def test_scripted_teams_play_the_types_at_hand(name, script):
    world, state, _ = scene(name, 6)
    time_step = world.time_step(state)
    action = world.scripted(script).action(time_step, seed=tf.constant([0, 0])).action.numpy()
    available = time_step.observation["avail_actions"].numpy()
    assert np.take_along_axis(available, action[..., None], axis=-1).all()
    attacks = action >= FIRST_ATTACK
    for battle, agent in np.argwhere(attacks).tolist():
        plain = Plain(world, state, battle)
        if plain.types[agent].name != "medivac":
            target = plain.n + action[battle, agent] - FIRST_ATTACK
            assert plain.types[agent].can_hit(plain.types[target])  # no zealot attacks what flies
    assert attacks.any()


def test_more_agents_than_enemies_leave_a_medivac_an_action_for_each_agent():
    world = Combat(scenarios.drawn("terran", 5, 2), 4)
    state = world.reset([0, 0])
    observation = world.time_step(state).observation
    assert observation["avail_actions"].shape == (4, 5, 6 + 5)
    assert observation["obs"].shape[-1] == world.time_step_spec.observation["obs"].shape[-1]
    medivacs = tf.concat([tf.fill([1, 4], 2), tf.zeros([6, 4], tf.int32)], axis=0)
    rules = world.task.of_kinds(medivacs)
    available = rules.available(state.units._replace(x=state.units.x * 0, y=state.units.y * 0), rules.agents).numpy()
    np.testing.assert_array_equal(available[0, FIRST_ATTACK:, 0], [False, True, True, True, True])
    np.testing.assert_array_equal(available[1, FIRST_ATTACK:, 0], [True, True, False, False, False])


def test_only_scripts_that_know_what_they_need_play():
    world = environments.make("protoss_5_vs_5", conic_fov=True)
    with pytest.raises(ValueError, match=r"environment\.conic_fov: scripted teams need it to be False"):
        world.scripted("nearest")
    assert world.unit_types is None
