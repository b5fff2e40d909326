"""The file that outlives whoever writes it."""

import subprocess
import sys

import pytest

from tf_marl.tracking.journal import Journal

EVENTS = [{"event": "start"}, {"event": "metrics", "values": {"a": 0.1}}, {"event": "finish"}]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "journal.jsonl"
    journal = Journal.create(path, EVENTS[0])
    for event in EVENTS[1:]:
        journal.append(event)
    journal.close()
    return path


def test_what_was_added_is_read_from_any_position(path):
    journal = Journal(path)
    assert journal.events == EVENTS
    (_, first), (_, second), (_, third) = journal.read(0)
    assert [event for event, _ in journal.read(first)] == EVENTS[1:]
    assert journal.read(second) == [(EVENTS[2], third)]
    assert journal.read(third) == []
    assert third == journal.size == path.stat().st_size


def test_an_event_may_be_larger_than_what_is_read_at_once(path):
    journal = Journal(path)
    end = journal.size
    journal.append({"event": "start", "text": "x" * 1_000_000})
    assert len(journal.read(end)[0][0]["text"]) == 1_000_000


@pytest.mark.parametrize("keep", range(1, 19))  # {"event": "finish"} and its end of line
def test_a_torn_last_line_is_cut_off(path, keep):
    whole = path.read_bytes()
    last = len(b'{"event": "finish"}\n')
    path.write_bytes(whole[: len(whole) - last + keep])
    journal = Journal(path)
    assert journal.events == EVENTS[:2]
    journal.append({"event": "resume"})
    assert Journal(path).events == [*EVENTS[:2], {"event": "resume"}]


@pytest.mark.parametrize("rest", [b"\0" * 100, b"\0" * 100 + b"\n", b'{"event": "me\n'])
def test_what_a_power_cut_leaves_at_the_end_is_cut_off(path, rest):
    with open(path, "ab") as file:
        file.write(rest)
    assert Journal(path).events == EVENTS


def test_damage_within_is_told_not_cut_off(path):
    path.write_bytes(path.read_bytes().replace(b'"metrics"', b"metrics"))
    damaged = path.read_bytes()
    with pytest.raises(ValueError, match=r"journal\.jsonl, line 2: not an event.* move .*/run elsewhere"):
        Journal(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 100, b"[]\n", b'{"event": "resume"}\n'])
def test_what_does_not_begin_with_a_run_is_told_not_gone_on_with(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"journal\.jsonl, line 1: not .* move .*/run elsewhere"):
        Journal(path)
    assert path.read_bytes() == content


def test_two_processes_do_not_write_one_journal(path):
    script = "import sys, pathlib; from tf_marl.tracking.journal import Journal; j = Journal(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", script + "; print('open', flush=True); sys.stdin.read()", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(BlockingIOError, match="belongs to a run that is still going on"):
            Journal(path)
        other.kill()
    assert Journal(path).events == EVENTS
