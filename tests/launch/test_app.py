"""What the launchers share, where no launcher's own test is the place for it."""

import os
import signal

import pytest


@pytest.mark.parametrize(
    ("end", "code"), [("os.abort()", -signal.SIGABRT), ("os._exit(1)", 1), ("raise ImportError('no')", 1)]
)
def test_what_tensorflow_says_before_it_ends_the_process_is_shown(end, code, launch, tiny, tmp_path, monkeypatch):
    """A stand-in for TensorFlow: what the real one says on a machine that it cannot run on, and how that ends."""
    said = "The TensorFlow library was compiled to use AVX512F instructions, but these aren't available"
    (tmp_path / "tensorflow.py").write_text(f"import os\nos.write(2, {said.encode()} + b'\\n')\n{end}\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    outcome = launch("launch.train", *tiny, f"--root_dir={tmp_path}/root", cwd=tmp_path)
    assert outcome.code == code
    assert f"loading TensorFlow ...\n{said}\n" in outcome.stderr
