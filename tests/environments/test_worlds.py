"""What every world promises (`world.py`), asked of each that is registered; StarCraft II's on its stand-in."""

import json
import os
import pathlib
import typing

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.drivers import dynamic_step_driver
from tf_agents.environments import tf_environment
from tf_agents.trajectories import time_step as ts

from tf_marl import environments
from tf_marl.compile import graph
from tf_marl.environments.matrix_game import MatrixGame
from tf_marl.environments.random_team import RandomTeam

SEED = (3, 4)
NUM_ENVS = 2
MAPS = {  # small ones; of others the first two
    "combat": ["3m", "2m_vs_1z", "zerg_5_vs_5"],
    "sc2": ["3m"],
    "pettingzoo": ["mpe2.simple_spread_v3", "adapted_games:Errands"],
    "gymnasium": ["Foraging-8x8-2p-2f-coop-v3"],
    "smax": ["3m"],
}
SLOW = {"zerg_5_vs_5"}  # to compile
OPTIONS = {
    "sc2": {"any_map": True, "pause_seconds": 0.1},
    "pettingzoo": {"outcomes": ["delivered"]},
    "gymnasium": {"outcomes": ["delivered"]},
    "smax": {"python": os.environ.get("TF_MARL_JAX")},  # an interpreter that has jaxmarl
}
NEEDS = {"mpe2": "mpe2", "adapted_games": "gymnasium", "Foraging": "lbforaging"}  # how a name begins -> a package
GAMES = pathlib.Path(__file__).parent / "adapters"
WORLDS = [
    pytest.param((backend, name), id=f"{backend} {name}", marks=[pytest.mark.slow] * (name in SLOW))
    for backend in environments.backends()
    for name in MAPS.get(backend, environments.names(backend)[:2])
]


def random_team(world):
    """Any available action."""
    return RandomTeam(world.time_step_spec, world.action_spec)


class Play:
    """Plays a world of either kind: arrays in, arrays out."""

    def __init__(self, world):
        self.world = world
        if world.compiles:
            self._functions = [graph.function(f, jit_compile=True) for f in (world.reset, world.step, world.time_step)]

    def reset(self):
        self._steps = 0
        if not self.world.compiles:
            return self.world.reset()
        self._state = self._functions[0](tf.constant(SEED))
        return self._shown()

    def step(self, action):
        self._steps += 1
        if not self.world.compiles:
            return self.world.step(action)
        seed = tf.random.experimental.stateless_fold_in(tf.constant(SEED), self._steps)
        self._state = self._functions[1](self._state, tf.constant(action), seed)
        return self._shown()

    def _shown(self):
        return tf.nest.map_structure(lambda leaf: leaf.numpy(), self._functions[2](self._state))

    def info(self):
        info = self.world.info(self._state) if self.world.compiles else self.world.info()
        return {name: np.array(fact) for name, fact in info.items()}


class Record(typing.NamedTuple):
    """Of T steps after a reset."""

    play: Play
    world: typing.Any
    shown: list  # [T + 1] time steps
    info: list  # [T + 1]
    action: list  # [T]


def record_of(world):
    """Legal play until an episode has ended and the next begun in all environments."""
    play, rng = Play(world), np.random.default_rng(0)
    record = Record(play, world, [play.reset()], [play.info()], [])
    begun = np.zeros(world.num_envs, int)
    while (begun < 2).any():
        begun += record.shown[-1].is_first()
        assert len(record.action) <= 3 * world.episode_limit
        legal = record.shown[-1].observation["avail_actions"]
        record.action.append(np.argmax(rng.random(legal.shape) * legal, axis=-1).astype(np.int32))
        record.shown.append(play.step(record.action[-1]))
        record.info.append(play.info())
    return record


@pytest.fixture
def make(request, monkeypatch):
    """(backend, map_name, num_envs, **options) -> a world that is closed after the test."""
    made = []
    monkeypatch.syspath_prepend(str(GAMES))

    def world(backend, map_name, num_envs=NUM_ENVS, **options):
        if backend == "sc2" and not made:
            request.getfixturevalue("smac")
            request.getfixturevalue("stand_in")()
        if backend == "smax" and not os.environ.get("TF_MARL_JAX"):
            pytest.skip("TF_MARL_JAX names no interpreter that has jaxmarl")
        for beginning, package in NEEDS.items():
            if map_name.startswith(beginning):
                pytest.importorskip(package)
        made.append(environments.make(map_name, num_envs, backend, **OPTIONS.get(backend, {}) | options))
        return made[-1]

    yield world
    for each in made:
        each.close()


@pytest.fixture(params=WORLDS)
def case(request):
    """Backend and map."""
    return request.param


@pytest.fixture
def world(make, case):
    return make(*case)


@pytest.fixture(scope="module")
def records():
    """Those made so far."""
    return {}


@pytest.fixture
def record(records, make, case):
    if case not in records:
        records[case] = record_of(make(*case))
    return records[case]


def refusal_of(function, *arguments, **options):
    """The one line of its ValueError; gin adds another, which a launcher leaves off."""
    with pytest.raises(ValueError, match=r"\w") as refused:
        function(*arguments, **options)
    line, *rest = str(refused.value).split("\n")
    assert all("In call to configurable" in more for more in rest)
    return line


# What is shown


def test_what_is_shown_is_what_the_specs_say(record):
    world = record.world
    assert set(world.time_step_spec.observation) == {"obs", "state", "avail_actions", "alive"}
    for shown in record.shown:
        tf.nest.map_structure(
            lambda spec, leaf: np.testing.assert_equal(
                (leaf.shape, leaf.dtype), ((NUM_ENVS, *spec.shape), spec.dtype.as_numpy_dtype)
            ),
            world.time_step_spec,
            shown,
        )
    num_agents, num_actions = world.time_step_spec.observation["avail_actions"].shape
    assert (world.action_spec.shape, world.action_spec.dtype) == ([num_agents], tf.int32)
    assert (world.action_spec.minimum, world.action_spec.maximum) == (0, num_actions - 1)
    if world.unit_types is not None:
        assert len(world.unit_types) == num_agents
        assert all(isinstance(unit_type, str) for unit_type in world.unit_types)


def test_an_episode_goes_from_first_to_last_and_the_step_after_begins_the_next(record):
    types = np.array([shown.step_type for shown in record.shown])
    assert (types[0] == ts.StepType.FIRST).all()
    before, after = types[:-1], types[1:]
    assert (after[before == ts.StepType.LAST] == ts.StepType.FIRST).all()
    assert (after[before != ts.StepType.LAST] != ts.StepType.FIRST).all()
    for shown in record.shown:
        first = shown.step_type == ts.StepType.FIRST
        assert not shown.reward[first].any()


def test_the_discount_is_0_at_most_where_an_episode_ends(record):
    for shown in record.shown:
        assert np.isin(shown.discount, [0.0, 1.0]).all()
        assert (shown.discount[shown.step_type != ts.StepType.LAST] == 1.0).all()


def test_no_episode_is_longer_than_the_limit(record):
    length = np.zeros(NUM_ENVS, int)
    for shown in record.shown:
        length = np.where(shown.step_type == ts.StepType.FIRST, 0, length + 1)
        assert (length <= record.world.episode_limit).all()


def test_everyone_may_do_something_and_the_dead_one_thing_until_the_next_episode(record):
    were_dead = np.zeros([], bool)
    for shown in record.shown:
        alive, choices = shown.observation["alive"], shown.observation["avail_actions"].sum(axis=-1)
        assert (choices >= 1).all()
        assert (choices[~alive] == 1).all()
        assert not (alive & were_dead & (shown.step_type != ts.StepType.FIRST)[:, None]).any()
        were_dead = ~alive


def test_outcomes_are_facts_of_info_and_of_no_episode_that_has_just_begun(record):
    assert record.world.outcomes
    for shown, info in zip(record.shown, record.info, strict=True):
        assert set(record.world.outcomes) <= set(info)
        assert all(fact.shape == (NUM_ENVS,) for fact in info.values())
        for outcome in record.world.outcomes:
            assert info[outcome].dtype == bool
            assert not info[outcome][shown.step_type == ts.StepType.FIRST].any()


def test_equal_seeds_and_actions_give_equal_episodes(record):
    if not record.world.compiles:
        pytest.skip("a live world draws its own chance")
    again = [record.play.reset(), *map(record.play.step, record.action)]
    tf.nest.map_structure(np.testing.assert_array_equal, again, record.shown)


# What it is


def test_resized_it_is_the_same_but_for_the_number_of_environments(world):
    other = world.resize(3)
    assert (world.num_envs, other.num_envs) == (NUM_ENVS, 3)
    for same in ("name", "time_step_spec", "action_spec", "unit_types", "episode_limit", "outcomes", "scripts"):
        assert getattr(other, same) == getattr(world, same), same
    assert other.settings() == world.settings()
    shown = Play(other).reset()
    assert shown.reward.shape == (3,)
    other.close()


def test_settings_are_plain_values_that_make_the_same_world_again(make, case, world):
    settings = world.settings()
    assert json.loads(json.dumps(settings)) == settings
    again = make(*case, **settings)
    assert again.settings() == settings
    assert (again.time_step_spec, again.action_spec) == (world.time_step_spec, world.action_spec)
    assert (again.name, again.episode_limit) == (world.name, world.episode_limit) == (case[1], world.episode_limit)


def test_tags_are_text(world):
    assert all(isinstance(text, str) for tag in world.tags().items() for text in tag)


def test_a_replay_is_written_by_each_world_that_says_so(world, tmp_path):
    policy = random_team(world)
    if not world.replay_suffixes:
        refused = refusal_of(world.write_replay, tmp_path / "replay", policy, SEED, 1, "")
        assert refused == f"{world.name} has no replays"
        return
    if not world.compiles:  # it shows what was played
        world.step(random_team(world).action(world.reset()).action.numpy())
    path = tmp_path / f"replay{world.replay_suffixes[0]}"
    world.write_replay(path, policy, SEED, 1, "any legal action")
    assert path.stat().st_size


def test_scripted_teams_play_legally(record, make, case):
    play = record.play if record.world.compiles else Play(make(*case))  # a live one was closed after its record
    for name in play.world.scripts:
        act, shown = graph.function(play.world.scripted(name).action), play.reset()
        for _ in range(5):
            action = act(shown).action.numpy()
            legal = shown.observation["avail_actions"]
            assert np.take_along_axis(legal, action[..., None], axis=-1).all()
            shown = play.step(action)


def test_an_unknown_script_is_refused_with_those_that_there_are(world):
    told = refusal_of(world.scripted, "genius")
    assert "'genius'" in told
    assert all(name in told for name in world.scripts or ["none"])


def test_it_has_the_enemies_that_it_lists_and_no_others(world):
    told = refusal_of(world.against, "ghosts")
    assert "'ghosts'" in told
    assert all(name in told for name in world.enemies or ["none to choose from"])
    for name in world.enemies:
        other = world.against(name)
        assert (other.name, other.num_envs, other.enemies) == (world.name, world.num_envs, world.enemies)
        assert (other.time_step_spec, other.action_spec) == (world.time_step_spec, world.action_spec)
        assert other.settings()["enemy"] == name


def test_tf_agents_drivers_drive_it(case, make):
    backend, name = case
    world = make(*case)  # so that the stand-in is there
    environment = environments.load(name, NUM_ENVS, backend, seed=1, **OPTIONS.get(backend, {}))
    assert isinstance(environment, tf_environment.TFEnvironment)
    assert (environment.batch_size, environment.world.name) == (NUM_ENVS, world.name)
    assert environment.time_step_spec() == world.time_step_spec
    seen = []
    driver = dynamic_step_driver.DynamicStepDriver(
        environment,
        random_team(world),
        [lambda row: seen.append(row)],
        num_steps=4 * NUM_ENVS,
    )
    time_step, _ = driver.run(environment.reset())
    assert seen
    assert time_step.reward.shape == [NUM_ENVS]
    assert set(environment.info()) >= set(world.outcomes)
    environment.world.close()


# Their names


@pytest.mark.parametrize("backend", environments.backends())
def test_an_unknown_map_or_option_is_refused_in_one_line(backend):
    names = environments.names(backend)
    assert len(set(names)) == len(names) > 0
    told = refusal_of(environments.make, "nowhere", backend=backend)
    assert "'nowhere'" in told
    assert all(name in told for name in names)
    assert "no_option" in refusal_of(environments.make, names[0], backend=backend, no_option=1)


def test_an_unknown_backend_is_refused_with_those_that_there_are():
    for ask in (environments.names, lambda backend: environments.make("3m", backend=backend)):
        told = refusal_of(ask, "chess")
        assert "'chess'" in told
        assert all(backend in told for backend in environments.backends())


class Coordination(MatrixGame):
    """A world of somebody else's: both choose alike."""


def make_coordination(map_name, num_envs, seed, **options):
    if map_name != "two":
        raise ValueError(f"unknown map {map_name!r}; coordination has: two")
    return Coordination(np.eye(2, dtype=np.float32), num_envs, name=map_name, **options)


def test_a_world_of_somebody_elses_is_registered_and_loaded_by_name():
    for _ in range(2):  # a module may be imported anew
        environments.register("coordination", make_coordination, names=lambda: ("two",))
    assert "coordination" in environments.backends()
    assert environments.names("coordination") == ("two",)
    assert isinstance(environments.make("two", backend="coordination"), Coordination)
    environment = environments.load("two", num_envs=3, backend="coordination", episode_length=1)
    environment.reset()
    np.testing.assert_array_equal(environment.step(tf.constant([[0, 0], [0, 1], [1, 1]])).reward, [1, 0, 1])
    assert "'three'" in refusal_of(environments.make, "three", backend="coordination")


@pytest.mark.parametrize("taken", ["combat", "sc2", "matrix_game"])
def test_a_name_that_is_taken_is_refused(taken):
    told = refusal_of(environments.register, taken, make_coordination)
    assert told == f"backend '{taken}' is there already; choose another name"
