"""Python functions as TensorFlow's, without AutoGraph but where a loop needs it.

`tf.function` converts every function that is called in it, one by one, which takes longer than tracing them and than
XLA: mostly by leaving that out, `launch.benchmark --what=train --map=2s3z` compiles in 10 s instead of 19 to 24 (2
cores).
"""

import functools

import tensorflow as tf

function = functools.partial(tf.function, autograph=False)

# Makes the loops and conditions of one function TensorFlow's, not those of what it calls.
converted = functools.partial(tf.autograph.to_graph, recursive=False)
