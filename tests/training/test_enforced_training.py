"""Whole runs: where the trust region is held no update leaves a state above alpha; and updates measured in full."""

import dataclasses
import functools

import gin
import numpy as np
import pytest
import tensorflow as tf

from tf_marl import agents, environments
from tf_marl.agents.ppo import restraints
from tf_marl.environments.matrix_game import CLIMBING_GAME, MatrixGame
from tf_marl.training.train import Trainer

# In battles

ALPHA, NUM_UPDATES = 0.1, 50
FAST_AGENT = functools.partial(
    agents.ippo,
    hidden=(32,),
    num_epochs=4,
    num_minibatches=1,
    actor_learning_rate=5e-3,
    enforce=[restraints.backtrack(ALPHA)],
)


@pytest.fixture(scope="module", params=["3m", pytest.param("2s3z", marks=pytest.mark.slow)])
def runs(request, tmp_path_factory):
    """What updates that backtrack record, and what they do not: [U] each by name, from equal weights and battles."""
    folder = tmp_path_factory.mktemp("runs")
    world = environments.make(request.param, num_envs=8)
    trainer = Trainer(world=world, root_dir=str(folder), agent=FAST_AGENT, rollout_steps=16, num_shards=1)
    agent = trainer.agent

    def run(iteration):
        updates = [iteration()[0] for _ in range(NUM_UPDATES)]
        return {name: np.array([update[name] for update in updates]) for name in updates[0]}

    held = trainer.build_iteration()
    everything = tf.train.Checkpoint(agent=agent, collector=trainer.collector)
    start = everything.write(str(folder / "start"))
    metrics = run(held)
    everything.read(start).assert_consumed()
    # The same trainer, because compiling battles takes longer than all the updates.
    agent.config = dataclasses.replace(agent.config, enforce=())
    return metrics, run(trainer.build_iteration())


def test_no_update_leaves_a_state_above_alpha_where_it_backtracks(runs):
    held, _ = runs
    tv, share = held["trust_region/joint_tv_product_max"], held["trust_region/step_share"]
    assert tv.shape == (NUM_UPDATES,)
    assert (tv <= ALPHA * (1 + 1e-6)).all(), tv.max()
    # Nor is that for want of movement.
    assert (tv > ALPHA / 4).all()
    assert (share > 0.0).all()
    np.testing.assert_array_equal(share < 1.0, held["trust_region/backtracks"] > 0.0)
    assert np.mean(share < 1.0) > 0.5


def test_the_same_run_without_the_rule_exceeds_alpha(runs):
    held, plain = runs
    tv = plain["trust_region/joint_tv_product_max"]
    assert "trust_region/step_share" not in plain
    assert np.mean(tv > ALPHA) > 0.5
    assert tv.max() > 2 * ALPHA
    # The first update is the same up to where it goes back.
    assert plain["loss/policy"][0] == held["loss/policy"][0]
    assert tv[0] >= held["trust_region/joint_tv_product_max"][0]
    assert plain["loss/policy"][1] != held["loss/policy"][1]


# Measured in full

NUM_ENV_STEPS = 6 * 24  # an update is on 24: 4 environments with 6 of 8 rows, every fourth of which is a boundary
FULL_EVERY = 3


def make_trainer(root_dir, full_every=FULL_EVERY, **options):
    agent = functools.partial(agents.ippo, hidden=(8,), num_epochs=3, num_minibatches=2, **options)
    world = MatrixGame(CLIMBING_GAME, num_envs=4, episode_length=3)
    gin.parse_config(f"diagnostics.full_every = {full_every}")
    try:
        return Trainer(
            world=world,
            root_dir=str(root_dir),
            agent=agent,
            num_env_steps=NUM_ENV_STEPS,
            rollout_steps=8,
            eval_every_env_steps=NUM_ENV_STEPS,
            eval_episodes=2,
        )
    finally:
        gin.clear_config()


def run(trainer, stop_after=None):
    """(env steps, metrics) of updates, but for their speed; (env steps, history) of those measured in full."""
    recorded, kept = [], []

    def record(env_steps, metrics):
        if "loss/policy" in metrics:
            del metrics["train/env_steps_per_second"]
            recorded.append((env_steps, metrics))

    trainer.run(record, lambda: len(recorded) == stop_after, lambda *args: kept.append(args))
    return recorded, kept


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What was recorded and kept of a run that was broken off after three updates, and taken up for a fourth."""
    folder = tmp_path_factory.mktemp("measured")
    first = run(make_trainer(folder), stop_after=3)
    trainer = make_trainer(folder)
    assert trainer.restore()
    return [before + after for before, after in zip(first, run(trainer, stop_after=1), strict=True)]


def test_every_so_many_updates_are_kept_in_full(measured):
    recorded, kept = measured
    assert [env_steps for env_steps, _ in recorded] == [24, 48, 72, 96]
    assert [env_steps for env_steps, _ in kept] == [24, 96]


def test_measuring_in_full_changes_nothing_that_is_recorded(measured, tmp_path):
    recorded, _ = measured
    without, kept = run(make_trainer(tmp_path, full_every=0), stop_after=4)
    assert kept == []
    assert without == recorded


def test_a_history_leads_from_the_old_policy_to_what_is_recorded(measured):
    recorded, kept = measured
    bounds = {"joint_tv_sum", "joint_tv_product", "joint_tv_hellinger"}
    distributions = {"agent_tv", "joint_tv_lower", "joint_tv"} | bounds
    scalars = {"ratio_min", "ratio_max", "ratio_mean", "clip_fraction", "ratio_deviation_sum"}
    scalars |= {"epsilon", "clip_alpha", "kl_mean"}
    for env_steps, history in kept:
        metrics = dict(recorded)[env_steps]
        assert history.keys() == {"exact"} | distributions | scalars
        assert {values.shape for values in history.values()} == {(4,), (4, 101)}  # before 3 epochs, and after the last
        for name in distributions:
            assert (np.abs(history[name][0]) < 1e-6).all()
            assert (history[name][1:, 100] > 0.0).all()
            assert (np.diff(history[name], axis=1) >= 0.0).all()
        for name in scalars:
            np.testing.assert_allclose(history[name][-1], metrics[f"trust_region/{name}"], rtol=1e-5, err_msg=name)
        for name in {"agent_tv"} | bounds:
            np.testing.assert_allclose(history[name][-1, 100], metrics[f"trust_region/{name}_max"], rtol=1e-6)
        np.testing.assert_allclose([history["ratio_min"][0], history["ratio_max"][0]], 1.0, atol=1e-5)
        assert (history["exact"] == 1.0).all()


def test_a_history_ends_where_the_update_does(tmp_path):
    rules = [restraints.early_stop(1e-6), restraints.backtrack(1e-3)]
    recorded, kept = run(make_trainer(tmp_path, enforce=rules, actor_learning_rate=0.05), stop_after=1)
    ((_, metrics),) = recorded
    assert metrics["trust_region/epochs"] == 1.0
    assert 0.0 < metrics["trust_region/step_share"] < 1.0
    ((_, history),) = kept
    assert all(np.isfinite(values[:2]).all() and np.isnan(values[2:]).all() for values in history.values())
    assert 0.0 < history["joint_tv_product"][1, 100] <= 1e-3 * (1 + 1e-5)
