"""This module plays episodes through SMAC's API."""

import numpy as np
import pytest

EAST, STOP, ATTACK = 4, 1, 6
_ALL_FLAGS = {
    "obs_last_action": True,
    "obs_pathing_grid": True,
    "obs_timestep_number": True,
    "obs_instead_of_state": True,
    "state_timestep_number": True,
    "shuffle_enemies": True,
}


@pytest.fixture
def options(request):
    """Gives SMAC's options: "none" of those that change what is observed and in which order, or "all" of them."""
    return {"none": {}, "all": _ALL_FLAGS}[request.param]


@pytest.fixture(scope="session")
def random_actions():
    """Gives a function (env, rng) -> a random available action for each agent."""
    return lambda env, rng: [rng.choice(np.flatnonzero(available)) for available in env.get_avail_actions()]


@pytest.fixture(scope="session")
def attack_or_advance():
    """Gives a function (env) -> an action for each agent: attack the first possible enemy, else go east, else stop."""

    def choose(env):
        actions = []
        for available in env.get_avail_actions():
            wishes = [*range(ATTACK, env.n_actions), EAST, STOP, 0]
            actions.append(next(action for action in wishes if available[action]))
        return actions

    return choose


@pytest.fixture(scope="session")
def play():
    """Gives a function (env, choose) that plays one episode and returns its rewards and its last info."""

    def episode(env, choose):
        env.reset()
        rewards, terminated, info = [], False, {}
        while not terminated:
            reward, terminated, info = env.step(choose(env))
            rewards.append(reward)
        return rewards, info

    return episode
