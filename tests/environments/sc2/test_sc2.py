"""The backend `sc2` on the stand-in: shows what SMAC shows, and outlives what StarCraft II does to it."""

import itertools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from tf_marl import environments
from tf_marl.environments.processes import workers
from tf_marl.environments.sc2 import installation
from tf_marl.environments.smac_api import CombatEnv
from tf_marl.environments.world import WorldFailedError

STOP, EAST, ATTACK = 1, 4, 6


def attack_or_advance(available):
    """[N, A] -> [N]: each agent attacks the first enemy it may, else goes east, else stops."""
    wishes = [*range(ATTACK, available.shape[1]), EAST, STOP, 0]
    return np.array([next(action for action in wishes if agent[action]) for agent in available], np.int32)


def stop(shown):
    """[B, N]."""
    return shown.observation["alive"].astype(np.int32) * STOP


# The same battles


@pytest.mark.parametrize(
    "map_name", ["3m", *(pytest.param(name, marks=pytest.mark.slow) for name in ("2s3z", "MMM", "bane_vs_bane"))]
)
def test_it_shows_step_by_step_what_the_embedded_battle_shows(map_name, any_smac, stand_in, load, rng):
    if any_smac == "double" and map_name == "MMM":
        pytest.skip("smac's double knows no medivacs")
    stand_in()
    world, twin = load(map_name, seed=7).world, CombatEnv(map_name, seed=7, continuing_episode=True)
    shown = world.reset()
    for episode in range(4):
        twin.reset()
        assert shown.step_type[0] == ts.StepType.FIRST
        terminated = False
        while not terminated:
            np.testing.assert_allclose(shown.observation["obs"][0], twin.get_obs(), atol=1e-6)
            np.testing.assert_allclose(shown.observation["state"][0], twin.get_state(), atol=1e-6)
            available = np.array(twin.get_avail_actions(), bool)
            np.testing.assert_array_equal(shown.observation["avail_actions"][0], available)
            np.testing.assert_array_equal(shown.observation["alive"][0], [u.health > 0 for u in twin.agents.values()])
            anything = np.array([rng.choice(np.flatnonzero(agent)) for agent in available], np.int32)
            actions = attack_or_advance(available) if episode % 2 else anything
            shown = world.step(actions[None])
            reward, terminated, info = twin.step(actions)
            assert shown.reward[0] == pytest.approx(reward, abs=1e-6)
            assert shown.step_type[0] == (ts.StepType.LAST if terminated else ts.StepType.MID)
            assert world.info()["battle_won"][0] == info["battle_won"]
        assert shown.discount[0] == float("episode_limit" in info)  # a time limit is no defeat
        shown = world.step(actions[None])
    assert world.counts == workers.Counts()


def test_specs_are_those_of_the_embedded_battle_and_tf_agents_graphs_can_step_it(smac, stand_in, load):
    stand_in()
    environment, embedded = load("3m", num_envs=2), environments.load("3m", num_envs=2)
    assert environment.time_step_spec() == embedded.time_step_spec()
    assert environment.action_spec() == embedded.action_spec()

    @tf.function
    def play():
        first = environment.reset()
        return first, environment.step(tf.ones([2, 3], tf.int32)), environment.current_time_step()

    first, second, current = play()
    assert first.is_first().numpy().all()
    assert not second.is_first().numpy().any()
    tf.nest.map_structure(np.testing.assert_array_equal, second, current)


def test_enemies_can_be_sorted(smac, stand_in, load):
    stand_in(backwards=True)
    unsorted, in_order = load("3m", seed=1).world, load("3m", seed=1, sort_enemies=True).world
    first_enemy, columns = 3 * 4, 3
    y = {}
    for name, world in (("unsorted", unsorted), ("sorted", in_order)):
        state = world.reset().observation["state"][0]
        y[name] = state[first_enemy : first_enemy + 3 * columns].reshape(3, columns)[:, 1:].tolist()
    assert y["sorted"] == sorted(y["unsorted"]) != y["unsorted"]


# What goes wrong


def test_every_fault_costs_one_episode_and_one_restart(any_smac, stand_in, load, group, tmp_path):
    faults = [[0, 3, "die"], [1, 2, "drop"], [2, 4, "hang"], [3, 2, "garble"]]
    books = stand_in(faults=faults)
    world = load("3m", step_seconds=5.0).world
    shown = world.reset()
    broken, leaders = [], {world.workers[0].pid}
    for t in range(20):
        before, shown = shown, world.step(stop(shown))
        leaders.add(world.workers[0].pid)
        if shown.step_type[0] == ts.StepType.FIRST and before.step_type[0] != ts.StepType.LAST:
            broken.append(t)
    assert broken == [3, 6, 11, 14]  # and the steps after each are counted from 0 again
    assert world.counts == workers.Counts(restarts=4, hangs=1, dropped_episodes=4)
    told = books()
    assert told["faults"] == {"die": 1, "drop": 1, "hang": 1, "garble": 1}
    assert (told["launches"], told["at_once"]) == (5, 1)
    world.close()
    time.sleep(0.2)
    assert not [pid for leader in leaders for pid in group(leader)]
    assert not list(tmp_path.glob("tf_marl_worker_*"))


def test_the_others_play_on_while_a_game_restarts(smac, stand_in, load):
    stand_in(faults=[[0, 5, "die"]])
    world = load("3m", num_envs=2, pause_seconds=3.0).world
    shown = world.reset()
    seen = []
    for _ in range(12):
        shown = world.step(stop(shown))
        seen.append(shown.step_type.tolist())
    assert seen[:5] == [[ts.StepType.MID] * 2] * 5
    row = seen[5].index(ts.StepType.FIRST)
    assert all(step[row] == ts.StepType.FIRST and step[1 - row] == ts.StepType.MID for step in seen[5:])
    assert not shown.observation["alive"][row].any()
    assert shown.observation["avail_actions"][row].sum(axis=1).tolist() == [1, 1, 1]


def test_a_game_that_never_starts_ends_the_run_with_its_reason(smac, stand_in, load):
    books = stand_in(faults=[[i, -1, "refuse"] for i in range(9)])
    with pytest.raises(WorldFailedError, match=r"game 0 failed 2 times in a row, .*websocket.*max_failures"):
        load("3m", max_failures=1).world.reset()
    assert books()["launches"] == 2


def test_a_game_without_units_is_given_up(any_smac, stand_in, load):
    """smac raises where there never were any; where the next battle's do not come, it waits for them for ever."""
    stand_in(faults=[[0, -1, "no_units"], [1, -1, "one_battle"]])
    world = load("3m", step_seconds=5.0).world
    shown = world.reset()
    assert world.counts == workers.Counts(restarts=1)
    while shown.step_type[0] != ts.StepType.LAST:
        shown = world.step(stop(shown))
    world.step(stop(shown))
    assert world.counts == workers.Counts(restarts=2, hangs=1)


def test_a_game_is_at_work_from_being_asked_to_its_answer_or_its_end(smac, stand_in, load, monkeypatch):
    stand_in()
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(workers, "time", clock)
    (game,) = load("3m").world.workers
    assert game.seconds_at_work(100.0) == 0.0
    game.tend()  # is started, and asked for a battle
    assert game.seconds_at_work(105.0) == 5.0
    clock.now = 107.0
    workers.wait([game])
    assert game.seconds_at_work(150.0) == 7.0
    clock.now = 200.0
    game.play(np.array([True]))
    clock.now = 202.0
    game.fail("it is to")
    assert game.seconds_at_work(300.0) == 9.0  # while it waits to be started, too


def test_a_game_starts_anew_between_episodes_before_its_loops_run_out(any_smac, stand_in, load):
    books = stand_in()
    limit = 60 * 8 + 64  # game loops of the longest episode
    world = load("3m", max_loops=limit + 100).world
    shown, episodes, types = world.reset(), 0, []
    while episodes < 2:
        shown = world.step(stop(shown))
        types.append(int(shown.step_type[0]))
        episodes += types[-1] == ts.StepType.LAST
    world.step(stop(shown))
    begun = [before for before, after in itertools.pairwise(types) if after == ts.StepType.FIRST]
    assert begun == [ts.StepType.LAST]
    assert world.counts == workers.Counts(restarts=2)
    assert (books()["launches"], books()["at_once"]) == (3, 1)


def test_a_reset_in_the_middle_of_an_episode_starts_no_second_game_beside_the_first(any_smac, stand_in, load):
    books = stand_in()
    world = load("3m").world
    first = world.reset()
    world.reset()
    assert books()["launches"] == 1  # nothing was played, so nothing is to be begun anew
    world.step(stop(first))
    again = world.reset()
    assert again.step_type[0] == ts.StepType.FIRST
    np.testing.assert_array_equal(again.observation["obs"], first.observation["obs"])  # a new game, of the same seed
    assert (books()["launches"], books()["at_once"]) == (2, 1)
    assert world.counts == workers.Counts(restarts=1)


LEARNER = """
import time
from tf_marl import environments
world = environments.make("3m", num_envs=2, backend="sc2", any_map=True)
world.reset()
print(*[game.pid for game in world.workers], flush=True)
time.sleep(600)
"""


def test_nothing_outlives_a_learner_that_is_killed(smac, stand_in, group, tmp_path):
    stand_in()
    checkout = pathlib.Path(environments.__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", LEARNER], stdout=subprocess.PIPE, text=True, cwd=checkout) as learner:
        leaders = [int(pid) for pid in learner.stdout.readline().split()]
        everyone = {pid for leader in leaders for pid in group(leader)}
        assert len(everyone) == 4  # two workers, two games
        ports = [
            int(arguments[arguments.index("-port") + 1])
            for pid in everyone
            if "-port" in (arguments := pathlib.Path("/proc", str(pid), "cmdline").read_text().split("\0"))
        ]
        for leader in leaders:
            assert "tensorflow" not in pathlib.Path("/proc", str(leader), "maps").read_text()
        os.kill(learner.pid, signal.SIGKILL)
        learner.wait()
    deadline = time.monotonic() + 60
    while any(group(leader) for leader in leaders):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert list(tmp_path.glob("tf_marl_worker_*"))
    workers.tidy()
    assert not list(tmp_path.glob("tf_marl_worker_*"))


def test_the_game_writes_its_replays(any_smac, stand_in, load, tmp_path):
    stand_in()
    world = load("3m").world
    world.step(stop(world.reset()))
    world.write_replay(tmp_path / "battle.SC2Replay", policy=None, seed=None, num_episodes=1, title="")
    assert (tmp_path / "battle.SC2Replay").read_bytes() == b"a replay of 8 game loops"


# What is missing


def test_options_of_the_embedded_battle_are_refused():
    for option in ({"enemy": "random"}, {"profile": "smax"}, {"shuffle_enemies": True}):
        with pytest.raises(ValueError, match=f"{next(iter(option))} is the embedded battle's"):
            environments.load("3m", backend="sc2", **option)
    with pytest.raises(ValueError, match="a gigabyte each"):
        environments.load("3m", num_envs=100_000, backend="sc2")


def test_what_is_missing_is_named_with_its_remedy(smac, stand_in, tmp_path, monkeypatch):
    stand_in()
    with pytest.raises(installation.Missing, match=r"3m.SC2Map is not SMAC's .*copy "):
        installation.find("3m")
    found = installation.find("3m", any_map=True)
    assert (found.folder, found.build) == (tmp_path, "75689")
    (tmp_path / "Maps" / "SMAC_Maps" / "3m.SC2Map").unlink()
    with pytest.raises(installation.Missing, match=r"3m.SC2Map is missing; copy "):
        installation.find("3m")
    monkeypatch.setenv("SC2PATH", str(tmp_path / "Maps"))
    with pytest.raises(installation.Missing, match="holds no Versions"):
        installation.builds()
    monkeypatch.setenv("SC2PATH", str(tmp_path / "nowhere"))
    with pytest.raises(installation.Missing, match="is no folder"):
        installation.builds()
    monkeypatch.setenv("SC2_PYTHON", "/bin/false")
    with pytest.raises(installation.Missing, match="SC2_PYTHON=/bin/false"):
        installation.check_smac()
