"""A learning rate that is changed at a resume counts, whatever the checkpoint was learned with."""

import numpy as np
import pytest
import tensorflow as tf

from tf_marl import agents
from tf_marl.agents.learner import Rollout

RATES = {
    agents.reinforce: ("learning_rate",),
    agents.coma: ("actor_learning_rate", "critic_learning_rate"),
    agents.maddpg: ("actor_learning_rate", "critic_learning_rate"),
    agents.qmix: ("learning_rate",),
}


@pytest.fixture
def rollout(experience, split):
    """A rollout of the task, without recurrent states."""
    rows, final = split(experience)
    return Rollout(rows._replace(policy_info={"policy_state": ()}), final)


@pytest.mark.parametrize("algorithm", RATES)
def test_a_restored_agent_learns_at_its_new_rate(specs, rollout, algorithm, tmp_path):
    def make(rate):
        return algorithm(*specs, hidden=(8,), **dict.fromkeys(RATES[algorithm], rate))

    def weights(agent):
        return [np.array(variable) for variable in agent.trainable_variables]

    saved, restored = make(1e-2), make(1e-30)
    path = tf.train.Checkpoint(agent=saved).write(str(tmp_path / "saved"))
    tf.train.Checkpoint(agent=restored).read(path).assert_existing_objects_matched()
    before = weights(restored)
    restored.learn(rollout)
    saved.learn(rollout)
    moved = {agent: zip(weights(agent), before, strict=True) for agent in (restored, saved)}
    # Not 0: target networks follow the others, and what is equal moves by a rounding error.
    assert max(np.max(np.abs(after - old)) for after, old in moved[restored]) < 1e-5
    assert max(np.max(np.abs(after - old)) for after, old in moved[saved]) > 1e-3
