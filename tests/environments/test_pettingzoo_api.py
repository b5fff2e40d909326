"""The embedded battle behind PettingZoo's parallel API."""

import warnings

import numpy as np
import pytest

from tf_marl.environments.smac_api import CombatEnv

pettingzoo_api = pytest.importorskip("tf_marl.environments.pettingzoo_api", reason="the extra `worlds` is not there")


def attack_or_stop(mask):
    """The last thing that an agent may do: it attacks if it can."""
    return int(np.flatnonzero(mask)[-1])


def test_it_passes_pettingzoos_own_test():
    from pettingzoo.test import parallel_api_test

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        parallel_api_test(pettingzoo_api.parallel_env("3m", seed=1), num_cycles=150)


def test_it_plays_the_battles_of_smacs_api():
    env, twin = pettingzoo_api.parallel_env("3m"), CombatEnv("3m", seed=5, continuing_episode=True)
    for episode in range(3):
        observations, infos = env.reset(seed=5 if episode == 0 else None)
        twin.reset()
        assert env.agents == ["marine_0", "marine_1", "marine_2"] == list(infos)
        over = False
        while not over:
            masks = np.array(twin.get_avail_actions())
            play = [attack_or_stop(mask) if episode else int(mask[1]) for mask in masks]
            for i, agent in enumerate(env.possible_agents):
                if agent in env.agents:
                    np.testing.assert_array_equal(observations[agent]["observation"], twin.get_obs_agent(i))
                    np.testing.assert_array_equal(observations[agent]["action_mask"], masks[i])
                    assert env.observation_space(agent).contains(observations[agent])
            np.testing.assert_array_equal(env.state(), twin.get_state())
            acted = env.agents
            told = env.step({agent: play[i] for i, agent in enumerate(env.possible_agents) if agent in env.agents})
            observations, rewards, terminations, truncations, infos = told
            reward, over, info = twin.step(play)
            assert rewards == dict.fromkeys(acted, reward)
            assert infos == {agent: {"battle_won": info["battle_won"]} for agent in acted}
            dead = [f"marine_{i}" for i, unit in twin.agents.items() if unit.health == 0]
            assert env.agents == ([] if over else [agent for agent in acted if agent not in dead])
            late = "episode_limit" in info
            assert terminations == {agent: agent in dead or (over and not late) for agent in acted}
            assert truncations == {agent: late and agent not in dead for agent in acted}
