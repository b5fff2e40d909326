"""This module holds fixtures that all tests share. It imports tf_marl before any test can import TensorFlow."""

import atexit
import os
import shutil
import subprocess
import tempfile

if "TF_XLA_FLAGS" not in os.environ:  # else the user has set it, or this is a worker that inherits it
    # Tests start many processes that compile the same battles. With this cache, each battle is compiled once.
    _compiled = tempfile.mkdtemp(prefix="tf_marl_xla_")
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={_compiled}"
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
# Tests compile more than they run: code that is not optimised is there in three quarters of the time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import tf_marl  # noqa: F401, I001

import numpy as np
import pytest

from tf_marl.ops import categorical


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def clean_gin():
    """Clears gin's bindings before and after the test."""
    import gin

    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture
def random_team(rng):
    """Gives a function (shape) -> masked logits, [*shape, N, A], and their mask, bool of that shape.

    One agent in three is dead: only action 0 is available to it.
    """

    def draw(shape, num_agents=3, num_actions=4, scale=2.0):
        avail = rng.random((*shape, num_agents, num_actions)) < 0.7
        avail[..., 1] = True
        dead = rng.random((*shape, num_agents)) < 1 / 3
        avail[dead] = np.arange(num_actions) == 0
        logits = rng.normal(size=avail.shape, scale=scale).astype(np.float32)
        return np.where(avail, logits, np.float32(categorical.MASKED_LOGIT)), avail

    return draw


@pytest.fixture(scope="session")
def store_in(tmp_path_factory):
    """Gives a function (folder) -> address of a new, empty MLflow store in that folder.

    It copies one empty database, because creating one takes seconds.
    """
    import mlflow

    empty = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{empty}").search_experiments()

    def copy(folder):
        shutil.copy(empty, folder)
        return f"sqlite:///{folder}/mlflow.db"

    return copy


@pytest.fixture
def small_disk(tmp_path):
    """Gives a folder on a filesystem of two megabytes, or skips the test if none can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no filesystem can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)
