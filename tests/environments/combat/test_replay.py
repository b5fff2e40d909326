"""Recorded battles are the simulator's and the evaluation's; what is written can be read back."""

import dataclasses
import json
import re

import imageio_ffmpeg
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageColor
from tf_agents.policies import tf_policy

from tf_marl.compile import graph
from tf_marl.environments.combat import replay
from tf_marl.environments.combat.environment import Combat
from tf_marl.environments.combat.options import Options
from tf_marl.environments.combat.replay import layout, pictures, recording
from tf_marl.environments.combat.scenarios import scenario
from tf_marl.environments.combat.scripts import ScriptedPolicy
from tf_marl.training.evaluate import Evaluator

SEED = [3, 4]


def random_policy(world):
    return ScriptedPolicy(world.time_step_spec, world.action_spec, "random", world.task)


class Valuing(tf_policy.TFPolicy):
    """Random actions, and a value that can be told from what was seen: [B, N], or [B, 1] for the team."""

    def __init__(self, world, of_team=False):
        self._acts, self._of_team = random_policy(world), of_team
        shape = [1] if of_team else world.action_spec.shape
        info_spec = {"value": tf.TensorSpec(shape, tf.float32)}
        super().__init__(world.time_step_spec, world.action_spec, info_spec=info_spec)

    def _variables(self):
        return []

    def _action(self, time_step, policy_state, seed=None):
        value = tf.reduce_sum(time_step.observation["obs"], axis=-1)
        value = tf.reduce_sum(value, axis=-1, keepdims=True) if self._of_team else value
        return self._acts.action(time_step, policy_state, seed)._replace(info={"value": value})


@pytest.fixture(scope="module")
def world():
    return Combat(scenario("3m"), 4)


@pytest.fixture(scope="module")
def episodes(world):
    return replay.record(world, Valuing(world), SEED, world.num_envs)


@pytest.fixture
def page(episodes):
    return replay.page(episodes, "the team </script> of $&")


def data_of(page):
    return json.loads(re.search(r'<script id="replay" type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def test_what_is_kept_is_what_the_simulator_shows(world, episodes):
    """The recorded actions, played anew with the seed's chances, lead through the recorded battles."""

    @graph.function(jit_compile=True)
    def step(state, actions, t):
        chance = tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(SEED, t), 2)[1]
        return world.step(state, actions, chance)

    state = graph.function(world.reset, jit_compile=True)(tf.constant(SEED))
    for t in range(min(episode.num_steps for episode in episodes)):
        for i, episode in enumerate(episodes):
            for name in ("x", "y", "health", "shield", "target"):
                np.testing.assert_allclose(getattr(episode, name)[t], getattr(state.units, name)[:, i], atol=1e-4)
            np.testing.assert_array_equal(episode.available[t], state.available[..., i])
            assert t == 0 or episode.reward[t - 1] == pytest.approx(float(state.reward[i]))
        values = world.time_step(state).observation["obs"].numpy().sum(axis=-1)
        np.testing.assert_allclose([episode.value[t] for episode in episodes], values, rtol=1e-4)
        state = step(state, np.array([episode.action[t] for episode in episodes]), tf.constant(t))


def test_a_teams_value_is_every_agents(world, episodes):
    (episode,) = replay.record(world, Valuing(world, of_team=True), SEED, 1)
    assert episode.value.shape == episodes[0].value.shape == (episode.num_steps + 1, 3)
    total = episodes[0].value.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(episode.value, np.repeat(total, 3, axis=1), rtol=1e-5)


def test_episodes_are_those_of_an_evaluation_with_that_seed(world, episodes):
    evaluation = Evaluator(world, random_policy(world))(tf.constant(SEED))
    assert np.mean([episode.reward.sum() for episode in episodes]) == pytest.approx(evaluation["return_mean"])
    assert np.mean([episode.num_steps for episode in episodes]) == evaluation["episode_length_mean"]
    assert np.mean([episode.outcome == "won" for episode in episodes]) == evaluation["battle_won_mean"]


def test_episodes_are_whole_and_legal(world, episodes):
    assert len(episodes) == world.num_envs
    for episode in episodes:
        steps = episode.num_steps
        assert episode.x.shape == episode.health.shape == (steps + 1, 6)
        assert episode.action.shape == (steps, 3)
        assert np.take_along_axis(episode.available[:-1], episode.action[..., None], axis=2).all()
        agents_dead, enemies_dead = ((side == 0).all(axis=1) for side in np.split(episode.health, 2, axis=1))
        assert not (agents_dead | enemies_dead)[:-1].any()
        expected = {(True, False): "lost", (False, True): "won", (True, True): "draw", (False, False): "timeout"}
        assert episode.outcome == expected[bool(agents_dead[-1]), bool(enemies_dead[-1])]
        assert (episode.outcome == "timeout") <= (steps == world.scenario.episode_limit)


def test_equal_seeds_give_equal_episodes_and_the_first_are_kept(world, episodes):
    again = replay.record(world, random_policy(world), SEED, 2)
    assert len(again) == 2
    for new, old in zip(again, episodes, strict=False):
        np.testing.assert_array_equal(new.x, old.x)
        np.testing.assert_array_equal(new.action, old.action)
        assert new.value is None


def test_a_battle_that_the_time_limit_ends_is_a_timeout(episodes):
    world = Combat(dataclasses.replace(scenario("3m"), episode_limit=4), 4)
    short = replay.record(world, random_policy(world), [4, 4], 4)
    assert [(episode.outcome, episode.num_steps) for episode in short] == [("timeout", 4)] * 4
    assert all((new.x[:4] != old.x[:4]).any() for new, old in zip(short, episodes, strict=True))  # another seed


@pytest.mark.parametrize(
    ("health", "won", "terminated", "outcome"),
    [
        ([9, 0], True, True, "won"),
        ([0, 9], False, True, "lost"),
        ([0, 0], False, True, "draw"),
        ([9, 9], False, False, "timeout"),
    ],
)
def test_an_episode_is_cut_at_its_first_end(episodes, health, won, terminated, outcome):
    """Two steps of one unit against another, and two of the episode after."""
    film = {name: np.zeros([5, 2]) for name in ("x", "y", "shield", "energy", "target")} | {
        "order": np.zeros([5, 0], int),
        "health": np.array([[9, 9], [9, 9], health, [9, 9], [9, 9]]),
        "available": np.zeros([5, 1, 7], bool),
        "action": np.array([[-1], [1], [2], [3], [4]]),
        "reward": np.array([0, 0.5, 2, 0, 7]),
        "last": np.array([False, False, True, False, True]),
        "terminated": np.array([False, False, terminated, False, True]),
        "won": np.array([False, False, won, False, True]),
    }
    episode = recording.cut(episodes[0].battle, film)
    assert episode.outcome == outcome
    assert episode.action.tolist() == [[1], [2]]
    assert episode.reward.tolist() == [0.5, 2]
    assert episode.health.tolist() == [[9, 9], [9, 9], health]


def test_attackers_aim_at_the_target_they_kill(episodes):
    """An agent ordered onto enemy 1 kills it; its target is -1 after that step, its aim unit 3 + 1 in it."""
    nobody = np.full([2, 6], -1)
    health = np.array([[45, 45, 45, 45, 6, 45], [45, 45, 45, 45, 0, 45.0]])
    ordered = np.array([[6 + 1, 2, 6 + 2]])
    episode = episodes[0]._replace(target=nobody, health=health, action=ordered)
    assert episode.aims(0) == [4, -1, -1, -1, -1, -1]
    nobody[1] = [-1, -1, 5, 0, -1, 1]
    assert episode._replace(target=nobody).aims(0) == [4, -1, 5, 0, -1, 1]
    shuffled = episode._replace(slots=np.array([2, 0, 1]), target=np.full([2, 6], -1))
    assert shuffled.aims(0) == [-1, -1, 4, -1, -1, -1]  # slot 2 is enemy 1; slot 1 is enemy 0, who lives


def test_a_healer_aims_at_the_patient_that_dies(episodes):
    battle = episodes[0].battle
    healer = battle.agents[0]._replace(max_energy=200.0)
    health = np.full([2, 6], 45.0)
    health[1, [2, 5]] = 0
    episode = episodes[0]._replace(
        battle=battle._replace(agents=(healer, *battle.agents[1:])),
        target=np.full([2, 6], -1),
        health=health,
        action=np.array([[6 + 2, 6 + 2, 1]]),
    )
    assert episode.aims(0) == [2, 5, -1, -1, -1, -1]


def test_each_episode_shows_the_types_of_its_own_battle(episodes):
    battle = episodes[0].battle
    medivac = battle.agents[0]._replace(name="medivac", max_energy=200.0, sight=11.0)
    other = battle._replace(agents=(*battle.agents[:2], medivac))
    data = data_of(replay.page([episodes[0], episodes[1]._replace(battle=other)]))
    assert [kind["name"] for kind in data["types"]] == ["marine", "medivac"]
    first, second = (episode["units"] for episode in data["episodes"])
    assert [unit["type"] for unit in first] == [0] * 6
    assert [unit["type"] for unit in second] == [0, 0, 1, 0, 0, 0]
    assert (second[2]["sight"], second[2]["energy"], second[1]["sight"]) == (11, 200, 9)


@pytest.mark.slow
def test_drawn_battles_are_recorded_with_their_types():
    world = Combat(scenario("protoss_5_vs_5"), 4)
    episodes = replay.record(world, random_policy(world), SEED, 4)
    start = graph.function(world.reset, jit_compile=True)(tf.constant(SEED))
    names = [unit.name for unit in world.scenario.lottery.types]
    for i, episode in enumerate(episodes):
        assert [unit.name for unit in episode.battle.units] == [names[kind] for kind in start.kinds.numpy()[:, i]]
        full = np.array([unit.max_health for unit in episode.battle.units])
        np.testing.assert_array_equal(episode.health[0], full)
    assert len({tuple(unit.name for unit in episode.battle.units) for episode in episodes}) > 1


def test_shuffled_enemies_are_named_by_their_slots():
    world = Combat(scenario("3m"), 8, Options(shuffle_enemies=True))
    episodes = replay.record(world, random_policy(world), SEED, 8)
    assert {tuple(sorted(episode.slots)) for episode in episodes} == {(0, 1, 2)}
    assert len({tuple(episode.slots) for episode in episodes}) > 1
    attacks = 0
    for episode in episodes:
        for t, agent in zip(*np.nonzero(episode.action >= 6), strict=True):
            if (target := episode.target[t + 1, agent]) >= 0:
                assert target == 3 + episode.slots[episode.action[t, agent] - 6]
                attacks += 1
    assert attacks


@pytest.mark.parametrize("name", ["battle.avi", "battle", "html", "battle.html.gz"])
def test_a_file_of_another_kind_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=rf"{re.escape(name)}: .*\.html, \.gif or \.mp4$"):
        replay.write(tmp_path / name, [])
    assert not list(tmp_path.iterdir())


def test_a_page_needs_nothing_but_itself(page):
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)  # SVG's name is no address that is asked
    assert set(re.findall(r"""\b(?:src|href)\s*=\s*["']?([^"'\s>]*)""", page)) == {"data:,"}
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", page)
    assert "default-src 'none'" in page


def test_a_page_holds_the_episodes(episodes, page):
    data = data_of(page)
    assert data["map"] == "3m"
    assert data["title"] == "the team </script> of $&"
    assert data["seed"] == SEED
    assert data["terrain"] == ["".join("#."[int(free)] for free in row) for row in scenario("3m").pathable.T]
    for kept, episode in zip(data["episodes"], episodes, strict=True):
        assert [data["types"][unit["type"]]["name"] for unit in kept["units"]] == ["marine"] * 6
        np.testing.assert_allclose(kept["x"], episode.x, atol=0.005001)
        np.testing.assert_allclose(kept["health"], episode.health, atol=0.05001)
        np.testing.assert_allclose(kept["reward"], episode.reward, atol=0.00005001)
        np.testing.assert_allclose(kept["value"], episode.value, atol=0.0005001)
        assert kept["action"] == episode.action.tolist()
        assert kept["target"] == episode.target.tolist()
        assert kept["shield"] is None  # marines have none
        assert kept["outcome"] == episode.outcome
        # Four actions a digit, from the lowest: digit 0 of the text is actions 0 to 3.
        available = [
            [[int(agent[a // 4], 16) >> a % 4 & 1 for a in range(9)] for agent in row] for row in kept["available"]
        ]
        np.testing.assert_array_equal(available, episode.available)


def test_a_page_is_small(page):
    assert len(page) < 150_000  # characters, for four episodes


def test_the_view_holds_everyone_and_is_no_taller_than_wide(episodes):
    left, bottom, right, top = layout.view(episodes)
    for episode in episodes:
        assert ((episode.x >= left) & (episode.x <= right) & (episode.y >= bottom) & (episode.y <= top)).all()
    assert 0 <= left < right <= 32
    assert 0 <= bottom < top <= 32
    assert top - bottom <= right - left + 0.01


def test_a_gif_shows_every_half_step(episodes, tmp_path):
    replay.write(tmp_path / "battle.gif", episodes[:2])
    pictures = [2 * episode.num_steps + 1 for episode in episodes[:2]]
    milliseconds = 0
    with Image.open(tmp_path / "battle.gif") as gif:
        assert gif.n_frames == sum(pictures)
        assert gif.size[0] == 640
        assert gif.size[1] % 16 == 0
        for k in range(gif.n_frames):
            gif.seek(k)
            milliseconds += gif.info["duration"]
    assert milliseconds == sum(100 * (count - 1) + 1200 for count in pictures)


def test_an_mp4_shows_every_quarter_step(episodes, tmp_path):
    replay.write(tmp_path / "battle.mp4", episodes[:2])
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "battle.mp4"))
    assert frames == sum(4 * episode.num_steps + 24 for episode in episodes[:2])  # the end stays for 24 frames
    assert seconds == pytest.approx(frames / 20, abs=0.06)
    meta = next(imageio_ffmpeg.read_frames(str(tmp_path / "battle.mp4")))
    assert meta["size"] == pictures.Canvas(episodes[:2]).size


def test_pictures_show_units_where_they_are(episodes):
    """Left of the letter, units of both sides have their side's colour, until they are dead."""
    canvas, episode = pictures.Canvas(episodes), episodes[0]
    left, _, right, top = layout.view(episodes)
    scale = 640 / (right - left)

    def colour_at(t, unit):
        place = (episode.x[t, unit] - 0.25 - left) * scale, 32 + (top - episode.y[t, unit]) * scale
        return canvas.frame(0, float(t)).getpixel(tuple(map(int, place)))

    blue, vermilion = map(ImageColor.getrgb, pictures.SIDES)
    assert [colour_at(0, unit) for unit in range(6)] == [blue] * 3 + [vermilion] * 3
    end = episode.num_steps
    assert blue not in [colour_at(end, unit) for unit in range(3) if not episode.health[end, unit]]
