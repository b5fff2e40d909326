"""What the tests share. Importing tf_marl here puts it before TensorFlow in every test."""

import atexit
import os
import shutil
import subprocess
import tempfile

if "TF_XLA_FLAGS" not in os.environ:  # else a worker, or somebody's choice
    # Workers and launchers compile the same battles over and over: here each is compiled once.
    _compiled = tempfile.mkdtemp(prefix="tf_marl_xla_")
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={_compiled}"
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)

import tf_marl  # noqa: F401, I001

import numpy as np
import pytest

from tf_marl.ops import categorical


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def clean_gin():
    """Nothing is bound in gin, before or after."""
    import gin

    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture
def random_team(rng):
    """shape -> masked logits [*shape, N, A] and the mask; one agent in three is dead, with action 0 alone left."""

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
    """(folder) -> the address of an empty MLflow store in it; making one takes seconds, copying it none."""
    import mlflow

    empty = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{empty}").search_experiments()

    def copy(folder):
        shutil.copy(empty, folder)
        return f"sqlite:///{folder}/mlflow.db"

    return copy


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a filesystem of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no filesystem can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)
