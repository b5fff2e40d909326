"""Replay: what it holds of what came, what it draws, and what it writes."""

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.agents.replay import Priorities, Replay, Sequences

NUM_ENVS, NUM_STEPS, NUM_KEPT = 2, 3, 4


def rollout(number):
    """A rollout, all of whose numbers tell which one it is and which sequence."""
    which = np.array([10 * number, 10 * number + 1], np.float32)
    rows = np.repeat(which[:, None], NUM_STEPS, axis=1)
    more = np.repeat(which[:, None], NUM_STEPS + 1, axis=1)
    made = Sequences(
        reward=rows,
        discount=rows,
        action=rows[..., None].astype(np.int32),
        step_type=more.astype(np.int32),
        observation={"obs": more[..., None, None], "alive": more[..., None] > 0},
        state=which[:, None, None],
    )
    return tf.nest.map_structure(tf.constant, made)


@pytest.fixture
def make():
    """Gives a function (rollouts to add) -> a replay of four rollouts' rows, and its count."""

    def filled(num_added, num_rows=NUM_KEPT * NUM_ENVS * NUM_STEPS + 5):
        added = tf.Variable(0, dtype=tf.int64)
        replay = Replay(num_rows, added, "value.replay_rows")
        for number in range(num_added):
            replay.add(rollout(number))
        return replay, added

    return filled


def drawn(replay, size=200):
    sample, _ = replay.sample(size, tf.constant([0, 1]))
    assert sample.reward.shape == (size, NUM_STEPS)
    which = sample.reward.numpy()[:, 0]
    np.testing.assert_array_equal(sample.observation["obs"][:, -1, 0, 0], which)
    np.testing.assert_array_equal(sample.state[:, 0, 0], which)
    return which


@pytest.mark.parametrize(("num_added", "oldest"), [(1, 0), (3, 0), (4, 0), (5, 1), (11, 7)])
def test_the_latest_rollouts_are_drawn_and_no_others(make, num_added, oldest):
    replay, added = make(num_added)
    kept = {10 * number + i for number in range(oldest, num_added) for i in range(NUM_ENVS)}
    assert set(drawn(replay)) == kept
    assert added == num_added


def test_all_are_as_probable(make):
    replay, _ = make(9)
    _, counts = np.unique(drawn(replay, 8000), return_counts=True)
    assert np.all(np.abs(counts - 1000) < 5 * 1000**0.5)


def test_a_rollout_that_is_taken_back_and_comes_again_leaves_no_trace(make):
    replay, added = make(6)
    before = drawn(replay)
    added.assign(5)
    replay.add(rollout(5))
    np.testing.assert_array_equal(drawn(replay), before)


def test_what_is_written_can_be_read_and_only_what_is_new_takes_room(make, tmp_path):
    replay, added = make(5)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    assert replay.write(first, None) == [f"rollout_{number:012}.npz" for number in (1, 2, 3, 4)]
    replay.add(rollout(5))
    names = replay.write(second, first)
    assert names == [f"rollout_{number:012}.npz" for number in (2, 3, 4, 5)]
    assert [(second / name).stat().st_nlink for name in names] == [2, 2, 2, 1]
    again, count = make(0)
    count.assign(added)
    again.read(second)
    again.add(rollout(6))
    assert set(drawn(again)) == {30, 31, 40, 41, 50, 51, 60, 61}


def test_before_the_first_rollout_there_is_nothing_to_write_or_read(make, tmp_path):
    replay, _ = make(0)
    assert replay.write(tmp_path, None) == []
    replay.read(tmp_path)


def test_a_larger_replay_than_was_written_is_refused(make, tmp_path):
    make(5)[0].write(tmp_path, None)
    larger, count = make(0, num_rows=100)
    count.assign(5)
    with pytest.raises(ValueError, match=r"value\.replay_rows = 100 is more than .* holds; set it back"):
        larger.read(tmp_path)


def test_sequences_of_another_length_are_refused(make):
    replay, _ = make(1)
    shorter = tf.nest.map_structure(lambda leaf: leaf[:, 1:] if len(leaf.shape) > 1 else leaf, rollout(1))
    with pytest.raises(ValueError, match=r"train\.rollout_steps = 2: the replay of this run holds sequences of 3 env"):
        replay.add(shorter)


def test_a_replay_of_less_than_one_rollout_is_refused(make):
    replay, _ = make(0)
    with pytest.raises(ValueError, match=r"value\.replay_rows = 29 is less than the 30 rows of one rollout"):
        replay.num_rollouts(5, 6)


@pytest.fixture
def prioritised():
    """Gives a function (rollouts to add, importance exponent) -> a replay with priorities, and their variable."""

    def filled(num_added, importance_exponent=1.0):
        variable = tf.Variable(tf.zeros([NUM_KEPT * NUM_ENVS * NUM_STEPS]))
        priorities = Priorities(variable, exponent=0.5, importance_exponent=importance_exponent)
        replay = Replay(variable.shape[0], tf.Variable(0, dtype=tf.int64), "value.replay_rows", priorities)
        for number in range(num_added):
            replay.add(rollout(number))
        return replay, variable

    return filled


def test_sequences_are_drawn_by_a_power_of_their_priorities(prioritised):
    """Priorities 1, 4, 9 and 16 to the power of one half are 1, 2, 3 and 4."""
    replay, _ = prioritised(2)
    replay.set_priorities(tf.range(4), tf.constant([1.0, 4.0, 9.0, 16.0]))
    counts = [np.sum(drawn(replay, 10_000) == which) for which in (0, 1, 10, 11)]
    np.testing.assert_allclose(counts, [1000, 2000, 3000, 4000], atol=250)  # five standard errors


def test_importance_weights_take_the_bias_out_of_a_mean(prioritised):
    replay, _ = prioritised(2)
    replay.set_priorities(tf.range(4), tf.constant([1.0, 4.0, 9.0, 16.0]))
    sample, draw = replay.sample(10_000, tf.constant([0, 1]))
    mean = np.average(sample.reward[:, 0], weights=draw.weight)
    assert mean == pytest.approx((0 + 1 + 10 + 11) / 4, abs=0.3)
    np.testing.assert_allclose(np.unique(np.round(draw.weight, 4)), [0.625, 0.8333, 1.25, 2.5], atol=1e-3)


def test_new_sequences_have_the_largest_priority_so_far(prioritised):
    replay, variable = prioritised(2)
    np.testing.assert_array_equal(variable[:5], [1, 1, 1, 1, 0])
    replay.set_priorities(tf.constant([1, 2]), tf.constant([0.5, 3.0]))
    replay.add(rollout(2))
    np.testing.assert_array_equal(variable[:7], [1, 0.5, 3, 1, 3, 3, 0])


def test_a_full_replay_with_priorities_draws_the_latest_rollouts(prioritised):
    replay, _ = prioritised(6)
    assert set(drawn(replay, 500)) == {10 * number + i for number in range(2, 6) for i in range(NUM_ENVS)}
