"""A made-up task of three agents, and what a team might have experienced in it."""

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
def small_agent():
    """(algorithm, **options) -> an agent for that task, with little to compute."""
    action_spec = MatrixGame(np.zeros([NUM_ACTIONS] * NUM_AGENTS), num_envs=1).action_spec

    def make(algorithm=agents.ippo, **options):
        small = {"hidden": (16,), "num_epochs": 2, "num_minibatches": 2}
        return algorithm(ts.time_step_spec(OBSERVATION_SPEC), action_spec, **small | options)

    return make


@pytest.fixture
def experience(rng, random_team):
    """[B, T + 1] rows: the dead have action 0 alone, episodes end in both ways, all values vary."""
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
    """(experience) -> what `agent.update` takes, from [B, T + 1] rows of which the last only lends its observation."""

    def rows_and_final_time_step(experience):
        final = ts.TimeStep(
            *(getattr(experience, name)[:, -1] for name in ("step_type", "reward", "discount")),
            observation={name: leaf[:, -1] for name, leaf in experience.observation.items()},
        )
        return tf.nest.map_structure(lambda leaf: leaf[:, :-1], experience), final

    return rows_and_final_time_step


@pytest.fixture(scope="session")
def update(split):
    """(agent, experience) -> the metrics of one update on it."""
    return lambda agent, experience: agent.update(*split(experience)).metrics


@pytest.fixture(scope="session")
def weights():
    """(agent) -> all weights of its networks."""
    return lambda agent: agent.actor.get_weights() + agent.critic.get_weights()


@pytest.fixture(scope="session")
def differ():
    """(some, others) -> whether any of two lists' arrays differ anywhere."""
    return lambda some, others: any(np.any(a != b) for a, b in zip(some, others, strict=True))


@pytest.fixture(scope="session")
def assert_equal():
    """(actual, expected) -> nothing, if two nests of arrays are equal to the bit."""

    def equal(actual, expected):
        tf.nest.map_structure(np.testing.assert_array_equal, actual, expected)

    return equal


@pytest.fixture(scope="session")
def complaint():
    """(function, *args, **kwargs) -> the one line of its refusal; gin adds a second, which a launcher leaves off."""

    def refused(function, *args, **kwargs):
        with pytest.raises(ValueError, match=": ") as refusal:
            function(*args, **kwargs)
        line, *rest = str(refusal.value).split("\n")
        assert all("In call to configurable" in more for more in rest)
        return line

    return refused
