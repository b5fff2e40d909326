"""Python functions become TensorFlow graphs without AutoGraph, except where a loop or condition needs it.

By default `tf.function` converts every function that is called in it, one by one. That takes longer than tracing them
and than XLA's compilation. Leaving it out accounts for most of the difference when
`launch.benchmark --what=train --map=2s3z` compiles in 10 s instead of 19 to 24 s on 2 cores.

`function` is `tf.function` without AutoGraph. `converted` is a decorator that applies AutoGraph to one function, but
not to the functions that it calls.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util  # what TensorFlow's own loops ask; nothing public tells it

function = functools.partial(tf.function, autograph=False)


def converted(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function whose loops and conditions are TensorFlow's, but not those of the functions that it calls.

    It is converted at its first call: a conversion takes tenths of a second, and most commands need few of them.

    Args:
        plain: a Python function, in which a loop or condition depends on a tensor.
    """
    convert = functools.cache(lambda: tf.autograph.to_graph(plain, recursive=False))

    @functools.wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        return convert()(*args, **kwargs)

    return call


def is_for_xla() -> bool:
    """Tells whether this is traced for a program of XLA, in which no shape may depend on data."""
    on_gpu = bool(tf.config.list_physical_devices("GPU"))  # where functions are traced once for both kinds
    return on_gpu or control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
