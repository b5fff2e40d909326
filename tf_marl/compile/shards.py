"""One compiled program a core: XLA keeps one core of a CPU busy, so a batch is dealt out in shards, side by side."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def per_core(size: int) -> int:
    """How many equal shards to deal `size` rows out in: one a core, where that divides them; one on a GPU."""
    if tf.config.list_physical_devices("GPU"):
        return 1
    return max(shards for shards in range(1, len(os.sched_getaffinity(0)) + 1) if size % shards == 0)


def side_by_side(function: Callable[..., Any], *rows: Any) -> list[Any]:
    """What a function makes of each shard of its arguments; TensorFlow runs them at the same time.

    Args:
        function: compiled by XLA, of nests of tensors like `rows` with fewer rows.
        *rows: nests of tensors, [R, ...] each, of a static R.
    """
    num_shards = per_core(tf.nest.flatten(rows)[0].shape[0])
    if num_shards == 1:
        return [function(*rows)]
    flat = [tf.split(leaf, num_shards) for leaf in tf.nest.flatten(rows)]
    return [function(*tf.nest.pack_sequence_as(rows, shard)) for shard in zip(*flat, strict=True)]


def concat(results: Sequence[Any]) -> Any:
    """The rows of all shards in one, in order."""
    if len(results) == 1:
        return results[0]
    return tf.nest.map_structure(lambda *leaves: tf.concat(leaves, axis=0), *results)


def on_rows(function: Callable[..., Any], *rows: Any) -> Any:
    """What a function makes of rows, shard by shard. Args: as for `side_by_side`."""
    return concat(side_by_side(function, *rows))
