"""The battles behind SMAC's API: those of the embedded world, counted, repeated, copied as SMAC's users expect."""

import copy
import pickle
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_marl import environments
from tf_marl.environments.smac_api import CombatEnv as StarCraft2Env

STOP, EAST = 1, 4


@pytest.mark.parametrize(
    ("map_name", "options"),
    [pytest.param("MMM", "none", marks=pytest.mark.slow), ("2s3z", "all")],
    indirect=["options"],
)
def test_battles_are_those_of_the_tf_environment(map_name, options, random_actions):
    ours = StarCraft2Env(map_name, seed=5, **options)
    theirs = environments.load(map_name, seed=5, **options)
    rng, time_step = np.random.default_rng(0), theirs.reset()
    obs, state = ours.reset()
    for _ in range(200):  # 2 episodes or more
        observation = tf.nest.map_structure(lambda leaf: leaf[0].numpy(), time_step.observation)
        # Two programs, so XLA may sum in two orders.
        np.testing.assert_allclose(obs, observation["obs"], atol=1e-5)
        np.testing.assert_allclose(state, observation["state"], atol=1e-5)
        assert (np.array(ours.get_avail_actions()) == observation["avail_actions"]).all()
        if time_step.is_last()[0]:
            time_step = theirs.step(np.zeros([1, ours.n_agents], np.int32))
            obs, state = ours.reset()
            continue
        actions = random_actions(ours, rng)
        time_step = theirs.step(np.array([actions], np.int32))
        reward, terminated, info = ours.step(actions)
        obs, state = ours.get_obs(), ours.get_state()
        np.testing.assert_allclose(reward, time_step.reward[0], atol=1e-5)
        assert terminated == time_step.is_last()[0]
        told = theirs.info()
        assert info == {name: told[name].numpy()[0] for name in info}
    assert ours.get_stats()["battles_game"] >= 2


def test_a_win_returns_20_and_is_counted(play, attack_or_advance):
    env = StarCraft2Env("3m", enemy="random", seed=0)
    rewards, info = play(env, attack_or_advance)
    assert info["battle_won"] is True
    assert info["dead_enemies"] == 3
    assert sum(rewards) == pytest.approx(20)  # marines do not recover
    assert env.win_counted is True
    assert env.reward == rewards[-1]
    assert env.reward_battle() == pytest.approx(env.reward * env.max_reward / env.reward_scale_rate - env.reward_win)
    assert env.death_tracker_enemy.tolist() == [1, 1, 1]
    assert env.death_tracker_ally.sum() == info["dead_allies"]
    stats = env.get_stats()
    assert (stats["battles_won"], stats["battles_game"], stats["win_rate"]) == (1, 1, 1)


def test_a_defeat_is_counted_and_the_dead_send_no_op():
    env = StarCraft2Env("3m", seed=0)
    env.reset()
    terminated = False
    while not terminated:
        dead = env.death_tracker_ally.astype(bool)
        for agent in np.flatnonzero(dead):
            assert env.get_avail_agent_actions(agent) == [1] + [0] * 8
            assert not env.get_obs_agent(agent).any()
        _, terminated, info = env.step(np.where(dead, 0, STOP))
    assert (info["battle_won"], info["dead_allies"]) == (False, 3)
    sparse = StarCraft2Env("3m", reward_sparse=True)
    sparse.facts = env.facts
    assert not sparse.death_tracker_ally.any()  # as in SMAC
    assert (env.last_action[dead] == np.eye(9)[0]).all()
    assert env.get_stats() == {
        "battles_won": 0,
        "battles_game": 1,
        "battles_draw": 0,
        "win_rate": 0.0,
        "timeouts": 0,
        "restarts": 0,
    }


@pytest.mark.parametrize("continuing_episode", [False, True])
def test_a_time_out_is_told_only_to_those_who_continue(continuing_episode, play):
    """The spine crawler never comes, and the stalkers do not go to it."""
    env = StarCraft2Env("2s_vs_1sc", continuing_episode=continuing_episode, seed=0)
    rewards, info = play(env, lambda _: [STOP, STOP])
    assert len(rewards) == env.episode_limit == 300
    assert info.get("episode_limit", False) is continuing_episode
    assert not info["battle_won"]
    assert (env.get_stats()["timeouts"], env.get_stats()["battles_draw"], env.get_stats()["battles_game"]) == (1, 1, 1)


def test_mutual_death_is_a_battle_neither_won_nor_timed_out(monkeypatch):
    env = StarCraft2Env("3m", continuing_episode=True)
    env.reset()
    last, no_discount = 2, 0
    drawn = env.facts._replace(outcome=np.array([1.5, no_discount, last, False, 0.0], np.float32))
    monkeypatch.setattr(env, "program", types.SimpleNamespace(play=lambda *_: (None, drawn)))
    reward, terminated, info = env.step([STOP] * 3)
    assert (reward, terminated, info["battle_won"], "episode_limit" in info) == (1.5, True, False, False)
    assert (env.get_stats()["battles_game"], env.get_stats()["battles_won"], env.get_stats()["timeouts"]) == (1, 0, 0)


def test_equal_seeds_equal_battles(play, random_actions):
    def states(seed):
        env, rng, seen = StarCraft2Env("3m", seed=seed), np.random.default_rng(0), []
        for _ in range(2):
            play(env, lambda env: (seen.append(env.get_state()), random_actions(env, rng))[1])
        return np.concatenate(seen)

    first = states(3)
    np.testing.assert_array_equal(first, states(3))
    assert not np.array_equal(first[:200], states(4)[:200])
    assert not np.array_equal(first[:200], states(None)[:200])
    assert (StarCraft2Env("3m", seed=2**32 - 1).seed(), StarCraft2Env("3m").seed()) == (2**32 - 1, None)


@pytest.fixture
def states_of_a_game(play):
    """(env) -> [T, S] of one episode in which everyone stops."""

    def states(env):
        seen = [env.reset()[1]]
        play(env, lambda env: (seen.append(env.get_state()), [int(unit.health > 0) for unit in env.agents.values()])[1])
        return np.stack(seen)

    return states


def test_a_restart_begins_anew_with_the_seed_that_is_set_by_then(states_of_a_game):
    env = StarCraft2Env("3m", seed=3)
    of_3, of_5 = states_of_a_game(env), states_of_a_game(StarCraft2Env("3m", seed=5))
    env.full_restart()
    np.testing.assert_array_equal(states_of_a_game(env), of_3)
    env._seed = np.int64(5)  # as SMAC's PettingZoo wrapper does it
    env.full_restart()
    assert env.seed() == 5
    np.testing.assert_array_equal(states_of_a_game(env), of_5)
    env._seed = None
    env.full_restart()
    assert not np.array_equal(states_of_a_game(env)[:1], of_5[:1])


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("seed", [5, None])
def test_copies_play_on_alike_and_apart(copy_of, seed, play, random_actions):
    unplayed = StarCraft2Env("3m", seed=seed)
    env = copy_of(unplayed)
    np.testing.assert_array_equal(env.reset()[1], unplayed.reset()[1])
    env.step([EAST] * 3)
    twin, before = copy_of(env), env.get_state()
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(2):
        ours = play(env, lambda env: random_actions(env, rng))
        assert ours == play(twin, lambda env: random_actions(env, again))
        assert env.get_stats() == twin.get_stats()
        np.testing.assert_array_equal(env.get_state(), twin.get_state())
    assert not np.array_equal(env.get_state(), before)


def test_a_new_reset_leaves_the_old_battle_behind():
    env = StarCraft2Env("3m", seed=0)
    first = env.reset()[1]
    env.step([EAST] * 3)
    second = env.reset()[1]
    assert not np.array_equal(first, second)  # spawns differ a little
    assert not env.last_action.any()
    assert env.get_stats()["battles_game"] == 0
    assert env.max_reward == 365
