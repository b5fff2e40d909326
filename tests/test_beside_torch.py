"""TensorFlow and torch in one process: both hold an LLVM, and neither may get at the other's."""

import ctypes
import importlib.util
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf


def test_tensorflows_llvm_is_not_everyones():
    (library,) = pathlib.Path(tf.sysconfig.get_lib()).glob("libtensorflow_framework.*")
    register = "_ZN4llvm2cl6Option11addArgumentEv"  # llvm::cl::Option::addArgument, which aborts on a second of a name
    assert hasattr(ctypes.CDLL(library), register)
    assert not hasattr(ctypes.CDLL(None), register)


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "triton"))), reason="torch and triton are not both installed"
)
@pytest.mark.parametrize("imports", ["import torch\n{ours}", "{ours}\nimport torch", "import triton, torch\n{ours}"])
def test_torch_optimises_beside_a_battle_whichever_is_imported_first(imports):
    program = imports.format(ours="from tf_marl.environments.smac_api import CombatEnv")
    program += """
import sys
weight = torch.nn.Parameter(torch.ones(1))
optimiser = torch.optim.SGD([weight], lr=0.5)
(weight**2).sum().backward()
optimiser.step()
assert weight.item() == 0.0 and "triton" in sys.modules
env = CombatEnv("3m")
env.reset()
assert env.step([1, 1, 1])[1] is False
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
