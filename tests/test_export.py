"""Exported policies decide as the trained ones do, wherever TensorFlow runs."""

import itertools
import json
import os
import re
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.policies import py_tf_eager_policy

from tf_marl import agents, export
from tf_marl.agents.ppo.agent import PPOAgent
from tf_marl.compile import graph
from tf_marl.environments.matrix_game import CLIMBING_GAME, MatrixGame
from tf_marl.training.evaluate import Evaluator

NUM_GAMES, NUM_STEPS = 8, 20
POLICIES = {
    "feed_forward": {},
    "recurrent": {"rnn": "gru", "rnn_units": 6, "head_hidden": (5,)},
    "own_weights": {"rnn": "gru", "rnn_units": 6, "parameter_sharing": "none"},
    "by_unit_type": {"parameter_sharing": "unit_type"},
}
BAD_ROWS = [
    ("obs", np.nan, "obs is NaN or infinite"),
    ("obs", -np.inf, "obs is NaN or infinite"),
    ("state_gru", np.nan, "state_gru is NaN or infinite"),
    ("avail_actions", False, "avail_actions has no available action"),
    ("agent_index", 3, "agent_index is not one of 0 to 2"),
    ("agent_index", -1, "agent_index is not one of 0 to 2"),
]

# Plays a record back through both forms of a SavedModel, where nothing but TensorFlow can be imported.
TENSORFLOW_ALONE = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tf_marl", "tf_agents", "tensorflow_probability", "tf_keras", "gin"):
            raise ImportError(name + " is forbidden here")

sys.meta_path.insert(0, Forbid())
import numpy as np
import tensorflow as tf

model_folder, record, answers = sys.argv[1:]
model, record = tf.saved_model.load(model_folder), np.load(record)
alone, team = model.signatures["serving_default"], model.signatures["team"]
num_steps, num_games, num_agents, _ = record["obs"].shape
size = dict(alone.structured_input_signature[1])
state = {name: np.zeros([num_games, num_agents, spec.shape[-1]], np.float32)
         for name, spec in size.items() if name.startswith("state_")}
teams, loners = [], []
for t in range(num_steps):
    first = record["first"][t][:, None, None]
    state = {name: np.where(first, np.float32(0), leaf) for name, leaf in state.items()}
    inputs = {"obs": record["obs"][t], "avail_actions": record["avail_actions"][t]} | state
    rows = {name: tf.reshape(leaf, [num_games * num_agents, -1]) for name, leaf in inputs.items()}
    index = tf.tile(tf.range(num_agents), [num_games])
    together = team(**{name: tf.constant(leaf) for name, leaf in inputs.items()})
    by_itself = alone(agent_index=index, **rows)
    for name, leaf in together.items():
        np.testing.assert_allclose(by_itself[name], tf.reshape(leaf, by_itself[name].shape), rtol=1e-4, atol=1e-6)
    state = {name: together[name].numpy() for name in state}
    teams.append(together["action"]), loners.append(tf.reshape(by_itself["action"], [num_games, num_agents]))
assert not any(name.split(".")[0] in ("tf_marl", "tf_agents", "tensorflow_probability") for name in sys.modules)
np.savez(answers, team=np.array(teams), alone=np.array(loners))
"""


class Exported(NamedTuple):
    """An agent, what its policy did in some games, and its export."""

    agent: PPOAgent
    world: Any
    record: dict[str, np.ndarray]  # [T, B, ...]
    version: Any  # path of the SavedModel

    @property
    def model(self):
        return tf.saved_model.load(str(self.version))


def make_agent(world, **options):
    """With weights that make up their mind, and statistics of observations that say something."""
    make = {"hidden": (12, 8), "normalize_observations": True, "actor_gain": 3.0}
    agent = agents.ippo(world.time_step_spec, world.action_spec, unit_types=("a", "b", "a"), **make | options)
    means = [weight for weight in agent.actor.variables if "mean" in weight.name]
    for i, weight in enumerate([*agent.actor.trainable_variables, *means]):
        weight.assign_add(0.7 * tf.random.stateless_normal(weight.shape, [1, i]))
    return agent


def play(world, policy):
    """What was seen and done for some env steps, over the ends of episodes."""
    step = graph.function(lambda t, *rest: world.play_step(policy, tf.constant([3, 4]), t, *rest))
    state, policy_state = world.reset(tf.constant([3, 4])), policy.get_initial_state(world.num_envs)
    time_step, rows = world.time_step(state), []
    for t in range(NUM_STEPS):
        seen = time_step
        state, time_step, decided = step(tf.constant(t), state, time_step, policy_state)
        policy_state = decided.state
        names = ("obs", "avail_actions")
        rows.append({name: seen.observation[name] for name in names} | {"first": seen.is_first()})
        rows[-1]["action"] = decided.action
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


class NoRepeats(MatrixGame):
    """Nobody may do the same thing twice in a row."""

    def resize(self, num_envs):
        return NoRepeats(self.payoff, num_envs, self.episode_limit)

    def time_step(self, state):
        time_step = super().time_step(state)
        avail = tf.one_hot(state.last_action, self.payoff.shape[0], on_value=False, off_value=True)
        return time_step._replace(observation=time_step.observation | {"avail_actions": avail})


@pytest.fixture(scope="module")
def world():
    return NoRepeats(np.random.default_rng(0).normal(size=[4] * 3), NUM_GAMES, episode_length=7)


@pytest.fixture(scope="module", params=[*list(POLICIES)[:3], pytest.param("by_unit_type", marks=pytest.mark.slow)])
def exported(request, world, tmp_path_factory):
    agent = make_agent(world, **POLICIES[request.param])
    version = export.save(agent, tmp_path_factory.mktemp(request.param), 1200, {"map": "climbing"})
    return Exported(agent, world, play(world, agent.policy), version)


def inputs_of(record, t):
    return {name: tf.constant(record[name][t]) for name in ("obs", "avail_actions")}


def initial_state(model, signature, *rows):
    specs = model.signatures[signature].structured_input_signature[1]
    return {n: tf.zeros([*rows, spec.shape[-1]]) for n, spec in specs.items() if n.startswith("state_")}


def test_tensorflow_alone_plays_whole_episodes_as_the_trained_team_and_agent_by_agent(exported, tmp_path):
    record, answers = tmp_path / "record.npz", tmp_path / "answers.npz"
    np.savez(record, **exported.record)
    command = [sys.executable, "-c", TENSORFLOW_ALONE, exported.version, record, answers]
    elsewhere = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}  # ours
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=elsewhere)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    played = np.load(answers)
    assert exported.record["first"][1:].any()  # an episode began within
    assert len(np.unique(exported.record["action"])) > 2
    np.testing.assert_array_equal(played["team"], exported.record["action"])
    np.testing.assert_array_equal(played["alone"], exported.record["action"])


def test_an_illegal_action_has_probability_zero_and_is_never_chosen(exported, world, rng):
    model = exported.model
    num_agents, num_actions = exported.record["avail_actions"].shape[2:]
    avail = rng.random((64, num_agents, num_actions)) < 0.4
    avail[..., 2] |= ~avail.any(axis=-1)
    obs = tf.constant(rng.normal(size=(64, *exported.record["obs"].shape[2:])), tf.float32)
    for name, seed in (("team", {}), ("team_sampled", {"seed": tf.constant([5, 6])})):
        state = initial_state(model, name, 64, num_agents)
        decision = model.signatures[name](obs=obs, avail_actions=tf.constant(avail), **state, **seed)
        probabilities, action = decision["probabilities"].numpy(), decision["action"].numpy()
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)
        assert (probabilities[~avail] == 0).all()
        assert np.take_along_axis(avail, action[..., None], axis=-1).all()
        assert action.dtype == np.int32


def question(model, signature):
    """What a signature can answer, of three teams or of one's agents."""
    specs = model.signatures[signature].structured_input_signature[1]
    rows = (3, 3) if signature.startswith("team") else (3,)
    inputs = {name: np.zeros([*rows, *spec.shape[len(rows) :]], np.float32) for name, spec in specs.items()}
    inputs |= {"avail_actions": np.ones_like(inputs["avail_actions"], bool)}
    given = {"agent_index": np.arange(3, dtype=np.int32), "seed": np.array([5, 6], np.int32)}
    return inputs | {name: given[name] for name in given if name in specs}


def with_row(inputs, name, value):
    """The same but for the second row of one input."""
    leaf = inputs[name].copy()
    leaf[1] = value
    return inputs | {name: leaf}


def answer(decide, inputs):
    return {name: leaf.numpy() for name, leaf in decide(**tf.nest.map_structure(tf.constant, inputs)).items()}


@pytest.mark.parametrize("signature", ["serving_default", "sampled", "team", "team_sampled"])
def test_a_row_that_allows_no_decision_is_refused_by_name(exported, signature):
    model = exported.model
    decide, inputs = model.signatures[signature], question(model, signature)
    assert (answer(decide, inputs)["action"] >= 0).all()
    for name, value, says in BAD_ROWS:
        if name in inputs:
            with pytest.raises(tf.errors.InvalidArgumentError, match=rf"{says}, first in .* \[\[1"):
                answer(decide, with_row(inputs, name, value))
    for name in inputs.keys() - {"seed"}:
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"numbers of rows differ: .*{name}.* \[[13]"):
            answer(decide, inputs | {name: inputs[name][:1]})


def test_numbers_too_large_to_decide_on_are_refused_and_bring_no_unavailable_action(exported):
    model = exported.model
    decide, inputs = model.signatures["team"], question(model, "team")
    refusals = set()
    for name, large, only in itertools.product(inputs.keys() & {"obs", "state_gru"}, (1e12, 3e38), range(4)):
        avail = np.arange(4) == np.full([3, 3, 1], only)
        try:
            action = answer(decide, with_row(inputs | {"avail_actions": avail}, name, large))["action"]
        except tf.errors.InvalidArgumentError as error:
            refusals |= set(re.findall(r"assertion failed: \[(.*),", str(error)))
        else:
            np.testing.assert_array_equal(action, only)
    assert refusals == ({"inputs are too large or weights NaN"} if "state_gru" in inputs else set())


def test_a_session_such_as_tensorflow_servings_refuses_likewise(exported):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(exported.version))
        names = graph.signature_def["serving_default"]
        inputs = question(exported.model, "serving_default")

        def decide(inputs):
            feed = {names.inputs[name].name: leaf for name, leaf in inputs.items()}
            return session.run(names.outputs["action"].name, feed)

        assert (decide(inputs) >= 0).all()
        for name, value, says in BAD_ROWS:
            if name in inputs:
                with pytest.raises(tf.errors.InvalidArgumentError, match=rf"{says}, first in row. \[\[1"):
                    decide(with_row(inputs, name, value))


def test_xla_which_drops_assertions_says_minus_one(exported):
    model = exported.model
    decide, inputs = model.signatures["serving_default"], question(model, "serving_default")
    compiled = graph.function(lambda **tensors: decide(**tensors), jit_compile=True)
    expected = answer(decide, inputs)["action"]
    for name, value, _ in BAD_ROWS:
        if name in inputs:
            action = answer(compiled, with_row(inputs, name, value))["action"]
            np.testing.assert_array_equal(action, [expected[0], -1, expected[2]])


def test_samples_are_those_of_the_collecting_policy_and_follow_the_probabilities(exported):
    model, policy = exported.model, exported.agent.collect_policy
    time_step = exported.world.time_step(exported.world.reset(tf.constant([3, 4])))
    inputs = inputs_of(exported.record, 0) | initial_state(model, "team", NUM_GAMES, exported.record["obs"].shape[2])
    seed = tf.constant([7, 8])
    ours = policy.action(time_step, policy.get_initial_state(NUM_GAMES), seed=seed).action
    served = model.signatures["team_sampled"](**inputs, seed=seed)["action"]
    np.testing.assert_array_equal(served, ours)

    rows = {name: tf.repeat(leaf[:1, 0], 4000, axis=0) for name, leaf in inputs.items()}
    drawn = model.signatures["sampled"](**rows, agent_index=tf.zeros([4000], tf.int32), seed=seed)
    share = np.bincount(drawn["action"], minlength=drawn["probabilities"].shape[-1]) / 4000
    np.testing.assert_allclose(share, drawn["probabilities"][0], atol=4 * np.sqrt(0.25 / 4000))  # 4 standard errors


def test_the_served_policy_is_worth_what_the_trained_one_is(exported):
    world = exported.world
    served = export.ServedPolicy(world.time_step_spec, world.action_spec, exported.version)
    seed = tf.constant([9, 10])
    assert Evaluator(world, served)(seed) == Evaluator(world, exported.agent.policy)(seed)


def test_tf_agents_loads_its_own_form(exported):
    folder = exported.version.parent / "policy_saver" / exported.version.name
    policy = py_tf_eager_policy.SavedModelPyTFEagerPolicy(
        str(folder), load_specs_from_pbtxt=True, batch_time_steps=False
    )
    assert policy.get_train_step() == 1200
    time_step = exported.world.time_step(exported.world.reset(tf.constant([3, 4])))
    step = policy.action(tf.nest.map_structure(np.array, time_step), policy.get_initial_state(NUM_GAMES))
    np.testing.assert_array_equal(step.action, exported.record["action"][0])


def test_the_page_beside_the_model_tells_its_signatures_and_nothing_tells_of_the_machine(exported):
    page = json.loads((exported.version / "signature.json").read_text())
    assert (page["num_agents"], page["env_steps"], page["training"]) == (3, 1200, {"map": "climbing"})
    for name, function in exported.model.signatures.items():
        specs = function.structured_input_signature[1]
        told = page["signatures"][name]["inputs"]
        assert {n: spec.shape.as_list() for n, spec in specs.items()} == {n: told[n]["shape"] for n in told}
    states = {name for name in page["signatures"]["team"]["inputs"] if name.startswith("state_")}
    assert set(page["initial_state"]) == states == set(page["signatures"]["team"]["outputs"]) & states
    for file in exported.version.parent.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert str(exported.version.parent).encode() not in content
            assert b"site-packages" not in content
            assert b".py" not in content.replace(b".python", b"")


@pytest.fixture
def agent(world):
    return make_agent(world)


def test_a_failed_export_leaves_nothing_behind_and_spoils_no_older_version(agent, tmp_path, monkeypatch):
    export.save(agent, tmp_path, 1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    def fail(module, folder, **kwargs):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "saved_model.pb").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    for version in (1, 2):
        with pytest.raises(OSError, match="No space left"):
            export.save(agent, tmp_path, version, overwrite=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "policy_saver"]


def test_a_version_is_replaced_only_when_asked(agent, world, tmp_path):
    version = export.save(agent, tmp_path, 7, {"of": "first"})
    with pytest.raises(FileExistsError, match="7 is there already"):
        export.save(agent, tmp_path, 7, {"of": "second"})
    assert "first" in (version / "signature.json").read_text()
    assert export.save(make_agent(world, seed=1), tmp_path, 7, {"of": "second"}, overwrite=True) == version
    assert "second" in (version / "signature.json").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "policy_saver"]


def test_a_served_policy_refuses_another_map(agent, tmp_path):
    version = export.save(agent, tmp_path, 1)
    other = MatrixGame(CLIMBING_GAME, num_envs=1)
    with pytest.raises(ValueError, match=r"decides on obs of shape \(3, 5\), here it is \(2, 4\)"):
        export.ServedPolicy(other.time_step_spec, other.action_spec, version)


def test_a_damaged_page_is_refused_by_name(tmp_path):
    (tmp_path / "signature.json").write_text('{"num_agents": ')
    with pytest.raises(ValueError, match="json is damaged: "):
        export.read_page(tmp_path)
