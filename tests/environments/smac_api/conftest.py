"""Ways to play for tests of SMAC's API."""

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
    """SMAC's options: "none", or "all" that change what is observed or in which order, at once."""
    return {"none": {}, "all": _ALL_FLAGS}[request.param]


@pytest.fixture(scope="session")
def random_actions():
    """(env, rng) -> an action per agent."""
    return lambda env, rng: [rng.choice(np.flatnonzero(available)) for available in env.get_avail_actions()]


@pytest.fixture(scope="session")
def attack_or_advance():
    """(env) -> an action per agent, who attacks the first enemy it may, else goes east, else stops."""

    def choose(env):
        actions = []
        for available in env.get_avail_actions():
            wishes = [*range(ATTACK, env.n_actions), EAST, STOP, 0]
            actions.append(next(action for action in wishes if available[action]))
        return actions

    return choose


@pytest.fixture(scope="session")
def play():
    """(env, choose) -> of one episode, its rewards and the last info."""

    def episode(env, choose):
        env.reset()
        rewards, terminated, info = [], False, {}
        while not terminated:
            reward, terminated, info = env.step(choose(env))
            rewards.append(reward)
        return rewards, info

    return episode
