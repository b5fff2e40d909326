"""Policies as files that serve: decentralised decisions, with nothing but TensorFlow where they are made.

    DIR/VERSION/saved_model.pb            a SavedModel, laid out for TensorFlow Serving; VERSION is env steps trained
    DIR/VERSION/signature.json            what goes in and comes out, and facts about the training
    DIR/policy_saver/VERSION              the same policy for TF-Agents, by its PolicySaver

The SavedModel's signatures, for B decisions at once, B left open:

    serving_default    one agent each     obs f32 [B, O], avail_actions bool [B, A], agent_index i32 [B]
                                          -> action i32 [B], probabilities f32 [B, A]
    team               whole teams        obs f32 [B, N, O], avail_actions bool [B, N, A]
                                          -> action i32 [B, N], probabilities f32 [B, N, A]
    sampled, team_sampled                 the same; these also take seed i32 [2], and draw the action

The first two choose the most probable action, the first of equals. An agent decides alike in either form. Recurrent
policies also take and return `state_gru`, f32 [B, H] or [B, N, H]: zeros before an episode's first decision, from then
on what the last one returned. Unavailable actions have probability 0 and are never chosen.

Rows that allow no decision are refused: NaN or infinity, no available action, an agent that is none, more rows of one
input than of another. `InvalidArgumentError` names the first; MLflow's server answers 400, with that at the end of the
`stack_trace`. XLA alone (`jit_compile=True`) drops assertions: there these rows' action is -1.
"""

import contextlib
import json
import os
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf
from absl import logging
from tf_agents.policies import policy_saver, tf_policy
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.learner import Learner
from tf_marl.compile import graph
from tf_marl.networks import Actor
from tf_marl.ops import categorical

SIGNATURE_NAME = "signature.json"
POLICY_SAVER = "policy_saver"
_OBSERVATIONS = ("obs", "avail_actions")  # what an actor needs to know
_STATE = "state_gru"

Inputs = dict[str, tf.Tensor]


def save(
    agent: Learner,
    folder: str | os.PathLike,
    env_steps: int,
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> pathlib.Path:
    """Exports an agent's policy as version `env_steps`, which appears whole or not at all.

    Args:
        agent: whose actor decides; with its observation statistics, without its critic.
        folder: DIR above, made if need be.
        env_steps: that it trained for, the version.
        facts: more to write into `signature.json`, under `training`.
        overwrite: whether a version that is there may be replaced.
    Returns:
        The SavedModel's folder, DIR/VERSION.
    Raises:
        ValueError: env_steps is negative.
        FileExistsError: the version is there already.
        OSError: nothing can be written there.
    """
    if env_steps < 0:
        raise ValueError(f"env_steps = {env_steps}: a version is not negative")
    folder = pathlib.Path(folder)
    version = folder / str(env_steps)
    if version.exists() and not overwrite:
        raise FileExistsError(f"{version} is there already")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export_", dir=folder) as name:
        staging = pathlib.Path(name)
        with _quiet():
            saver = policy_saver.PolicySaver(agent.policy, train_step=tf.Variable(env_steps, dtype=tf.int64))
            saver.save(str(staging / POLICY_SAVER))
        save_model(agent, staging / "model", env_steps, facts)
        # The SavedModel last: where it is, the other is.
        _put(staging / POLICY_SAVER, folder / POLICY_SAVER / str(env_steps))
        _put(staging / "model", version)
    return version


def save_model(
    agent: Learner, folder: pathlib.Path, env_steps: int, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Writes the SavedModel alone, with its `signature.json`. Args: as `save`'s; folder, VERSION above.

    Returns: what `signature.json` says.
    """
    signatures = _signatures(agent.actor)
    module = tf.Module()
    module.weights = agent.actor.variables  # and not the layers, which only Keras could load
    tf.saved_model.save(module, str(folder), signatures=signatures)
    page = _page(signatures, agent.actor) | {"env_steps": env_steps, "training": dict(facts or {})}
    (folder / SIGNATURE_NAME).write_text(json.dumps(page, indent=2) + "\n", "utf-8")
    return page


def read_page(model: pathlib.Path) -> dict[str, Any]:
    """What `signature.json` says of the SavedModel in a folder. Raises: ValueError: it is none of ours, or damaged."""
    try:
        return json.loads((model / SIGNATURE_NAME).read_text("utf-8"))
    except OSError:
        raise ValueError(f"holds no {SIGNATURE_NAME}: no policy that tf_marl exported") from None
    except ValueError as error:
        raise ValueError(f"{SIGNATURE_NAME} is damaged: {error}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """PolicySaver warns of names that it makes up itself, and of distributions that only TFP can load."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)


def _put(source: pathlib.Path, target: pathlib.Path) -> None:
    """Renames a folder, in place of what was there."""
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        target.rename(source.with_name(f"replaced_{source.name}"))  # the staging folder takes it away
    source.rename(target)


def _signatures(actor: Actor) -> dict[str, tf.types.experimental.ConcreteFunction]:
    num_agents, num_features = actor.torso.inputs["obs"].shape
    num_actions = actor.input_tensor_spec["avail_actions"].shape[-1]

    def inputs(*rows: int | None) -> dict[str, tf.TensorSpec]:
        specs = {
            "obs": tf.TensorSpec([*rows, num_features], tf.float32, "obs"),
            "avail_actions": tf.TensorSpec([*rows, num_actions], tf.bool, "avail_actions"),
        }
        if actor.state_spec:
            specs[_STATE] = tf.TensorSpec([*rows, actor.state_spec.shape[-1]], tf.float32, _STATE)
        return specs

    def signature(decide: Callable[[Actor, Inputs], Inputs], specs: dict[str, tf.TensorSpec]):
        return graph.function(lambda **tensors: _checked(decide, actor, tensors)).get_concrete_function(**specs)

    agent, team = (
        inputs(None) | {"agent_index": tf.TensorSpec([None], tf.int32, "agent_index")},
        inputs(None, num_agents),
    )
    seed = {"seed": tf.TensorSpec([2], tf.int32, "seed")}
    return {
        "serving_default": signature(_decide_alone, agent),
        "sampled": signature(_decide_alone, agent | seed),
        "team": signature(_decide, team),
        "team_sampled": signature(_decide, team | seed),
    }


def _checked(decide: Callable[[Actor, Inputs], Inputs], actor: Actor, tensors: Inputs) -> Inputs:
    """What `decide` makes of rows that allow a decision; else fails, or where assertions are dropped says -1."""
    names = [name for name in tensors if name != "seed"]
    counts = tf.stack([tf.shape(tensors[name])[0] for name in names])
    wrong = {
        f"{name} is NaN or infinite": ~tf.reduce_all(tf.math.is_finite(tensors[name]), axis=-1)
        for name in names
        if tensors[name].dtype.is_floating
    }
    wrong["avail_actions has no available action"] = ~tf.reduce_any(tensors["avail_actions"], axis=-1)
    if "agent_index" in tensors:
        index, last = tensors["agent_index"], actor.torso.inputs["obs"].shape[0] - 1
        wrong[f"agent_index is not one of 0 to {last}"] = (index < 0) | (index > last)
    says = [f"numbers of rows differ: {', '.join(names)}", counts]
    alike = tf.debugging.Assert(tf.reduce_all(counts == counts[0]), says, summarize=len(names))
    with tf.control_dependencies([alike, *(_refuse(rows, what) for what, rows in wrong.items())]):
        tensors = {name: tf.identity(leaf) for name, leaf in tensors.items()}  # decided on no earlier than that

    decision = decide(actor, tensors)
    probabilities = decision["probabilities"]
    # All but 1, unless numbers are so large that logits overflow, or come to less than a masked one.
    available = tf.where(tensors["avail_actions"] & tf.math.is_finite(probabilities), probabilities, 0.0)
    unsure = tf.reduce_sum(available, axis=-1) < 0.99
    with tf.control_dependencies([_refuse(unsure, "inputs are too large or weights NaN")]):
        refused = tf.reduce_any(tf.stack([*wrong.values(), unsure]), axis=0)
        return decision | {"action": tf.where(refused, -1, decision["action"])}


def _refuse(rows: tf.Tensor, what: str) -> tf.Operation:
    """Fails if any row is True, and names the first. Args: rows bool [B] or [B, N]; what is the matter with them."""
    first = tf.cast(tf.where(rows)[:1], tf.int32)  # of int64 an assertion makes a condition, which takes longer
    place = "row" if len(rows.shape) == 1 else "team and agent"
    return tf.debugging.Assert(tf.size(first) == 0, [f"{what}, first in {place}", first])


def _decide(actor: Actor, tensors: Inputs) -> Inputs:
    """Teams' decisions; of the agents `agent_index` [R], if given, in place of all in order."""
    agents, seed = tensors.get("agent_index"), tensors.get("seed")
    features, state = actor.torso(tensors, state=tensors.get(_STATE, ()), agents=agents)
    team = actor.policy(features, tensors, agents)
    decision = {
        "action": team.mode() if seed is None else team.sample(seed=seed),
        "probabilities": categorical.agent_distribution(team).probs_parameter(),
    }
    return decision | ({_STATE: state} if actor.state_spec else {})


def _decide_alone(actor: Actor, tensors: Inputs) -> Inputs:
    """Agents' decisions: those of one team, of which each row is a member."""
    one_team = {name: leaf if name in ("agent_index", "seed") else leaf[None] for name, leaf in tensors.items()}
    return {name: leaf[0] for name, leaf in _decide(actor, one_team).items()}


def _page(signatures: Mapping[str, tf.types.experimental.ConcreteFunction], actor: Actor) -> dict[str, Any]:
    """What `signature.json` says; null is an axis of any size."""

    def listed(specs: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
        return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()}

    num_agents, num_features = actor.torso.inputs["obs"].shape
    return {
        "num_agents": num_agents,
        "num_obs_features": num_features,
        "num_actions": actor.input_tensor_spec["avail_actions"].shape[-1],
        "initial_state": {_STATE: 0.0} if actor.state_spec else {},
        "signatures": {
            name: {
                "inputs": listed(function.structured_input_signature[1]),
                "outputs": listed(function.structured_outputs),
            }
            for name, function in signatures.items()
        },
    }


class ServedPolicy(tf_policy.TFPolicy):
    """An exported policy that plays in our environments: greedily, by its `team` signature.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        folder: of the SavedModel, DIR/VERSION.
    Raises:
        ValueError: it decides for another team than the environment's; tells both.
        OSError: there is no SavedModel.
    """

    def __init__(self, time_step_spec: ts.TimeStep, action_spec: types.NestedTensorSpec, folder: str | os.PathLike):
        self._model = tf.saved_model.load(os.fspath(folder))
        self._decide = self._model.signatures["team"]
        specs = self._decide.structured_input_signature[1]
        for name in _OBSERVATIONS:
            exported, here = specs[name].shape[1:], time_step_spec.observation[name].shape
            if exported != here:
                raise ValueError(f"{folder}: decides on {name} of shape {exported}, here it is {here}")
        states = {_STATE: specs[_STATE]} if _STATE in specs else {}
        super().__init__(
            time_step_spec,
            action_spec,
            policy_state_spec={name: tf.TensorSpec(spec.shape[1:], spec.dtype, name) for name, spec in states.items()},
            clip=False,
        )

    def _variables(self):
        return list(self._model.weights)

    def _action(self, time_step, policy_state, seed=None):
        del seed
        keep = tf.cast(~time_step.is_first(), tf.float32)[:, None, None]
        observation = {name: time_step.observation[name] for name in _OBSERVATIONS}
        decision = self._decide(**observation, **{name: keep * state for name, state in policy_state.items()})
        after = {name: decision[name] for name in policy_state}
        return policy_step.PolicyStep(decision["action"], after, ())
