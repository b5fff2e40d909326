"""Starts launchers as `python -m` would, each in a process of its own, but with TensorFlow imported only once.

Reads one JSON list per line on stdin, [module, cwd, stdout file, stderr file, *arguments], and answers each with a JSON
list [exit code, seconds]; the first line of all is the seconds the import took.
"""

import json
import os
import runpy
import sys
import time


def main() -> None:
    began = time.perf_counter()
    import tf_marl.training.train  # noqa: F401

    print(json.dumps(time.perf_counter() - began), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            become(*json.loads(line))
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - began]), flush=True)


def become(module: str, cwd: str, stdout: str, stderr: str, *arguments: str) -> None:
    for descriptor, path in ((0, os.devnull), (1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(cwd)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


main()
