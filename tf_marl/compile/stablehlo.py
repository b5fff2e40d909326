"""A compiled function is written as files that any XLA client can run: a StableHLO module and its arguments.

The folder holds `module.mlir`, the program; `arguments.npz`, arrays named 0000, 0001 and so on in the order of the
program's parameters; and `module.json`. In `module.json`, `outputs` lists the outputs by name, and `feedback` gives for
every parameter the index of the output that is its value for the next call, or null if it stays as it is. So a caller
who keeps nothing but arrays can call the program again and again.
"""

import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_marl.compile import graph

# Boolean constants as TensorFlow's MLIR prints them, packed eight to a byte; newer MLIR expects one byte each.
_PACKED_BITS = re.compile(r'dense<"0x([0-9A-F]+)"> : tensor<((?:\d+x)+)i1>')
# Pairs of a parameter and the output that may share its memory: the old and the new value of a variable that the
# function assigns.
_ALIAS = re.compile(r"parameter_number = (\d+) : i64}, output_index = array<i64: (\d+)>")


def write(function: Callable[[], dict[str, tf.Tensor]], folder: pathlib.Path, facts: dict[str, Any]) -> int:
    """Compiles a function that reads and assigns variables, and writes it with the variables' present values.

    Args:
        function: has no arguments and returns tensors of any shape by name.
        folder: an existing folder; files of an earlier call are overwritten.
        facts: further entries of `module.json`.
    Returns:
        The size of the module in characters.
    """
    compiled = graph.function(function, jit_compile=True)
    concrete = compiled.get_concrete_function()
    module = _PACKED_BITS.sub(_spelled_out, compiled.experimental_get_compiler_ir()(stage="stablehlo"))
    arguments = [_value(captured) for captured in concrete.captured_inputs]
    assigned = {int(parameter): int(output) for parameter, output in _ALIAS.findall(module)}
    feedback = [assigned.get(i) for i in range(len(arguments))]
    (folder / "module.mlir").write_text(module, "utf-8")
    named: dict[str, Any] = {f"{i:04}": value for i, value in enumerate(arguments)}
    np.savez(folder / "arguments.npz", **named)
    about = facts | {"outputs": sorted(concrete.structured_outputs), "feedback": feedback}
    (folder / "module.json").write_text(json.dumps(about, indent=1), "utf-8")
    return len(module)


def _value(captured: tf.Tensor) -> np.ndarray:
    """Returns the value of a captured tensor; if it is the handle of a variable, the value of the variable."""
    if captured.dtype != tf.resource:
        return captured.numpy()
    dtype = tf.as_dtype(captured._handle_data.shape_and_type[0].dtype)
    return tf.raw_ops.ReadVariableOp(resource=captured, dtype=dtype).numpy()


def _spelled_out(constant: re.Match[str]) -> str:
    """Returns a packed boolean constant written as nested lists, which every version of MLIR reads."""
    shape = [int(size) for size in constant[2].split("x")[:-1]]
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(constant[1]), np.uint8), bitorder="little")
    values = bits[: np.prod(shape)].reshape(shape).astype(bool).tolist()
    return f"dense<{json.dumps(values)}> : tensor<{constant[2]}i1>"
