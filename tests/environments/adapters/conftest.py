"""This module makes worlds of small environments that worker processes import."""

import pathlib

import pytest


@pytest.fixture
def make(monkeypatch):
    """Gives a function (name, num_envs, backend, **options) -> world. The test's end closes it."""
    from tf_marl import environments

    pytest.importorskip("gymnasium", reason="the extra `worlds` is not installed")
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent))
    made = []

    def make(name, num_envs=1, backend="pettingzoo", **options):
        made.append(environments.make(name, num_envs, backend, **{"pause_seconds": 0.0} | options))
        return made[-1]

    yield make
    for world in made:
        world.close()
