"""Training, evaluation and checkpoints on games that fail: nothing of an episode that broke off is learned from."""

import functools
from multiprocessing import connection

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import policy_step, trajectory
from tf_agents.trajectories import time_step as ts

from tf_marl import agents
from tf_marl.environments.processes import workers
from tf_marl.training.evaluate import Evaluator
from tf_marl.training.live import without_broken
from tf_marl.training.train import Trainer

FIRST, MID, LAST = map(int, (ts.StepType.FIRST, ts.StepType.MID, ts.StepType.LAST))
SMALL_AGENT = functools.partial(agents.ippo, hidden=(16,), num_epochs=2, num_minibatches=2)


def rows_of(types):
    """Rows [B, T] of these step types [B, T + 1], whose rewards are 1."""
    types = np.array(types, np.int32)
    nothing = np.ones_like(types[:, 1:], np.float32)
    return trajectory.Trajectory(types[:, :-1], (), (), (), types[:, 1:], nothing, nothing)


def test_what_was_played_of_an_episode_that_broke_off_is_a_boundary():
    types = [
        [MID, MID, LAST, FIRST, MID, MID],  # all is well
        [MID, MID, FIRST, MID, LAST, FIRST],  # the first one broke off
        [FIRST, FIRST, FIRST, MID, FIRST, MID],  # waits, breaks off, begins
        [MID, LAST, FIRST, MID, MID, FIRST],  # breaks off at the very end
    ]
    learned = {False: [[1, 1, 0, 1, 1], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]}
    learned[True] = [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    for only_whole, expected in learned.items():
        rows = without_broken(rows_of(types), only_whole)
        assert (~rows.is_boundary()).astype(int).tolist() == expected
        was_boundary = np.array(types)[:, :-1] == LAST
        np.testing.assert_array_equal(rows.reward, np.array(expected) | was_boundary)


def make_trainer(world, root_dir, **options):
    options = {
        "agent": SMALL_AGENT,
        "num_env_steps": 100,
        "rollout_steps": 32,
        "eval_every_env_steps": 10_000,
        "eval_episodes": 3,
    } | options
    return Trainer(world=world, root_dir=str(root_dir), **options)


def test_a_run_counts_its_faults_and_is_taken_up_again_with_new_episodes(smac, stand_in, load, tmp_path):
    stand_in(faults=[[0, 10, "die"], [2, 3, "drop"]])
    trainer = make_trainer(load("3m", num_envs=2).world, tmp_path / "run", num_env_steps=5_000)
    updates = []
    result = trainer.run(
        lambda _, metrics: updates.append(metrics), stop=lambda: bool(updates) and updates[-1]["sc2/restarts"] == 2
    )
    assert result.interrupted  # how long a game takes to be back is not said in steps
    assert updates[-1]["sc2/dropped_episodes"] == 2
    assert updates[-1]["sc2/hangs"] == 0
    assert all(0 < metrics["live/busy"] <= 1 for metrics in updates)

    again = make_trainer(load("3m", num_envs=2).world, tmp_path / "run", num_env_steps=5_000)
    assert again.restore()
    assert int(again.env_steps) == result.env_steps
    assert again.collector.collect()[0].experience.step_type.numpy()[:, 0].tolist() == [FIRST, FIRST]


def test_a_game_that_comes_back_between_two_collections_is_not_busy_for_it(smac, stand_in, load, tmp_path):
    stand_in(faults=[[0, 2, "die"]], start_seconds=2.0)
    trainer = make_trainer(load("3m", num_envs=2, pause_seconds=0.0).world, tmp_path / "run", rollout_steps=4)
    trainer.collector.collect()
    trainer.collector.metrics()
    (back,) = (game for game in trainer.world.workers if game.recovering)
    connection.wait([back.channel])
    trainer.collector.collect()
    assert 0 < trainer.collector.metrics()["live/busy"] <= 1


def test_evaluations_play_one_whole_episode_a_row_however_few_the_games(smac, stand_in, load):
    books = stand_in(faults=[[0, 5, "die"]])
    world = load("3m", num_envs=2).world.resize(3)

    class Standing:
        """Loses, in no less than 20 steps."""

        info_spec = ()
        get_initial_state = staticmethod(lambda batch_size: ())

        @staticmethod
        def action(time_step, policy_state, seed):
            return policy_step.PolicyStep(tf.cast(time_step.observation["alive"], tf.int32), (), ())

    result = Evaluator(world, Standing())(tf.constant([0, 0]))
    assert result["battle_won_mean"] == 0
    assert 20 < result["episode_length_mean"] < 60
    assert world.counts == workers.Counts(restarts=1, dropped_episodes=1)
    assert books()["launches"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("whole_episodes", [True, False])
def test_a_long_run_on_games_that_fail_all_the_time(whole_episodes, any_smac, stand_in, load, group, tmp_path):
    """2 games, 20,000 env steps, a fault every 300 on average."""
    books = stand_in(fault_rate=1 / 300, fault_kinds=["die", "drop", "hang", "garble"])
    world = load("3m", num_envs=2, step_seconds=3.0).world
    trainer = make_trainer(
        world, tmp_path / "run", num_env_steps=20_000, rollout_steps=64, whole_episodes=whole_episodes
    )
    collect, dropped, leaders = trainer.collector.collect, [], set()

    def checked():
        before = world.counts.dropped_episodes
        rollout, tally = collect()
        dropped.append(world.counts.dropped_episodes - before)
        leaders.update(game.pid for game in world.workers if game.pid)
        types, boundary = rollout.experience.step_type.numpy(), rollout.experience.is_boundary().numpy()
        after = rollout.experience.next_step_type.numpy()
        assert not boundary.all()
        for row in range(2):
            learned = np.flatnonzero(~boundary[row])
            # Whatever is learned from goes on to a step of the same episode, so none of it broke off.
            assert (after[row][learned] != FIRST).all()
            for t in learned[:-1]:
                assert after[row, t] == LAST or types[row, t + 1] == MID
            if whole_episodes and learned.size:
                assert (types[row, learned[0]], after[row, learned[-1]]) == (FIRST, LAST)
                assert (np.diff(learned) == 1).all()
        return rollout, tally

    trainer.collector.collect = checked
    record = []
    result = trainer.run(lambda *recorded: record.append(recorded))
    assert not result.interrupted
    assert result.env_steps >= 20_000
    told = books()
    print(whole_episodes, any_smac, result, told, world.counts)
    faults = sum(told["faults"].values())
    assert 30 < faults < 120
    assert world.counts == workers.Counts(
        restarts=told["launches"] - 4, hangs=told["faults"]["hang"], dropped_episodes=faults
    )
    assert told["at_once"] == 1
    assert sum(dropped) > 0
    world.close()
    assert not [pid for leader in leaders for pid in group(leader)]
    assert not list(tmp_path.glob("tf_marl_worker_*"))


@pytest.mark.slow
def test_two_games_that_take_20_ms_a_step_are_kept_busy(any_smac, stand_in, load, tmp_path):
    """On free cores: where others take them, one game is done late and the other waits for it."""
    stand_in(step_seconds=0.02)
    trainer = make_trainer(load("3m", num_envs=2).world, tmp_path / "run", rollout_steps=128)
    trainer.collector.collect()
    trainer.collector.metrics()
    busy = []
    for _ in range(5):
        trainer.collector.collect()
        busy.append(trainer.collector.metrics()["live/busy"])
    print(any_smac, busy)
    assert np.median(busy) >= 0.9
