"""Environments on the stand-in, and who lives of their processes."""

import pathlib

import pytest


@pytest.fixture
def load(stand_in):
    """(map_name, num_envs, stand_in={}, **options) -> an environment on stand-ins that are gone after the test."""
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
    """leader -> ids of the living processes in its group."""

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
