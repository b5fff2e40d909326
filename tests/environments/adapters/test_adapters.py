"""Environments of others are seen as teams, by PettingZoo's and Gymnasium's conventions."""

import importlib
import os
import pathlib
import sys

import numpy as np
import pytest
from tf_agents.trajectories import time_step as ts

from tf_marl import environments

FIRST, MID, LAST = map(int, (ts.StepType.FIRST, ts.StepType.MID, ts.StepType.LAST))
ERRANDS = "adapted_games:Errands"


def actions(*rows):
    """[B, N]."""
    return np.array(rows, np.int32)


def test_spaces_are_padded_and_agents_typed_by_their_names(make):
    world = make(ERRANDS)
    shapes = {name: spec.shape.as_list() for name, spec in world.time_step_spec.observation.items()}
    assert shapes == {"obs": [3, 5], "state": [1], "avail_actions": [3, 4], "alive": [3]}
    assert world.unit_types == ("scout", "scout", "carrier")
    assert world.episode_limit == 4
    seen = world.reset().observation
    assert seen["obs"][0].tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]  # the carrier's is one-hot
    assert seen["avail_actions"][0].astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]]


def test_an_episode_shows_what_the_environment_told(make):
    world = make(ERRANDS, outcomes=["delivered"])
    world.reset()
    shown = world.step(actions([1, 0, 2]))  # the carrier counts its actions from 1, so it takes 3
    assert (shown.step_type[0], shown.reward[0], shown.discount[0]) == (MID, 1 + 0 + 3, 1)
    assert shown.observation["obs"][0].tolist() == [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
    assert shown.observation["state"][0].tolist() == [1]

    shown = world.step(actions([0, 1, 0]))  # scout_1 leaves
    assert shown.reward[0] == 0 + 1 + 1
    assert shown.observation["alive"][0].tolist() == [True, False, True]
    assert shown.observation["obs"][0, 1].tolist() == [0] * 5
    assert shown.observation["avail_actions"][0, 1].tolist() == [True, False, False, False]

    assert world.step(actions([1, 0, 2])).reward[0] == 1 + 3  # those who have left earn nothing
    assert not world.info()["delivered"][0]
    shown = world.step(actions([1, 0, 0]))
    assert (shown.step_type[0], shown.discount[0]) == (LAST, 1)  # the time was up
    assert shown.observation["obs"][0].tolist() == [[4, 1, 0, 0, 0], [0] * 5, [0, 1, 0, 0, 0]]
    assert world.info()["delivered"][0]
    shown = world.step(actions([1, 1, 1]))
    assert (shown.step_type[0], shown.reward[0], shown.observation["state"][0, 0]) == (FIRST, 0, 0)
    assert shown.observation["alive"].all()


def test_an_episode_that_ends_by_itself_has_discount_0_and_one_that_is_cut_off_1(make):
    ends = {"ends_at": 2, "max_cycles": 2}
    for options, discount in (
        ({"env_kwargs": {"ends_at": 2}}, 0),
        ({"episode_limit": 2, "env_kwargs": {"leaves_at": 0}}, 1),
        ({"env_kwargs": ends}, 0),  # both at once: the task is over
        ({"env_kwargs": ends, "truncates_at_limit": True}, 1),
    ):
        world = make(ERRANDS, **options)
        world.reset()
        assert world.step(actions([0, 0, 0])).step_type[0] == MID
        shown = world.step(actions([0, 0, 0]))
        assert (shown.step_type[0], shown.discount[0]) == (LAST, discount), options
        assert shown.observation["alive"][0, 0] == discount


def test_rewards_can_be_averaged_over_those_who_acted(make):
    world = make(ERRANDS, team_reward="mean", env_kwargs={"leaves_at": 1})
    world.reset()
    assert world.step(actions([1, 1, 2])).reward[0] == pytest.approx((1 + 1 + 3) / 3)
    assert world.step(actions([1, 1, 2])).reward[0] == pytest.approx((1 + 3) / 2)


def test_masks_come_from_the_observation_too_and_an_unavailable_action_becomes_an_available_one(make):
    world = make(ERRANDS, env_kwargs={"masks": "observation"})
    shown = world.reset()
    assert shown.observation["avail_actions"][0].astype(int).tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert shown.observation["obs"].shape == (1, 3, 5)
    assert world.step(actions([1, 1, 3])).reward[0] == 0 + 0 + 4


def test_gymnasiums_tuples_are_a_team_and_without_a_state_all_observations_are_it(make):
    world = make("adapted_games:Pair-v0", 2, "gymnasium")
    shown = world.reset()
    assert (world.unit_types, world.episode_limit, world.name) == (("agent",) * 2, 3, "adapted_games:Pair-v0")
    assert shown.observation["obs"][0].tolist() == [[1, 0, 0, 0, 1]] * 2
    assert shown.observation["state"][1].tolist() == [1, 0, 0, 0, 1] * 2
    assert world.step(actions([1, 1], [1, 0])).reward.tolist() == [2, 1]
    assert world.step(actions([0, 0], [0, 0])).observation["avail_actions"][0].tolist() == [[1, 0], [1, 1]]
    shown = world.step(actions([1, 1], [0, 1]))  # one may only take 0
    assert (shown.reward.tolist(), shown.discount.tolist()) == ([1, 1], [0, 0])


def test_one_agent_is_a_team_as_well(make):
    world = make("CartPole-v1", 1, "gymnasium")
    assert world.time_step_spec.observation["obs"].shape == [1, 4]
    world.reset()
    assert world.step(actions([0])).reward[0] == 1


def test_rows_are_spread_over_processes_and_every_environment_has_a_seed_of_its_own(make):
    spread = make("CartPole-v1", 5, "gymnasium", envs_per_process=2)
    assert [len(each.playing) for each in spread.workers] == [2, 2, 1]
    seen = spread.reset().observation["obs"][:, 0, 0]
    assert len(set(seen.tolist())) == 5
    other = make("CartPole-v1", 5, "gymnasium", envs_per_process=5)
    np.testing.assert_array_equal(other.reset().observation["obs"][:, 0, 0], seen)  # however they are spread


def test_an_evaluation_of_more_rows_than_environments_plays_one_episode_in_each(make):
    world = make(ERRANDS, 2, envs_per_process=2).resize(3)
    shown, types = world.reset(), []
    for _ in range(9):
        shown = world.step(np.zeros([3, 3], np.int32))
        types.append(shown.step_type.tolist())
    assert [step[0] for step in types] == [MID, MID, MID] + [LAST] * 6  # rests after its episode
    assert [step[2] for step in types] == [FIRST] * 5 + [MID] * 3 + [LAST]  # waited for the first row's environment


def test_a_class_is_as_good_as_its_name(make):
    make(ERRANDS)  # so that it can be imported
    errands = importlib.import_module("adapted_games").Errands
    environment = environments.load(errands, num_envs=2, pause_seconds=0.0)
    assert environment.world.name == ERRANDS
    assert environment.reset().reward.shape == [2]
    environment.world.close()


def test_a_backend_before_the_name_wins(make):
    named = make(f"pettingzoo:{ERRANDS}", backend="combat")
    assert named.name == ERRANDS
    assert environments.resolve("pettingzoo:a.b:C", "combat") == ("pettingzoo", "a.b:C")
    assert environments.resolve("a.b:C", "pettingzoo") == ("pettingzoo", "a.b:C")
    assert environments.resolve("3m") == ("combat", "3m")


@pytest.mark.parametrize(
    ("name", "backend", "options", "told"),
    [
        ("adapted_games:Continuous", "pettingzoo", {}, "adapted_games:Continuous: scout_0 acts in Box.*only Discrete"),
        ("adapted_games:InTurn", "pettingzoo", {}, "act one after another .*ParallelEnv"),
        ("adapted_games:no_limit", "pettingzoo", {}, "tells no time limit; set environment.episode_limit"),
        ("adapted_games:Nothing", "pettingzoo", {}, "unknown map 'adapted_games:Nothing' .*has no attribute 'Nothing'"),
        ("adapted_games:NAN", "pettingzoo", {}, "TypeError: 'float' object is not callable"),
        ("no_such_module.v0", "pettingzoo", {}, r"No module named 'no_such_module'.*pip install 'tf_marl\[worlds\]'"),
        ("Nowhere-v0", "gymnasium", {}, "unknown map 'Nowhere-v0'"),
        (ERRANDS, "pettingzoo", {"env_kwargs": {"speed": 1}}, "unexpected keyword argument 'speed'"),
        (ERRANDS, "pettingzoo", {"env_kwargs": {"speed": object()}}, "env_kwargs: should hold numbers, texts"),
        (ERRANDS, "pettingzoo", {"python": "/no/python"}, "environment.python .*'/no/python' does not start"),
        (ERRANDS, "pettingzoo", {"python": "/bin/false"}, "its process ended before it was made"),
    ],
)
def test_what_cannot_be_played_is_refused_in_a_line(name, backend, options, told, make):
    with pytest.raises(ValueError, match=told) as refused:
        make(name, 1, backend, **options)
    assert "\n" not in str(refused.value).partition("\n  In call to configurable")[0]


def test_what_another_process_cannot_import_is_refused_in_a_line():
    class Local:
        pass

    with pytest.raises(ValueError, match=r"cannot import .*Local from .*top level of a module of its own"):
        environments.make(Local)
    with pytest.raises(ValueError, match=r"environment.map_name: should be a name, a class or a function, not <object"):
        environments.resolve(object())


def test_workers_import_no_tensorflow(make):
    world = make(ERRANDS)
    world.reset()
    (worker,) = world.workers
    with open(f"/proc/{worker.pid}/maps") as loaded:
        assert "tensorflow" not in loaded.read()


def test_another_interpreter_runs_it_with_modules_of_its_own(make, tmp_path, monkeypatch):
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexport OTHER=1\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    code = "import os\nfrom adapted_games import Errands as parallel_env\nassert os.environ['OTHER']\n"
    (tmp_path / "elsewhere.py").write_text(code)
    places = [str(tmp_path), str(pathlib.Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    with pytest.raises(ValueError, match="No module named 'elsewhere'"):
        make("elsewhere")
    assert make("elsewhere", python=str(other)).reset().reward.shape == (1,)
    monkeypatch.setenv("TF_MARL_PYTHON", str(other))
    assert make("elsewhere").reset().reward.shape == (1,)
