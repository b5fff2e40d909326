"""This module defines a small task of three agents, agents for it, and random experience in it."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from tf_marl import agents
from tf_marl.environments.matrix_game import MatrixGame

NUM_ENVS, NUM_STEPS, NUM_AGENTS, NUM_ACTIONS = 4, 12, 3, 4


OBSERVATION_SPEC = {
    "obs": tf.TensorSpec([NUM_AGENTS, 5], tf.float32),
    "state": tf.TensorSpec([6], tf.float32),
    "avail_actions": tf.TensorSpec([NUM_AGENTS, NUM_ACTIONS], tf.bool),
    "alive": tf.TensorSpec([NUM_AGENTS], tf.bool),
}


@pytest.fixture(scope="session")
def specs():
    """Gives the specs of the task's time steps and actions."""
    game = MatrixGame(np.zeros([NUM_ACTIONS] * NUM_AGENTS), num_envs=1)
    return ts.time_step_spec(OBSERVATION_SPEC), game.action_spec


@pytest.fixture(scope="session")
def small_agent(specs):
    """Gives a function (algorithm, **options) -> agent for the task with small networks and few epochs."""

    def make(algorithm=agents.ippo, **options):
        small = {"hidden": (16,), "num_epochs": 2, "num_minibatches": 2}
        return algorithm(*specs, **small | options)

    return make


@pytest.fixture
def experience(rng, random_team):
    """Gives a random trajectory of [B, T + 1] rows.

    Dead agents have only action 0. Some episodes terminate and some are truncated. All values vary.
    """
    shape = NUM_ENVS, NUM_STEPS + 1
    logits, avail = random_team(shape, NUM_AGENTS, NUM_ACTIONS)
    ends = rng.random(shape) < 0.25
    ends[:, 1:] &= ~ends[:, :-1]
    first, mid, last = ts.StepType.FIRST, ts.StepType.MID, ts.StepType.LAST
    step_type = np.where(ends, last, mid).astype(np.int32)
    step_type[:, 1:][ends[:, :-1]] = first
    step_type[:, 0] = first
    discount = np.ones(shape, np.float32)
    discount[:, :-1][step_type[:, 1:] == last] = rng.integers(2, size=(step_type[:, 1:] == last).sum())
    observation = {
        "obs": rng.normal(size=(*shape, NUM_AGENTS, 5)).astype(np.float32),
        "state": rng.normal(size=(*shape, 6)).astype(np.float32),
        "avail_actions": avail,
        "alive": avail.sum(axis=-1) > 1,
    }
    rows = trajectory.Trajectory(
        step_type=step_type,
        observation=observation,
        action=np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1).astype(np.int32),
        policy_info={"logits": logits},
        next_step_type=np.concatenate([step_type[:, 1:], np.full((NUM_ENVS, 1), mid)], axis=1).astype(np.int32),
        reward=np.where(step_type == last, 0, rng.normal(size=shape)).astype(np.float32),
        discount=discount,
    )
    return tf.nest.map_structure(tf.constant, rows)


@pytest.fixture(scope="session")
def split():
    """Gives a function (experience) -> [B, T] rows and the final time step, which `agent.update` takes.

    The experience has [B, T + 1] rows. The last one becomes the final time step.
    """

    def rows_and_final_time_step(experience):
        final = ts.TimeStep(
            *(getattr(experience, name)[:, -1] for name in ("step_type", "reward", "discount")),
            observation={name: leaf[:, -1] for name, leaf in experience.observation.items()},
        )
        return tf.nest.map_structure(lambda leaf: leaf[:, :-1], experience), final

    return rows_and_final_time_step


@pytest.fixture(scope="session")
def update(split):
    """Gives a function (agent, experience) -> metrics of one update on that experience."""
    return lambda agent, experience: agent.update(*split(experience)).metrics


@pytest.fixture(scope="session")
def weights():
    """Gives a function (agent) -> list of all weights of its actor and critic, as NumPy arrays."""
    return lambda agent: agent.actor.get_weights() + agent.critic.get_weights()


@pytest.fixture(scope="session")
def differ():
    """Gives a function (some, others) -> whether two lists of arrays differ anywhere."""
    return lambda some, others: any(np.any(a != b) for a, b in zip(some, others, strict=True))


@pytest.fixture(scope="session")
def assert_equal():
    """Gives a function (actual, expected) that fails unless two nests of arrays are exactly equal."""

    def equal(actual, expected):
        tf.nest.map_structure(np.testing.assert_array_equal, actual, expected)

    return equal


@pytest.fixture(scope="session")
def complaint():
    """Gives a function (function, *args, **kwargs) -> first line of the ValueError that the call raises.

    Gin adds lines about the configurable, which launchers do not show. There must be no other lines.
    """

    def refused(function, *args, **kwargs):
        with pytest.raises(ValueError, match=": ") as refusal:
            function(*args, **kwargs)
        line, *rest = str(refusal.value).split("\n")
        assert all("In call to configurable" in more for more in rest)
        return line

    return refused


@pytest.fixture
def eagerly():
    """Runs functions without tracing them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def rollout(experience, split):
    """agent -> what its `update` takes: [B, T] rows as if it had collected them, and the time step after them."""

    def of(agent, experience=experience):
        rows, final = split(experience)
        if agent.networks.state_spec:
            shape = rows.reward.shape
            state = tf.nest.map_structure(lambda spec: tf.zeros([*shape, *spec.shape]), agent.networks.state_spec)
            value = tf.zeros([*shape, agent.critic.num_values])
            rows = rows._replace(policy_info={"policy_state": state, "value": value})
        return rows._replace(policy_info=rows.policy_info | {"logits": agent.logits(rows)}), final

    return of
