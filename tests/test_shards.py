"""Rows dealt out and put together again: as if nothing had happened."""

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.compile import graph, shards


@pytest.fixture
def cores(monkeypatch):
    """Sets how many cores this process may use, on a machine without GPU."""

    def set_cores(number):
        monkeypatch.setattr(shards.os, "sched_getaffinity", lambda _: set(range(number)))

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    return set_cores


@pytest.mark.parametrize(
    ("rows", "num_cores", "expected"),
    [(8, 1, 1), (8, 2, 2), (8, 4, 4), (8, 3, 2), (6, 4, 3), (7, 4, 1), (7, 8, 7), (1, 4, 1)],
)
def test_there_is_a_shard_per_core_as_far_as_rows_can_be_dealt_out_evenly(cores, rows, num_cores, expected):
    cores(num_cores)
    assert shards.per_core(rows) == expected


def test_a_gpu_gets_everything_at_once(cores, monkeypatch):
    cores(4)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"] if kind == "GPU" else [])
    assert shards.per_core(8) == 1


@pytest.mark.parametrize("num_cores", [1, 2, 3])
def test_shards_side_by_side_make_what_all_rows_at_once_do(cores, rng, num_cores):
    cores(num_cores)
    seen = []

    def function(batch, scale):
        seen.append(batch["x"].shape[0])
        x, mask = batch["x"], batch["more"][0]
        return {"sum": tf.reduce_sum(x, axis=1) * scale, "rest": (tf.where(mask, x, 0.0), mask)}

    batch = {"x": tf.constant(rng.normal(size=(6, 4)), tf.float32), "more": (tf.constant(rng.random((6, 4)) < 0.5),)}
    scale = tf.constant(rng.normal(size=6), tf.float32)
    actual = shards.concat(shards.side_by_side(function, batch, scale))
    assert seen == [6 // num_cores] * num_cores
    tf.nest.map_structure(np.testing.assert_array_equal, actual, function(batch, scale))


def test_a_compiled_function_is_compiled_once_for_all_shards(cores, rng):
    cores(2)
    traced = []

    @graph.function(jit_compile=True)
    def square(x):
        traced.append(x.shape)
        return tf.square(x)

    x = tf.constant(rng.normal(size=(4, 3)), tf.float32)
    actual = graph.function(lambda x: shards.concat(shards.side_by_side(square, x)))(x)
    np.testing.assert_allclose(actual, np.square(x))
    assert traced == [[2, 3]]
