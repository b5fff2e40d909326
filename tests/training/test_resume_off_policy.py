"""An off-policy run resumes with its replay, exactly; its checkpoints write only what is new in it."""

import functools
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tf_marl import agents
from tf_marl.environments.matrix_game import CLIMBING_GAME, MatrixGame
from tf_marl.training.train import Trainer

ENV_STEPS = 24  # of a rollout: 4 environments with 6 of 8 rows, because every fourth row is a boundary
SMALL = {"hidden": (8,), "num_updates": 2, "batch_size": 4, "replay_rows": 4 * 32, "epsilon_env_steps": 300}
SMALL |= {"priority_exponent": 0.6}  # which has more to bring back than drawing uniformly


def make_trainer(root_dir, **options):
    return Trainer(
        world=MatrixGame(CLIMBING_GAME, num_envs=4, episode_length=3),
        root_dir=str(root_dir),
        agent=functools.partial(agents.qmix, rnn="gru", rnn_units=4, **SMALL | options),
        num_env_steps=12 * ENV_STEPS,
        rollout_steps=8,
        eval_every_env_steps=6 * ENV_STEPS,
        eval_episodes=3,
        checkpoint_every_env_steps=3 * ENV_STEPS,
    )


def run(trainer, updates=None):
    record = []

    def keep(env_steps, metrics):
        record.append((env_steps, {name: x for name, x in metrics.items() if name != "train/env_steps_per_second"}))

    trainer.run(keep, stop=lambda: updates is not None and len(record) >= updates)
    return record


def weights(trainer):
    return [variable.numpy() for variable in trainer.agent.learning_variables]


def snapshot(root_dir, env_steps):
    return root_dir / "checkpoints" / f"{env_steps:012}"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    root_dir = tmp_path_factory.mktemp("uninterrupted")
    trainer = make_trainer(root_dir)
    return root_dir, run(trainer), weights(trainer)


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory):
    """The folder of a run of 8 updates, whose replay of 4 rollouts has been full for long."""
    root_dir = tmp_path_factory.mktemp("broken_off")
    run(make_trainer(root_dir), updates=9)
    return root_dir


@pytest.fixture
def root_dir(broken_off, tmp_path):
    return shutil.copytree(broken_off, tmp_path / "run")


def test_a_full_replay_comes_back(uninterrupted, root_dir):
    _, record, expected = uninterrupted
    trainer = make_trainer(root_dir)
    assert trainer.restore()
    assert trainer.env_steps == 8 * ENV_STEPS
    rest = run(trainer)
    assert rest == [(env_steps, metrics) for env_steps, metrics in record if env_steps > 8 * ENV_STEPS]
    tf.nest.map_structure(np.testing.assert_array_equal, weights(trainer), expected)


def test_a_damaged_replay_costs_its_checkpoint_alone(uninterrupted, root_dir, caplog):
    _, _, expected = uninterrupted
    newest = snapshot(root_dir, 8 * ENV_STEPS) / "rollout_000000000007.npz"
    newest.write_bytes(newest.read_bytes()[:-100])
    trainer = make_trainer(root_dir)
    assert trainer.restore()
    assert trainer.env_steps == 6 * ENV_STEPS
    assert "192 env steps is damaged" in caplog.messages[0]
    run(trainer)
    tf.nest.map_structure(np.testing.assert_array_equal, weights(trainer), expected)


def test_a_checkpoint_writes_only_the_rollouts_that_are_new(uninterrupted):
    """Checkpoints come at 6, 9 and 12 rollouts and hold 4 each, so one of them is shared by two."""
    root_dir, *_ = uninterrupted
    links = {path.name: path.stat().st_nlink for path in snapshot(root_dir, 9 * ENV_STEPS).glob("rollout_*.npz")}
    assert links == {f"rollout_{number:012}.npz": 2 if number in (5, 8) else 1 for number in (5, 6, 7, 8)}


def test_an_update_that_overflows_is_taken_back_with_its_rollout(uninterrupted, root_dir):
    _, _, expected = uninterrupted
    exploding = make_trainer(root_dir, learning_rate=1e38)
    exploding.restore()
    with pytest.raises(FloatingPointError, match="not a finite number in the update at"):
        run(exploding)
    trainer = make_trainer(root_dir)
    assert trainer.restore()
    run(trainer)
    tf.nest.map_structure(np.testing.assert_array_equal, weights(trainer), expected)


def test_priorities_of_another_replay_are_refused(root_dir):
    with pytest.raises(ValueError, match=r"shape \(128,\) .* shape \(64,\) and name value\.replay_rows"):
        make_trainer(root_dir, replay_rows=64).restore()


def test_a_policy_is_restored_without_reading_the_replay(uninterrupted):
    root_dir, *_ = uninterrupted
    trainer = make_trainer(root_dir)
    assert trainer.restore_policy(best=False) == 12 * ENV_STEPS
    assert trainer.restore_policy(best=True) is not None


def test_a_replay_that_does_not_fit_the_memory_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match=r"and value\.replay_rows = 2,000,000,000 .* takes about [\d,]+\.\d GB"):
        make_trainer(tmp_path, replay_rows=2 * 10**9, priority_exponent=0.0)
    with pytest.raises(ValueError, match=r"value\.replay_rows: .* less than 2147483648, not 100000000000"):
        make_trainer(tmp_path, replay_rows=10**11)
