"""Python functions become TensorFlow graphs without AutoGraph, except where a loop or condition needs it.

By default `tf.function` converts every function that is called in it, one by one. That takes longer than tracing them
and than XLA's compilation. Leaving it out accounts for most of the difference when
`launch.benchmark --what=train --map=2s3z` compiles in 10 s instead of 19 to 24 s on 2 cores.

`function` is `tf.function` without AutoGraph. `converted` is a decorator that applies AutoGraph to one function, but
not to the functions that it calls.
"""

import functools

import tensorflow as tf

function = functools.partial(tf.function, autograph=False)

# Converts the loops and conditions of one function to TensorFlow's, but not those of the functions that it calls.
converted = functools.partial(tf.autograph.to_graph, recursive=False)
