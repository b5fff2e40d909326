"""What the doctor's launcher prints and returns; what it finds: `tests/test_doctor.py`."""

import json

import pytest
from absl import flags
from absl.testing import flagsaver

from launch import doctor as launcher
from tf_marl import doctor


@pytest.fixture(autouse=True)
def parsed_flags():
    with flagsaver.flagsaver():
        if not flags.FLAGS.is_parsed():
            flags.FLAGS(["doctor"])
        yield


def test_the_exit_code_tells_of_problems_and_the_last_line_is_json(monkeypatch, capsys):
    flags.FLAGS.json = True
    findings = [doctor.Finding("ok", "fine", "yes")]
    monkeypatch.setattr(doctor, "examine", lambda *_: findings)
    assert launcher.main() == 0
    findings.append(doctor.Finding("problem", "bad", "no", "mend it"))
    assert launcher.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert "fix: mend it" in lines[-3]
    assert json.loads(lines[-1])["problems"] == 1


def test_help_is_there_at_once(launch, no_tensorflow, tmp_path):
    assert launch("launch.doctor", "--help", cwd=tmp_path, env=no_tensorflow).code == 0
