"""The training loop: what it records, that it repeats, and that it can be broken off and taken up again."""

import functools
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tf_marl import agents
from tf_marl.environments.matrix_game import CLIMBING_GAME, MatrixGame
from tf_marl.training.evaluate import Evaluator
from tf_marl.training.train import Trainer

SMALL_AGENT = functools.partial(agents.ippo, hidden=(8,), num_epochs=2, num_minibatches=2)
# An update is on 24 env steps, 4 environments with 6 of 8 rows: every fourth row is a boundary.
NUM_ENV_STEPS, ENV_STEPS_PER_UPDATE, EVAL_EVERY = 6 * 24, 24, 2 * 24


def make_trainer(root_dir, seed=0, **options):
    options = {
        "agent": SMALL_AGENT,
        "num_env_steps": NUM_ENV_STEPS,
        "rollout_steps": 8,
        "eval_every_env_steps": EVAL_EVERY,
        "eval_episodes": 3,
    } | options
    world = MatrixGame(CLIMBING_GAME, num_envs=4, episode_length=3)
    return Trainer(world=world, root_dir=str(root_dir), seed=seed, **options)


class Record(list):
    """(env steps, metrics) as recorded, but for the speed."""

    def __call__(self, env_steps, metrics):
        speed = metrics.get("train/env_steps_per_second", 1.0)
        assert speed > 0
        self.append((env_steps, {k: v for k, v in metrics.items() if k != "train/env_steps_per_second"}))

    def updates(self):
        return [(env_steps, metrics) for env_steps, metrics in self if "loss/policy" in metrics]

    def evaluations(self):
        return [(env_steps, metrics) for env_steps, metrics in self if "eval/return_mean" in metrics]


def run(trainer, interrupt_at=None):
    record = Record()
    return trainer.run(record, stop=lambda: len(record) == interrupt_at), record


def weights(trainer):
    return trainer.agent.actor.get_weights() + trainer.agent.critic.get_weights()


def saved(root_dir, kind="checkpoints"):
    """Env steps of the checkpoints there are."""
    return sorted(int(path.name) for path in (root_dir / kind).iterdir())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    trainer = make_trainer(tmp_path_factory.mktemp("uninterrupted"))
    return trainer, *run(trainer)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run of the same seed, broken off at its fourth record, the third update, between two evaluations."""
    root_dir = tmp_path_factory.mktemp("interrupted")
    trainer = make_trainer(root_dir)
    assert not trainer.restore()
    return root_dir, trainer, *run(trainer, interrupt_at=4)


def test_every_update_and_evaluation_is_recorded_at_its_env_steps(uninterrupted):
    _, _, record = uninterrupted
    assert [env_steps for env_steps, _ in record.updates()] == [24, 48, 72, 96, 120, 144]
    assert [env_steps for env_steps, _ in record.evaluations()] == [48, 96, 144]
    assert len(record) == 6 + 3


def test_an_iteration_is_traced_once(tmp_path):
    iteration = make_trainer(tmp_path).build_iteration()
    iteration()
    assert iteration.experimental_get_tracing_count() == 1


def test_records_are_finite_numbers_under_known_names(uninterrupted):
    _, _, record = uninterrupted
    for _, metrics in record.updates():
        assert {"loss/policy", "loss/value", "loss/entropy", "grad_norm/actor", "grad_norm/critic"} <= metrics.keys()
        assert {"trust_region/agent_tv_max", "train/return_mean", "train/battle_won_mean"} <= metrics.keys()
        assert metrics["train/episode_length_mean"] == 3
        assert metrics["trust_region/ratio_min"] < 1 < metrics["trust_region/ratio_max"]
        assert 0 < metrics["trust_region/agent_tv_max"] <= metrics["trust_region/joint_tv_sum_max"]
    for _, metrics in record.evaluations():
        assert metrics.keys() == {"eval/battle_won_mean", "eval/return_mean", "eval/episode_length_mean"}
    for _, metrics in record:
        assert all(type(value) is float and np.isfinite(value) for value in metrics.values()), metrics


def test_result_is_the_last_evaluation(uninterrupted):
    _, result, record = uninterrupted
    assert result == (NUM_ENV_STEPS, record[-1][1], False)


def test_equal_seeds_record_bit_identical_metrics(uninterrupted, interrupted):
    _, _, record = uninterrupted
    _, _, _, twin = interrupted
    assert list(twin[:4]) == list(record[:4])


def test_another_seed_records_other_metrics(uninterrupted, tmp_path):
    _, _, record = uninterrupted
    _, other = run(make_trainer(tmp_path, seed=1, num_env_steps=1))
    assert [env_steps for env_steps, _ in other] == [24, 24]
    assert other[0] != record[0]


def test_interrupted_run_saves_and_says_so_at_once(interrupted):
    root_dir, _, result, record = interrupted
    assert result.interrupted
    assert result.env_steps == 72
    assert len(record) == 4  # no evaluation that an uninterrupted run would not have made
    assert record.evaluations() == [(48, result.evaluation)]
    assert saved(root_dir) == [72]


def test_restored_run_goes_on_bit_identically(uninterrupted, interrupted):
    whole, whole_result, record = uninterrupted
    root_dir, broken_off, _, _ = interrupted
    trainer = make_trainer(root_dir)
    assert trainer.restore()
    assert trainer.env_steps == 72
    tf.nest.map_structure(np.testing.assert_array_equal, weights(trainer), weights(broken_off))
    result, rest = run(trainer)
    assert list(rest) == [(env_steps, metrics) for env_steps, metrics in record if env_steps > 72]
    assert result == whole_result
    tf.nest.map_structure(np.testing.assert_array_equal, weights(trainer), weights(whole))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 5}, "sequence_length = 5 does not divide the 8 env steps"),
        (
            {"sequence_length": 8, "num_minibatches": 5},
            "num_minibatches = 5 is more than the 4 sequences of 8 env steps",
        ),
    ],
)
def test_sequences_that_do_not_fit_a_rollout_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, agent=functools.partial(agents.ippo, rnn="gru", **options))


def test_whole_episodes_are_learned_from(tmp_path):
    trainer = make_trainer(tmp_path, whole_episodes=True, rollout_steps=1)
    _, record = run(trainer)
    # 4 environments play an episode of 3 env steps for every update.
    assert [env_steps for env_steps, _ in record.updates()] == list(range(12, NUM_ENV_STEPS + 1, 12))
    assert {metrics["train/episode_length_mean"] for _, metrics in record.updates()} == {3.0}


def test_checkpoints_come_as_often_as_asked_for_and_the_last_few_stay(tmp_path):
    seen = []
    trainer = make_trainer(tmp_path, checkpoint_every_env_steps=ENV_STEPS_PER_UPDATE, max_checkpoints=2)
    trainer.run(lambda env_steps, _: seen.append(saved(tmp_path) if (tmp_path / "checkpoints").exists() else []))
    updates = [n for i, n in enumerate(seen) if i % 3 != 2]  # every third record is an evaluation
    assert updates == [[], [24], [24, 48], [48, 72], [72, 96], [96, 120]]
    assert saved(tmp_path) == [120, 144]


def test_an_update_that_overflows_is_taken_back_and_described_and_other_settings_go_on(uninterrupted, tmp_path):
    run(make_trainer(tmp_path), interrupt_at=4)
    exploding = make_trainer(tmp_path, agent=functools.partial(SMALL_AGENT, actor_learning_rate=1e38))
    exploding.restore()
    before = weights(exploding)
    nothing = Record()
    with pytest.raises(FloatingPointError, match=r"not a finite number in the update at 72 env steps; .*learning rate"):
        exploding.run(nothing)
    assert not nothing
    tf.nest.map_structure(np.testing.assert_array_equal, weights(exploding), before)
    (path,) = tmp_path.glob("not_finite_*.json")
    description = json.loads(path.read_text())
    assert any(name.startswith("loss/") for name in description["not_finite"])
    assert description["batch"]["reward"]["finite"] == 1
    assert description["batch"]["reward"]["min"] >= min(map(min, CLIMBING_GAME))
    assert description["batch"]["advantage"]["shape"][0] == 32
    assert all(weight["finite"] == 1 for weight in description["weights"].values())
    assert {name.partition("/")[0] for name in description["weights"]} == {"actor", "critic"}

    # As if it had never been.
    whole, _, record = uninterrupted
    trainer = make_trainer(tmp_path)
    assert trainer.restore()
    _, rest = run(trainer)
    assert list(rest) == [(env_steps, metrics) for env_steps, metrics in record if env_steps > 72]
    tf.nest.map_structure(np.testing.assert_array_equal, weights(trainer), weights(whole))


def test_finished_run_is_not_trained_further(uninterrupted):
    trainer, result, _ = uninterrupted
    before = weights(trainer)
    again, record = run(trainer)
    assert again == result
    assert not record.updates()
    tf.nest.map_structure(np.testing.assert_array_equal, weights(trainer), before)


def evaluate_as(trainer, *ranks):
    """Evaluations that come out as (win rate, return), EVAL_EVERY steps apart, of ever other weights; returns those."""
    seen = []
    for won, total in ranks:
        trainer.env_steps.assign_add(EVAL_EVERY)
        for variable in trainer.agent.actor.variables + trainer.agent.critic.variables:
            variable.assign_add(tf.ones_like(variable))
        seen.append(weights(trainer))
        outcome = {"optimal_mean": won, "return_mean": total, "episode_length_mean": 3.0}
        trainer.evaluator = lambda _, outcome=outcome: outcome
        trainer.evaluate(lambda *_: None)
        trainer.save()
    return seen


def assert_best(trainer, env_steps, expected):
    assert trainer.restore_policy(best=True) == env_steps
    tf.nest.map_structure(np.testing.assert_array_equal, weights(trainer), expected)


@pytest.mark.parametrize(
    ("ranks", "best"),
    [
        ([(0.5, 9.0), (0.75, 2.0), (0.25, 20.0)], 1),  # the win rate counts first,
        ([(0.5, 9.0), (0.5, 10.0), (0.5, 8.0)], 1),  # then the return,
        ([(0.0, 0.0), (0.5, 9.0), (0.5, 9.0)], 2),  # and of equals the later
        ([(0.0, 0.0), (0.0, float("nan")), (float("nan"), 9.0)], 0),
    ],
)
def test_the_best_weights_come_back(ranks, best, tmp_path):
    trainer = make_trainer(tmp_path)
    assert trainer.restore_policy(best=True) is None
    seen = evaluate_as(trainer, *ranks)
    assert_best(trainer, EVAL_EVERY * (best + 1), seen[best])
    assert saved(tmp_path, "best") == [EVAL_EVERY * (best + 1)]


def test_a_resumed_run_remembers_its_best(tmp_path):
    seen = evaluate_as(make_trainer(tmp_path), (0.5, 9.0), (0.25, 9.0))
    trainer = make_trainer(tmp_path)
    assert trainer.restore()
    evaluate_as(trainer, (0.25, 20.0))
    assert_best(trainer, EVAL_EVERY, seen[0])


def test_where_the_best_is_damaged_the_next_evaluation_is_it(tmp_path, caplog):
    evaluate_as(make_trainer(tmp_path), (0.5, 9.0), (0.25, 9.0))
    for path in (tmp_path / "best").rglob("snapshot*"):
        path.write_bytes(b"")
    trainer = make_trainer(tmp_path)
    assert trainer.restore()
    assert caplog.messages[-1] == "no best policy is left; the next evaluation makes a new one"
    (seen,) = evaluate_as(trainer, (0.0, 1.0))
    assert_best(trainer, 3 * EVAL_EVERY, seen)
    assert saved(tmp_path, "best") == [3 * EVAL_EVERY]


def test_a_new_run_forgets_the_best_of_another(tmp_path):
    evaluate_as(make_trainer(tmp_path), (0.5, 9.0), (0.75, 9.0))
    shutil.rmtree(tmp_path / "checkpoints")
    trainer = make_trainer(tmp_path, seed=1)
    assert not trainer.restore()
    (seen,) = evaluate_as(trainer, (0.25, 9.0))
    assert_best(trainer, EVAL_EVERY, seen)


def test_evaluations_repeat_with_the_seed():
    world = MatrixGame(CLIMBING_GAME, num_envs=64, episode_length=3)
    evaluate = Evaluator(world, agents.ippo(world.time_step_spec, world.action_spec, hidden=(8,)).collect_policy)
    results = [evaluate(tf.constant([0, seed])) for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]
    assert results[0]["episode_length_mean"] == 3
    assert results[0]["battle_won_mean"] * 64 == int(results[0]["battle_won_mean"] * 64)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_env_steps", "1000"),
        ("num_env_steps", 0),
        ("num_env_steps", 2.5),
        ("rollout_steps", -8),
        ("rollout_steps", True),
        ("eval_every_env_steps", None),
        ("eval_episodes", 0),
        ("seed", -1),
        ("seed", 0.5),
        ("agent", "ippo"),
        ("environment", "3m"),
        ("root_dir", 7),
        ("rollout_step", 8),
    ],
)
def test_unfit_option_is_named(tmp_path, option, value):
    world = MatrixGame(CLIMBING_GAME, num_envs=4)
    options = {"world": world, "root_dir": str(tmp_path), "agent": SMALL_AGENT} | {option: value}
    with pytest.raises(ValueError, match=rf"^train\.{option}: "):
        Trainer(**options)


def test_whole_numbers_may_be_written_as_floats(tmp_path):
    assert make_trainer(tmp_path, num_env_steps=5e6).num_env_steps == 5_000_000


def test_rollout_of_fewer_rows_than_minibatches_is_refused(tmp_path):
    with pytest.raises(ValueError, match="num_minibatches = 33 is more than the 32 rows"):
        make_trainer(tmp_path, agent=functools.partial(SMALL_AGENT, num_minibatches=33))
