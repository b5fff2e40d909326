"""This module installs a stand-in for StarCraft II, which pysc2 starts and talks to as it does to the game.

Above pysc2 is a double of the package `smac`. If the environment variable TF_MARL_SMAC names a checkout of smac's
repository, tests that use `any_smac` also run with the real smac.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from multiprocessing import connection

import pytest

from tf_marl.environments.sc2 import installation

HERE = pathlib.Path(__file__).parent / "sc2"
BUILD = "75689"
REAL_SMAC = os.environ.get("TF_MARL_SMAC")


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """Starts the process that computes battles, and gives the path of its socket."""
    path = str(tmp_path_factory.mktemp("engine") / "socket")
    with subprocess.Popen([sys.executable, str(HERE / "engine.py"), path], stderr=subprocess.DEVNULL) as process:
        while not pathlib.Path(f"{path}.ready").exists():
            assert process.poll() is None
            time.sleep(0.05)
        yield path
        process.kill()


def _under(smac, monkeypatch):
    if smac == "real" and not REAL_SMAC:
        pytest.skip("smac is not here: TF_MARL_SMAC names no checkout of it")
    places = [REAL_SMAC if smac == "real" else str(HERE / "double"), os.environ.get("PYTHONPATH")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    return smac


@pytest.fixture
def smac(monkeypatch):
    """Puts the double of smac on the path of new processes."""
    return _under("double", monkeypatch)


@pytest.fixture(params=["double", "real"])
def any_smac(request, monkeypatch):
    """Puts the double of smac, and in a second test the real smac, on the path of new processes."""
    return _under(request.param, monkeypatch)


class Books:
    """Asks the engine what has happened in games since this object was created."""

    def __init__(self, path):
        with connection.Client(path) as books:
            books.send(["forget"])
            books.recv()
        self._path = path

    def __call__(self):
        with connection.Client(self._path) as books:
            books.send(["books"])
            return books.recv()


@pytest.fixture
def stand_in(tmp_path, engine, monkeypatch):
    """Gives a function (**settings) that installs the stand-in at SC2PATH and returns the engine's `Books`.

    The settings are those that `standin.py` reads.
    """

    def install(**settings):
        program = tmp_path / "Versions" / f"Base{BUILD}" / "SC2_x64"
        program.parent.mkdir(parents=True)
        settings_file = tmp_path / "standin.json"
        settings_file.write_text(json.dumps({"engine": engine, **settings}))
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "standin.py"} {settings_file} "$@"\n')
        program.chmod(0o755)
        for name in installation.MAP_HASHES:
            file = tmp_path / "Maps" / "SMAC_Maps" / f"{name}.SC2Map"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"a stand-in for a map")
        monkeypatch.setenv("SC2PATH", str(tmp_path))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        return Books(engine)

    return install
