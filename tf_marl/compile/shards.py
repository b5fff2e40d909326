"""A batch is split into shards that run side by side, one compiled program per CPU core.

A program compiled by XLA mostly uses one core of a CPU, so several programs are needed to use all of them.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def per_core(size: int) -> int:
    """Returns how many equal shards to split rows into.

    On a CPU it is the largest divisor of `size` that is at most the number of cores; on a GPU it is 1.

    Args:
        size: number of rows.
    """
    if tf.config.list_physical_devices("GPU"):
        return 1
    return max(shards for shards in range(1, len(os.sched_getaffinity(0)) + 1) if size % shards == 0)


def side_by_side(function: Callable[..., Any], *rows: Any) -> list[Any]:
    """Calls a function on each shard of its arguments; in a graph, TensorFlow runs the calls in parallel.

    Args:
        function: compiled by XLA; takes nests of tensors such as `rows`, with fewer rows.
        *rows: nests of tensors, [R, ...] each; R must be known statically.
    Returns:
        The results, one per shard.
    """
    num_shards = per_core(tf.nest.flatten(rows)[0].shape[0])
    if num_shards == 1:
        return [function(*rows)]
    flat = [tf.split(leaf, num_shards) for leaf in tf.nest.flatten(rows)]
    return [function(*tf.nest.pack_sequence_as(rows, shard)) for shard in zip(*flat, strict=True)]


def concat(results: Sequence[Any]) -> Any:
    """Concatenates the rows of all shards, in order.

    Args:
        results: nests of tensors, one per shard, [R / shards, ...] each.
    Returns:
        One such nest of tensors, [R, ...] each.
    """
    if len(results) == 1:
        return results[0]
    return tf.nest.map_structure(lambda *leaves: tf.concat(leaves, axis=0), *results)


def on_rows(function: Callable[..., Any], *rows: Any) -> Any:
    """Calls a function on each shard of its arguments and concatenates the results.

    Args:
        function: compiled by XLA; maps nests of tensors [R, ...] to a nest of tensors [R, ...], for any R.
        *rows: nests of tensors, [R, ...] each; R must be known statically.
    Returns:
        What the function would return for all rows, a nest of tensors [R, ...].
    """
    return concat(side_by_side(function, *rows))
