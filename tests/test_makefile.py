"""What make does, with stand-ins for the programs that it starts, in a folder with a space in its name."""

import pathlib
import shutil
import subprocess

import pytest

CHECKOUT = pathlib.Path(__file__).parent.parent
# Makes a .venv as Python does; the Python in that has a pip that gives it uv.
PYTHON = """#!/bin/sh
case "$*" in "-m venv "*)
    rm -rf .venv && mkdir -p .venv/bin
    printf '#!/bin/sh\\nprintf "#!/bin/sh" > .venv/bin/uv && chmod +x .venv/bin/uv' > .venv/bin/python
    chmod +x .venv/bin/python
esac
"""
WITHOUT_PIP = "#!/bin/sh\necho No module named pip >&2\nexit 1\n"


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "with space"
    script(folder / "python", PYTHON)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, folder)
    return folder


def make(folder, target):
    command = ["make", "--no-print-directory", target, "PYTHON=./python", "ARGS=--port=5001"]
    return subprocess.run(command, cwd=folder, check=True, text=True, stdout=subprocess.PIPE)


def test_a_setup_that_was_interrupted_is_made_anew(folder):
    script(folder / ".venv/bin/python", WITHOUT_PIP)
    make(folder, "setup")
    assert (folder / ".venv/bin/uv").is_file()
    assert "setting up" not in make(folder, "setup").stdout


def test_an_update_that_was_interrupted_is_made_anew(folder):
    make(folder, "setup")
    (folder / "requirements.lock").write_text("another==1.0\n")
    script(folder / ".venv/bin/python", WITHOUT_PIP)
    with pytest.raises(subprocess.CalledProcessError):
        make(folder, "setup")
    make(folder, "setup")


def test_the_store_is_one_argument_of_mlflows(folder):
    make(folder, "setup")
    script(folder / ".venv/bin/mlflow", '#!/bin/sh\nprintf "%s\\n" "$@"\n')
    *_, flag, store, port = make(folder, "ui").stdout.splitlines()
    assert [flag, store, port] == ["--backend-store-uri", "sqlite:///mlflow_artifacts/mlflow.db", "--port=5001"]
