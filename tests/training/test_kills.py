"""A run that is killed again and again comes to what it would have come to in one go."""

import functools
import pathlib
import random
import subprocess
import sys
import time

import mlflow
import numpy as np
import pytest
import tensorflow as tf

SCRIPT = pathlib.Path(__file__).with_name("killed_run.py")


def run(folder, algorithm, kill_after=None):
    """Runs or goes on with the run in a folder: to its end, or for so many seconds from its first update on."""
    command = [sys.executable, str(SCRIPT), str(folder / "root"), f"sqlite:///{folder}/mlflow.db", algorithm]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        if kill_after is not None:
            assert process.stdout.readline(), "ended before it trained"
            time.sleep(kill_after)
            process.kill()
        process.communicate()
    return process.returncode


def weights(folder):
    """All that the last checkpoint holds."""
    *_, newest = sorted((folder / "root" / "checkpoints").iterdir())
    reader = tf.train.load_checkpoint(str(newest / "snapshot"))
    names = set(reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter"}
    return newest.name, {name: reader.get_tensor(name) for name in sorted(names)}


def history(folder):
    """All metrics in MLflow, but for those of the clock."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("kills").experiment_id])
    assert found.info.status == "FINISHED"
    names = [name for name in found.data.metrics if not name.startswith(("system/", "train/env_steps_per"))]
    return {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, name)]
        for name in names
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, store_in):
    """Gives a function (algorithm) -> what its run comes to in one go."""

    @functools.cache
    def outcome(algorithm):
        folder = tmp_path_factory.mktemp("uninterrupted")
        store_in(folder)
        assert run(folder, algorithm) == 0
        return weights(folder), history(folder)

    return outcome


@pytest.mark.parametrize(
    ("algorithm", "kills"),
    [
        ("mappo", 1),
        pytest.param("mappo", 20, marks=pytest.mark.slow),
        pytest.param("qmix", 20, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(algorithm, kills, uninterrupted, store_in, tmp_path):
    store_in(tmp_path)
    (name, values), metrics = uninterrupted(algorithm)
    chance = random.Random(kills)
    # Seconds of training; so few in all that no run has ended before it is killed.
    moments = [chance.expovariate(max(1.0, kills / 5)) for _ in range(kills)]
    assert [run(tmp_path, algorithm, kill_after=moment) for moment in moments] == [-9] * kills
    assert run(tmp_path, algorithm) == 0
    assert weights(tmp_path)[0] == name
    tf.nest.map_structure(np.testing.assert_array_equal, weights(tmp_path)[1], values)
    assert history(tmp_path) == metrics
    assert {len(points) for key, points in metrics.items() if key.startswith("loss/")} == {400}
    assert [step for step, _ in metrics["eval/return_mean"]] == list(range(1200, 9601, 1200))
