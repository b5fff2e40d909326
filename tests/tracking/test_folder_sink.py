"""A run in a plain folder."""

import pathlib
import shutil
import subprocess
import sys
import time

import pandas as pd
import pytest

from tf_marl import tracking


@pytest.fixture
def run_folder(folder, start_run):
    """Of a run that was killed after two rows."""
    tracker = start_run(folder)
    tracker.record(1, {"loss/value": 1.0})
    tracker.record(2, {"loss/value": 2.0})
    assert tracker.finish("KILLED") is None
    return pathlib.Path(tracker.page())


def test_its_metrics_are_a_table(run_folder):
    table = pd.read_csv(run_folder / "metrics.csv")
    assert list(table.columns) == ["env_steps", "time_ms", "metric", "value"]
    assert table.pivot(index="env_steps", columns="metric", values="value")["loss/value"].to_dict() == {1: 1.0, 2: 2.0}


def test_a_run_without_metrics_has_an_empty_table(folder, start_run):
    tracker = start_run(folder)
    assert tracker.finish("FINISHED") is None
    assert pd.read_csv(pathlib.Path(tracker.page()) / "metrics.csv").empty


def test_its_name_is_one_for_a_file_and_no_other_runs(folder, start_run, tmp_path):
    pages = []
    for i in range(2):
        tracker = start_run(folder, f"run{i}", experiment="../a b", run_name="../of: " + "x" * 300)
        assert tracker.finish("FINISHED") is None
        pages.append(pathlib.Path(tracker.page()))
    assert pages[0] != pages[1]
    assert {page.parents[1] for page in pages} == {tmp_path / "runs"}


SCRIPT = """
import pathlib, sys
sys.modules["mlflow"] = None  # an import of it fails
from tf_marl import tracking
tracking.check_reachable(sys.argv[1])
tracker = tracking.Tracker(sys.argv[1], "battles", "first", {}, {}, pathlib.Path(sys.argv[2]))
tracker.record(1, {"loss/value": 1.0})
assert tracker.finish("FINISHED") is None
"""


def test_no_mlflow_is_needed(folder, tmp_path):
    subprocess.run([sys.executable, "-c", SCRIPT, folder, str(tmp_path / "tracking")], check=True)


@pytest.mark.parametrize("cut", range(1, 40, 3))  # within the last row, and at the end of the one before
def test_a_half_written_row_is_cut_off(cut, folder, run_folder, start_run, look, tmp_path):
    table = run_folder / "metrics.csv"
    table.write_bytes(table.read_bytes()[:-cut])
    (tmp_path / "tracking" / "sent.json").unlink()  # as a crash in the midst of writing leaves them
    tracker = start_run(folder)
    tracker.record(3, {"loss/value": 3.0})
    assert tracker.finish("FINISHED") is None
    assert look(folder, tracker).metrics == {"loss/value": [(1, 1.0), (2, 2.0), (3, 3.0)]}


@pytest.mark.parametrize("damage", [b"\0" * 20 + b"\n", b"\xff\n", b"3;1.0\n"])
def test_a_damaged_table_is_made_anew(damage, folder, run_folder, start_run, look):
    with open(run_folder / "metrics.csv", "ab") as table:
        table.write(damage)
    tracker = start_run(folder)
    tracker.record(3, {"loss/value": 3.0})
    assert tracker.finish("FINISHED") is None
    assert look(folder, tracker).metrics == {"loss/value": [(1, 1.0), (2, 2.0), (3, 3.0)]}


def test_a_folder_that_was_moved_away_gets_all_of_the_run_anew(folder, start_run, look, tmp_path):
    tracker = start_run(folder)
    tracker.record(1, {"loss/value": 1.0})
    tracker.text("hello", "greeting.txt")
    while not tracker.run_id:
        time.sleep(0.01)
    (tmp_path / "runs").rename(tmp_path / "elsewhere")  # whatever is being written there
    tracker.record(2, {"loss/value": 2.0})
    assert tracker.finish("FINISHED") is None
    seen = look(folder, tracker)
    assert seen.metrics == {"loss/value": [(1, 1.0), (2, 2.0)]}
    assert seen.artifacts == {"greeting.txt": b"hello"}


def test_a_run_goes_on_without_its_folder_and_one_start_later_all_is_there(folder, start_run, look, tmp_path):
    start_run(folder).finish("KILLED")
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "runs").touch()
    tracker = start_run(folder)
    tracker.record(1, {"loss/value": 1.0})
    left = tracker.finish("FINISHED", patience=0.5)
    assert left.startswith(f"not all of the run has reached {folder} (NotADirectoryError: ")
    assert str(tmp_path / "tracking") in left
    (tmp_path / "runs").unlink()
    complete = start_run(folder)
    assert complete.finished
    assert complete.flush() is None
    assert look(folder, complete).status == "FINISHED"
    assert look(folder, complete).metrics == {"loss/value": [(1, 1.0)]}


def test_a_folder_that_cannot_be_written_is_told_in_a_line(tmp_path):
    (tmp_path / "file").touch()
    why = f"^folder:{tmp_path}/file cannot be written .*; mend that or name another folder$"
    with pytest.raises(tracking.SinkError, match=why):
        tracking.check_reachable(f"folder:{tmp_path}/file")


@pytest.mark.parametrize("address", ["folder:", "folder://runs"])
def test_an_address_that_names_no_folder_is_told_in_a_line(address):
    with pytest.raises(tracking.SinkError, match=f"^'{address}' names no folder; write folder:DIR, .*$"):
        tracking.open_sink(address)


def test_an_address_is_relative_to_the_current_directory_or_to_the_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/mary")
    assert tracking.absolute("folder:runs") == f"folder:{tmp_path}/runs"
    assert tracking.absolute("folder:~/runs") == "folder:/home/mary/runs"
    assert tracking.absolute("folder:///runs") == "folder:/runs"
    assert tracking.absolute("sqlite:///mlflow.db") == "sqlite:///mlflow.db"
