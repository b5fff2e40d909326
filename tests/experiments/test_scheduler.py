"""Commands side by side: each in a process of its own, as `python -m` would run it."""

import os
import signal
import threading
import time

import pytest

from tf_marl.experiments import scheduler

COMMAND = """
import os, signal, sys, time
print(__name__, *sys.argv[1:], os.getcwd(), os.getsid(0) == os.getpid(), flush=True)
print("cores:", *sorted(os.sched_getaffinity(0)), file=sys.stderr)
if sys.argv[1] == "exit":
    sys.exit(int(sys.argv[2]))
if sys.argv[1] == "raise":
    raise LookupError("nothing there")
if sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    open("waits", "w").close()
    time.sleep(60)
"""


@pytest.fixture
def command(tmp_path):
    """(name of its files, *arguments) -> a command."""
    (tmp_path / "stand_in.py").write_text(COMMAND)

    def make(name, *arguments):
        stdout, stderr = tmp_path / name / "stdout.txt", tmp_path / name / "stderr.txt"
        return scheduler.Command("stand_in", arguments, tmp_path, stdout, stderr)

    return make


def never():
    return False


@pytest.mark.parametrize(
    ("arguments", "code"), [(("exit", "0"), 0), (("exit", "3"), 3), (("raise",), 1), (("kill",), -signal.SIGKILL)]
)
def test_a_command_is_run_as_by_its_name_and_how_it_ended_is_known(arguments, code, command, tmp_path):
    ((ran, ended, seconds),) = scheduler.run([command("one", *arguments)], 1, never)
    assert ended == code
    assert 0 < seconds < 60
    assert ran.stdout.read_text() == " ".join(["__main__", *arguments, str(tmp_path), "True\n"])
    if arguments == ("raise",):
        assert ran.stderr.read_text().endswith("LookupError: nothing there\n")


def test_as_many_run_at_a_time_as_asked_for_with_cores_of_their_own(command):
    cores = sorted(os.sched_getaffinity(0))
    commands = [command(str(i), "exit", "0") for i in range(3)]
    ended = [ran for ran, *_ in scheduler.run(commands, len(cores), never)]
    assert sorted(ran.stdout.parent.name for ran in ended) == ["0", "1", "2"]
    lines = {ran.stderr.read_text().splitlines()[0] for ran in ended}
    assert lines == {f"cores: {core}" for core in cores[:3]}
    ((ran, *_),) = scheduler.run([command("all", "exit", "0")], 1, never)
    assert ran.stderr.read_text().splitlines()[0] == "cores: " + " ".join(map(str, cores))


def test_who_is_asked_to_stop_begins_no_more_and_ends_what_runs(command, tmp_path):
    stop = threading.Event()

    def once_it_waits():
        while not (tmp_path / "waits").exists():
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=once_it_waits, daemon=True).start()
    commands = [command("first", "wait"), command("second", "exit", "0")]
    assert [(ran, code) for ran, code, _ in scheduler.run(commands, 1, stop.is_set)] == [(commands[0], 143)]
    assert not commands[1].stdout.exists()
