"""This module loads environments that run on the stand-in for StarCraft II, and finds their processes."""

import pathlib

import pytest


@pytest.fixture
def load(stand_in):
    """Gives a function (map_name, num_envs, **options) -> environment on stand-ins. The test's end closes it."""
    from tf_marl import environments

    made = []

    def load(map_name="3m", num_envs=1, **options):
        options = {"any_map": True, "pause_seconds": 0.1, **options}
        environment = environments.load(map_name, num_envs=num_envs, backend="sc2", **options)
        made.append(environment)
        return environment

    yield load
    for environment in made:
        environment.world.close()


@pytest.fixture
def group():
    """Gives a function (leader) -> ids of the living processes in the leader's process group."""

    def members(leader):
        found = []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(pgrp) == leader and state != "Z":
                found.append(int(stat.parent.name))
        return found

    return members
