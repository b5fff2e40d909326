"""This module exports policies to files that serve decentralised decisions and need only TensorFlow to run.

    DIR/VERSION/saved_model.pb            a SavedModel, laid out for TensorFlow Serving; VERSION is env steps trained
    DIR/VERSION/signature.json            inputs, outputs, and facts about the training
    DIR/policy_saver/VERSION              the same policy, saved by TF-Agents' PolicySaver

The SavedModel has four signatures. Each makes B decisions at once, for any B; a team has N agents, O obs features and A
actions, and H is the width of a recurrent layer:

    serving_default    one agent each     obs f32 [B, O], avail_actions bool [B, A], agent_index i32 [B]
                                          -> action i32 [B], probabilities f32 [B, A]
    team               whole teams        obs f32 [B, N, O], avail_actions bool [B, N, A]
                                          -> action i32 [B, N], probabilities f32 [B, N, A]
    sampled, team_sampled                 like the first two, but draw the action; also take seed i32 [2]

The first two choose the most probable action, and the first of equally probable ones. An agent decides the same alone
and in a team.
Recurrent policies also take and return `state_gru`, f32 [B, H] or [B, N, H]: zeros before an episode's first decision,
and then what the last decision has returned. So do policies that observe an agent's own last action: the state ends
with it. Unavailable actions have probability 0 and are never chosen.

A row is refused if it holds NaN or infinity, no available action, or an agent index that does not exist. So is a call
whose inputs differ in their numbers of rows. An `InvalidArgumentError` gives the reason and the first bad row; MLflow's
server answers with status 400 and that message at the end of `stack_trace`. Under XLA (`jit_compile=True`), which drops
assertions, the action of bad rows is -1.
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
    """Exports an agent's policy as version `env_steps`. The version's folder appears only once it is complete.

    Args:
        agent: the learner whose actor is exported, with its observation statistics and without its critic.
        folder: DIR, where the versions are; created if need be.
        env_steps: env steps that the policy trained for; the version.
        facts: more facts for `signature.json`, under `training`.
        overwrite: whether an existing version may be replaced.

    Returns:
        The SavedModel's folder, DIR/VERSION.

    Raises:
        ValueError: `env_steps` is negative.
        FileExistsError: the version exists and may not be replaced.
        OSError: the folder cannot be written.
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
        # The SavedModel comes last: if it is there, TF-Agents' policy is too.
        _put(staging / POLICY_SAVER, folder / POLICY_SAVER / str(env_steps))
        _put(staging / "model", version)
    return version


def save_model(
    agent: Learner, folder: pathlib.Path, env_steps: int, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Writes a policy's SavedModel with its `signature.json`, without TF-Agents' version of it.

    Args:
        agent: the learner whose actor is exported, with its observation statistics and without its critic.
        folder: the SavedModel's folder, DIR/VERSION.
        env_steps: env steps that the policy trained for.
        facts: more facts for `signature.json`, under `training`.

    Returns:
        The content of `signature.json`.
    """
    signatures = _signatures(agent.actor)
    module = tf.Module()
    module.weights = agent.actor.variables  # not the layers, which only Keras can load
    tf.saved_model.save(module, str(folder), signatures=signatures)
    page = _page(signatures, agent.actor) | {"env_steps": env_steps, "training": dict(facts or {})}
    (folder / SIGNATURE_NAME).write_text(json.dumps(page, indent=2) + "\n", "utf-8")
    return page


def read_page(model: pathlib.Path) -> dict[str, Any]:
    """Reads the `signature.json` of an exported policy.

    Args:
        model: the SavedModel's folder, DIR/VERSION.

    Returns:
        The content of `signature.json`.

    Raises:
        ValueError: the folder holds no `signature.json`, or the file is damaged.
    """
    try:
        return json.loads((model / SIGNATURE_NAME).read_text("utf-8"))
    except OSError:
        raise ValueError(f"holds no {SIGNATURE_NAME}: no policy that tf_marl exported") from None
    except ValueError as error:
        raise ValueError(f"{SIGNATURE_NAME} is damaged: {error}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences PolicySaver. It warns of names that it makes up itself, and of distributions that only TFP can load."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)


def _put(source: pathlib.Path, target: pathlib.Path) -> None:
    """Renames a folder. An older folder at `target` is moved into the staging folder, beside `source`."""
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        target.rename(source.with_name(f"replaced_{source.name}"))  # deleted with the staging folder
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
    """Decides where every row allows it, else fails. Where XLA drops assertions, the action of bad rows is -1.

    Args:
        decide: computes decisions from an actor and inputs.
        actor: decides.
        tensors: a signature's inputs; all but `seed` have B rows, [B, ...].

    Returns:
        The decisions, [B, ...] each.
    """
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
        tensors = {name: tf.identity(leaf) for name, leaf in tensors.items()}  # decisions wait for the assertions

    decision = decide(actor, tensors)
    probabilities = decision["probabilities"]
    # The sum is about 1, unless inputs are so large that logits overflow or fall below those of masked actions.
    available = tf.where(tensors["avail_actions"] & tf.math.is_finite(probabilities), probabilities, 0.0)
    unsure = tf.reduce_sum(available, axis=-1) < 0.99
    with tf.control_dependencies([_refuse(unsure, "inputs are too large or weights NaN")]):
        refused = tf.reduce_any(tf.stack([*wrong.values(), unsure]), axis=0)
        return decision | {"action": tf.where(refused, -1, decision["action"])}


def _refuse(rows: tf.Tensor, what: str) -> tf.Operation:
    """Returns an assertion that fails if any row is bad, and names the first one.

    Args:
        rows: True where a row is bad, [B] or [B, N] bool.
        what: says what is wrong with these rows.
    """
    first = tf.cast(tf.where(rows)[:1], tf.int32)  # with int64 the assertion becomes a tf.cond, which is slower
    place = "row" if len(rows.shape) == 1 else "team and agent"
    return tf.debugging.Assert(tf.size(first) == 0, [f"{what}, first in {place}", first])


def _decide(actor: Actor, tensors: Inputs) -> Inputs:
    """Decides for B teams.

    Args:
        actor: decides.
        tensors: inputs, [B, N, ...]. With `agent_index`, [R] int32, they are [B, R, ...], for these agents instead of
            all N in order. With `seed`, [2] int32, actions are drawn; else the most probable ones are chosen.

    Returns:
        Actions, [B, N] int32, probabilities, [B, N, A], and the next recurrent state, [B, N, H], if there is one; R
        takes the place of N with `agent_index`.
    """
    agents, seed = tensors.get("agent_index"), tensors.get("seed")
    features, state = actor.torso(tensors, state=tensors.get(_STATE, ()), agents=agents)
    team = actor.policy(features, tensors, agents)
    decision = {
        "action": team.mode() if seed is None else team.sample(seed=seed),
        "probabilities": categorical.agent_distribution(team).probs_parameter(),
    }
    return decision | ({_STATE: actor.torso.remember(state, decision["action"])} if actor.state_spec else {})


def _decide_alone(actor: Actor, tensors: Inputs) -> Inputs:
    """Decides for B single agents, as if they were the members of one team. Takes and returns tensors [B, ...]."""
    one_team = {name: leaf if name in ("agent_index", "seed") else leaf[None] for name, leaf in tensors.items()}
    return {name: leaf[0] for name, leaf in _decide(actor, one_team).items()}


def _page(signatures: Mapping[str, tf.types.experimental.ConcreteFunction], actor: Actor) -> dict[str, Any]:
    """Returns the content of `signature.json`. In its shapes, null is an axis of any size."""

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
    """Plays an exported policy in our environments: greedily, by the SavedModel's `team` signature.

    Args:
        time_step_spec: describes the time steps of one environment; `obs` is [N, O], `avail_actions` [N, A].
        action_spec: describes the team's action, [N] int32.
        folder: the SavedModel's folder, DIR/VERSION.

    Raises:
        ValueError: the policy was exported for observations of another shape. The message names both shapes.
        OSError: there is no SavedModel in the folder.
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
