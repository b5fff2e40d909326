"""What importing the library leaves on the screen."""

import subprocess
import sys


def test_gym_which_tf_agents_imports_says_no_farewell():
    imported = subprocess.run([sys.executable, "-c", "import tf_marl, gym; gym.Env"], capture_output=True, check=True)
    assert imported.stdout == imported.stderr == b""
