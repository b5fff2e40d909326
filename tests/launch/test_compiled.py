"""Commands keep the programs that XLA compiled, and later commands use them."""

import os
import pathlib
import subprocess
import sys

import pytest

from tf_marl.compile import cache

ADD = """
import tf_marl, pathlib, sys
from tf_marl.compile import cache
cache.keep_programs(pathlib.Path(sys.argv[1]))
import tensorflow as tf
print(float(tf.function(lambda x: tf.reduce_sum(tf.sin(x)), jit_compile=True)(tf.ones([int(sys.argv[2])]))))
"""


def compiled(folder, size: int) -> tuple[str, set[pathlib.Path]]:
    """Compiles a program in a process of its own. Returns what it prints, and the files that are kept then."""
    env = {name: value for name, value in os.environ.items() if name != "TF_XLA_FLAGS"}
    command = [sys.executable, "-c", ADD, str(folder), str(size)]
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    return told, {path for path in folder.rglob("*") if path.is_file()}


def test_a_program_is_kept_once_and_computes_the_same_when_it_is_used_again(tmp_path):
    first, kept = compiled(tmp_path, 100)
    times = {path: path.stat().st_mtime_ns for path in kept}
    assert len(kept) == 1
    again, kept_again = compiled(tmp_path, 100)
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in kept_again} == times
    other, kept_then = compiled(tmp_path, 50)
    assert float(other) == pytest.approx(float(first) / 2)
    assert len(kept_then) == 2
    # A power cut leaves empty files, with which TensorFlow would fail.
    for path in kept_then:
        path.write_bytes(b"")
    assert compiled(tmp_path, 100)[0] == first


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null", "with a blank"])
def test_where_nothing_can_be_kept_all_goes_on_without(place, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    cache.keep_programs(tmp_path / place)
    assert "TF_XLA_FLAGS" not in os.environ


def test_flags_of_the_users_own_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    cache.keep_programs(tmp_path / "programs")
    assert os.environ["TF_XLA_FLAGS"] == ""
    assert not (tmp_path / "programs").exists()


def test_of_more_than_a_gigabyte_the_oldest_programs_are_removed(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    cache.keep_programs(tmp_path)
    (folder,) = tmp_path.iterdir()
    for age in range(5):
        path = folder / f"{age}.pb"
        with path.open("wb") as file:
            file.truncate(3 * 10**8)  # takes no space on the disk
        os.utime(path, (10**9 - age, 10**9 - age))
    monkeypatch.delenv("TF_XLA_FLAGS")
    cache.keep_programs(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["0.pb", "1.pb", "2.pb"]
