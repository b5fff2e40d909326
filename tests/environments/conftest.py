"""StarCraft II for tests: a stand-in that pysc2 starts and speaks with, under smac or, without it, its double.

`TF_MARL_SMAC=FOLDER`, a checkout of smac's repository, has the tests that are about smac run through the real one, too.
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
    """The socket of the process that computes the battles."""
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
    """The double."""
    return _under("double", monkeypatch)


@pytest.fixture(params=["double", "real"])
def any_smac(request, monkeypatch):
    """The double, and the real one."""
    return _under(request.param, monkeypatch)


class Books:
    """What the engine knows of the games since this was made."""

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
    """(**settings of the stand-in) -> the engine's books; from then on SC2PATH has the stand-in."""

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
