"""A disk that fills up while a run trains, and has room again."""

import subprocess
import sys
import time

import mlflow
import numpy as np
import pytest


def test_a_run_that_would_start_on_a_full_disk_is_refused_in_a_line(small_disk, tiny, tmp_path, warm_launch):
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "brim").write_bytes(bytes(3 << 20))
    flags = f"--root_dir={small_disk}/run", f"--tracking_uri=sqlite:///{tmp_path}/mlflow.db"
    outcome = warm_launch("launch.train", *tiny, *flags)
    assert outcome.code == 2
    why = "cannot write there (No space left on device); mend that or name another folder"
    assert outcome.stderr == f"error: --root_dir={small_disk}/run: {why}\n"


@pytest.mark.slow
def test_a_run_survives_a_disk_that_is_full_for_a_while(small_disk, tiny, tmp_path, warm_launch):
    root_dir, brim = small_disk / "run", small_disk / "brim"
    settings = ["train.num_env_steps = 6_000", "train.checkpoint_every_env_steps = 300"]
    flags = [*tiny, *(f"--gin_bindings={line}" for line in settings), f"--root_dir={root_dir}", "--noregister"]
    flags += [f"--tracking_uri=sqlite:///{tmp_path}/mlflow.db", "--json"]

    command = [sys.executable, "-m", "launch.train", *flags]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        while len(list(root_dir.glob("checkpoints/0*"))) < 2:
            assert run.poll() is None
            time.sleep(0.01)
        with pytest.raises(OSError, match="No space left"):
            brim.write_bytes(bytes(3 << 20))  # as much of it as there is room for
        _, stderr = run.communicate(timeout=120)
    assert run.returncode == 1
    error = stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert "No space left on device" in error
    assert str(root_dir) in error
    saved = max(int(path.name) for path in root_dir.glob("checkpoints/0*"))
    assert 300 <= saved < 6_000

    brim.unlink()
    outcome = warm_launch("launch.train", *flags)
    result = outcome.json()
    assert f"at {saved:,} env steps" in outcome.stderr
    assert result["env_steps"] >= 6_000
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert client.get_run(result["run_id"]).info.status == "FINISHED"
    steps = np.array([metric.step for metric in client.get_metric_history(result["run_id"], "loss/value")])
    assert steps[-1] == result["env_steps"]
    assert (np.diff(steps) > 0).all()
    assert (np.diff(steps, prepend=0) <= 4 * 8).all()  # 4 environments, 8 steps: none is missing
