"""What an environment or its process does wrong is a counted dropped episode or a clear line, never a wrong batch."""

import os
import signal

import numpy as np
import pytest
from tf_agents.trajectories import time_step as ts

from tf_marl.environments.processes import workers
from tf_marl.environments.world import WorldFailedError

FIRST, MID, LAST = map(int, (ts.StepType.FIRST, ts.StepType.MID, ts.StepType.LAST))
ERRANDS = "adapted_games:Errands"
FAULTS = {
    "exit": "its process ended by itself",
    "hang": "no answer in 3 s",
    "raise": r"step raised RuntimeError: the carrier fell \(.*adapted_games.py, line \d+\)",
    "nan": "an observation of scout_0 is not finite",
    "inf": "a reward is inf",
    "shape": r"an observation has shape \[2, 1\] instead of \[2\]",
    "outside": r"the observation 5 is not in Discrete\(5\)",
    "few": "an observation is missing for 'scout_0'",
    "unpaid": "a reward is missing for 'scout_0'",
    "unknown": "an observation came for 'scout_7', which is not one of possible_agents",
    "left": "scout_0 has left `agents` although it was neither terminated nor truncated",
    "mask": "the action mask of carrier_0 allows nothing",
    "state": "the state is not finite",
}


def play(world, num_steps):
    """Step types, [num_steps, B]."""
    seen = []
    for _ in range(num_steps):
        shown = world.step(np.zeros([world.num_envs, 3], np.int32))
        assert all(np.isfinite(leaf).all() for leaf in (shown.reward, *shown.observation.values()))
        seen.append(shown.step_type.tolist())
    return seen


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_drops_the_episode_and_one_too_many_in_a_row_ends_the_run_with_its_reason(fault, make):
    hang = {"step_seconds": 3.0} if fault == "hang" else {}
    world = make(ERRANDS, max_failures=1, env_kwargs={"fault": fault}, **hang)
    world.reset()
    assert play(world, 3) == [[MID], [FIRST], [MID]]  # the second step fails
    assert world.counts == workers.Counts(restarts=1, hangs=int(fault == "hang"), dropped_episodes=1)
    with pytest.raises(WorldFailedError, match=f"{ERRANDS}: process 0 failed 2 times in a row, .*{FAULTS[fault]}"):
        play(world, 1)


def test_the_others_play_on_while_a_process_starts_again(make, tmp_path):
    faults = {"fault": "raise", "once": str(tmp_path / "was_there")}
    world = make(ERRANDS, 4, envs_per_process=2, pause_seconds=60.0, env_kwargs=faults)
    world.reset()
    types = np.array(play(world, 4))
    broken = [row for row in range(4) if types[1, row] == FIRST]
    assert broken in ([0, 2], [1, 3])  # both of one process, whoever came first
    assert (types[:, broken] == [[MID] * 2, *[[FIRST] * 2] * 3]).all()
    rest = [row for row in range(4) if row not in broken]
    assert types[:, rest].T.tolist() == [[MID, MID, MID, LAST]] * 2
    assert world.counts.dropped_episodes == 2


def test_a_process_that_is_killed_comes_back(make):
    world = make(ERRANDS)
    world.reset()
    play(world, 1)
    os.kill(world.workers[0].pid, signal.SIGKILL)
    assert play(world, 5) == [[FIRST], [MID], [MID], [MID], [LAST]]
    assert world.metrics() == {"processes/restarts": 1, "processes/hangs": 0, "processes/dropped_episodes": 1}


def test_too_few_observations_of_a_tuple_are_refused(make):
    with pytest.raises(ValueError, match="there are 1 observations for 2 agents"):
        make("adapted_games:Pair-v0", 1, "gymnasium", env_kwargs={"observations": 1})
