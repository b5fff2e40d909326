"""What SMAC's API refuses, and how its arguments are taken."""

import ast
import dataclasses
import os
import pathlib
import warnings

import numpy as np
import pytest

from tf_marl.environments.combat.options import Options
from tf_marl.environments.smac_api import CombatEnv as StarCraft2Env

STOP, EAST, ATTACK = 1, 4, 6
SMAC = os.environ.get("TF_MARL_SMAC")  # a checkout of its repository
needs_smac = pytest.mark.skipif(not SMAC, reason="TF_MARL_SMAC names no checkout of smac")
SMACS_ARGUMENTS = """
    map_name step_mul move_amount difficulty game_version seed continuing_episode obs_all_health obs_own_health
    obs_last_action obs_pathing_grid obs_terrain_height obs_instead_of_state obs_timestep_number state_last_action
    state_timestep_number reward_sparse reward_only_positive reward_death_value reward_win reward_defeat
    reward_negative_scale reward_scale reward_scale_rate replay_dir replay_prefix window_size_x window_size_y
    heuristic_ai heuristic_rest debug
"""


@pytest.mark.parametrize("action", [0, ATTACK, 9, -1])
def test_an_unavailable_action_is_refused_and_nothing_is_played(action):
    env, twin = StarCraft2Env("3m", seed=0), StarCraft2Env("3m", seed=0)
    before = env.reset()[1]
    twin.reset()
    with pytest.raises(AssertionError, match=rf"agent 1 cannot take action {action}; it can take one of \[1, "):
        env.step([STOP, action, STOP])
    assert (env.get_state() == before).all()
    assert not env.last_action.any()
    assert env.step([EAST] * 3) == twin.step([EAST] * 3)
    assert (env.get_state() == twin.get_state()).all()


def test_asking_too_early_or_playing_on_is_told_so(play, attack_or_advance):
    env = StarCraft2Env("3m")
    for ask in (
        env.get_obs,
        env.get_state,
        env.get_state_dict,
        env.get_avail_actions,
        env.get_visibility_matrix,
        lambda: env.get_obs_agent(0),
        lambda: env.get_avail_agent_actions(0),
        lambda: env.get_unit_by_id(0),
        lambda: env.step([STOP] * 3),
    ):
        with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
            ask()
    with pytest.warns(UserWarning, match="not known yet"):
        assert env.get_unit_types() is None
    play(env, attack_or_advance)
    final = env.get_state()
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step([STOP] * 3)
    assert (env.get_state() == final).all()
    env.reset()
    with pytest.raises(ValueError, match="2 actions for 3 agents"):
        env.step([STOP] * 2)
    env.full_restart()
    assert env.get_stats()["restarts"] == 1
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step([STOP] * 3)
    env.reset()
    env.step([STOP] * 3)


def test_what_the_caller_does_to_arrays_stays_with_the_caller():
    env = StarCraft2Env("3m", seed=0)
    obs, state = env.reset()
    kept = [o.copy() for o in obs], state.copy()
    avail = env.get_avail_actions()
    for array in (*obs, state, env.get_obs_agent(0), *env.get_state_dict().values(), *avail):
        array[0] = -7
    np.testing.assert_array_equal(env.get_obs(), kept[0])
    np.testing.assert_array_equal(env.get_state(), kept[1])
    assert avail != env.get_avail_actions()
    obs_then = env.get_obs()
    env.step([EAST] * 3)
    np.testing.assert_array_equal(obs_then, kept[0])


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"map_name": "9m"}, ValueError, "unknown map '9m'"),
        ({"map_name": 3}, ValueError, "CombatEnv.map_name: .*string, not 3"),
        ({"nonsense": 1, "foo": 2}, TypeError, "nonsense, foo"),
        ({"step_mul": 0}, ValueError, "CombatEnv.step_mul: .*greater than 0, not 0"),
        ({"reward_win": "much"}, ValueError, "CombatEnv.reward_win: .*number, not 'much'"),
        ({"seed": -1}, ValueError, "CombatEnv.seed: .*not -1"),
        ({"seed": "x"}, ValueError, "CombatEnv.seed: .*integer, not 'x'"),
        ({"continuing_episode": "no"}, ValueError, "CombatEnv.continuing_episode: .*boolean, not 'no'"),
        ({"difficulty": "B"}, ValueError, "CombatEnv.difficulty: .*not 'B'"),
        ({"profile": "void"}, ValueError, "CombatEnv.profile: .*not 'void'"),
        ({"obs_terrain_height": True}, ValueError, "CombatEnv.obs_terrain_height: .*leave it False"),
        ({"game_version": 4.10}, ValueError, "CombatEnv.game_version: .*string, not 4.1"),
        ({"replay_dir": "replays"}, ValueError, "CombatEnv.replay_dir: .*tf-marl evaluate --replay.*leave it ''"),
        ({"heuristic_ai": True}, ValueError, "CombatEnv.heuristic_ai: .*leave it False"),
        ({"debug": "yes"}, ValueError, "CombatEnv.debug: .*boolean, not 'yes'"),
    ],
)
def test_arguments_that_cannot_be_are_refused_in_one_line(arguments, error, says):
    with pytest.raises(error, match=says) as refusal:
        StarCraft2Env(**arguments)
    assert "\n" not in str(refusal.value)


def test_harmless_arguments_of_the_game_are_taken():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = StarCraft2Env("3m", difficulty="A", window_size_x=800, window_size_y=600, replay_dir=None, step_mul=None)
    assert env.program is StarCraft2Env("3m", step_mul=8).program
    assert env.window_size == (800, 600)


@pytest.mark.parametrize("argument", [{"game_version": "4.10"}, {"heuristic_rest": True}, {"debug": True}])
def test_arguments_without_effect_are_taken_with_a_warning(argument):
    with pytest.warns(UserWarning, match=f"CombatEnv.{next(iter(argument))}: .*changes nothing") as told:
        env = StarCraft2Env("3m", **argument)
    assert told[0].filename == __file__
    assert env.program is StarCraft2Env("3m").program
    assert vars(env).items() >= argument.items()


def test_numpys_scalars_are_numbers():
    env = StarCraft2Env("3m", np.int32(4), np.float32(1.5), seed=np.uint32(3), reward_sparse=np.bool_(True))
    assert env.program is StarCraft2Env("3m", step_mul=4, move_amount=1.5, reward_sparse=True).program
    assert env.seed() == 3


@needs_smac
def test_the_list_of_smacs_arguments_is_complete():
    source = pathlib.Path(SMAC, "smac/env/starcraft2/starcraft2.py").read_text()
    smacs = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "StarCraft2Env")
    constructor = next(node for node in smacs.body if getattr(node, "name", "") == "__init__")
    assert [argument.arg for argument in constructor.args.args][1:] == SMACS_ARGUMENTS.split()


def test_arguments_can_be_given_by_position_in_smacs_order():
    values = ["3m", 4, 1.5, "A", None, 7, True, False, True, True, True, False, True, True, False, True, False, False]
    values += [5.0, 100.0, -50.0, 0.25, False, 10.0, "", "", 800, 600, False, False, False]
    by_name = StarCraft2Env(**dict(zip(SMACS_ARGUMENTS.split(), values, strict=True)))
    by_position = StarCraft2Env(*values)
    assert by_position.program is by_name.program
    told, expected = (
        {name: value for name, value in vars(env).items() if isinstance(value, str | int | float | tuple | None)}
        for env in (by_position, by_name)
    )
    assert told == expected
    assert (by_position.seed(), by_position.window_size) == (7, (800, 600))
    with pytest.raises(TypeError, match="31 arguments, not 32"):
        StarCraft2Env(*values, True)
    with pytest.raises(TypeError, match="by position and by name: step_mul"):
        StarCraft2Env("3m", 8, step_mul=8)


def test_drawing_and_replays_point_to_the_launcher():
    env = StarCraft2Env("3m")
    for ask in (env.render, lambda: env.render(mode="rgb_array"), env.save_replay):
        with pytest.raises(NotImplementedError, match=r"tf-marl evaluate --replay"):
            ask()


@pytest.mark.parametrize("option", [field.name for field in dataclasses.fields(Options)])
def test_every_option_of_the_battle_can_be_set(option):
    default = getattr(Options(), option)
    only = {"profile": "smax", "enemy": "nearest", "obs_terrain_height": False, "obs_own_pos": True}
    only |= {"use_unit_ranges": True, "prob_obs_enemy": 0.5, "reward_scale_of": "episode"}
    changed = not default if isinstance(default, bool) or option in only else default + 1
    other = only.get(option, changed)
    env = StarCraft2Env("3m", **{option: other})
    if option == "obs_instead_of_state":  # done by the API itself
        assert env.get_state_size() == env.n_agents * env.get_obs_size()
    else:
        assert getattr(env.program.world.options, option) == other
