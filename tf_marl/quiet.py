"""Keeps imports from writing on a user's screen, and has them say what helps where they fail.

TensorFlow's C++ start-up notices heed no switch before TensorFlow is imported. They help nobody who asked for a battle;
what TensorFlow says before it ends the process does.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec


@contextlib.contextmanager
def stderr_held_back() -> Iterator[None]:
    """Drops what is written to file descriptor 2 inside, but shows it if an exception or the end of the process comes.

    What ends the process, an abort in C++ for one, looks like the notices; so nothing can be dropped at once.
    """
    sys.stderr.flush()
    # The shell reads to the end, which is this process's own if it comes first.
    shows = ["sh", "-c", 'said=$(cat); [ -z "$said" ] || echo "$said" >&2']
    with subprocess.Popen(shows, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True) as watcher:
        assert watcher.stdin
        kept = os.dup(2)
        os.dup2(watcher.stdin.fileno(), 2)
        nothing_to_show = True
        try:
            yield
        except Exception:
            nothing_to_show = False
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            if nothing_to_show:
                watcher.kill()


class QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Has TensorFlow's own import happen with stderr held back, whoever imports it first."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Finds TensorFlow where the other finders do, once, and no other module."""
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_quietly(module):
                with stderr_held_back():
                    execute(module)

            spec.loader.exec_module = execute_quietly  # type: ignore[method-assign]
        return spec


class TFAgentsHint(importlib.abc.MetaPathFinder):
    """Tells how to install TF-Agents, which pip leaves out; it is asked last, for what no other finder has found."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Finds nothing.

        Raises:
            ModuleNotFoundError: TF-Agents is wanted; says how to install it.
        """
        if name == "tf_agents":
            how = "pip install --no-deps tf-agents==0.19.0"
            raise ModuleNotFoundError(f"TF-Agents is not installed in this environment: {how}", name=name)
