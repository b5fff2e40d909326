"""Actor and critic in one."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from tf_marl.networks import ActorCritic, Architecture
from tf_marl.ops import categorical

NUM_ENVS, NUM_STEPS = 2, 5
SHARED, MIXED = [0, 0, 0], [0, 1, 1]
DENSE = Architecture(hidden=(8, 6), head_hidden=(7,), activation="tanh")
RECURRENT = Architecture(hidden=(8,), rnn="gru", rnn_units=6, activation="tanh")


@pytest.mark.parametrize("shape", [(NUM_ENVS,), (NUM_ENVS, NUM_STEPS)], ids=["step", "sequence"])
@pytest.mark.parametrize("shares_torso", [True, False], ids=["shared torso", "apart"])
def test_one_pass_gives_what_actor_and_critic_give_apart(shares_torso, shape, draw, randomised, rng, call, build):
    actor = build("actor", MIXED, RECURRENT, seed=1)
    critic = build("critic of obs", MIXED, RECURRENT, seed=2, torso=actor.torso if shares_torso else None)
    both = ActorCritic(randomised(actor), randomised(critic))
    assert both.shares_torso == shares_torso
    assert both.state_spec["actor"] == actor.state_spec
    assert both.state_spec["critic"] == (() if shares_torso else critic.state_spec)
    observation, step_type = draw(*shape), np.full(shape, ts.StepType.MID)
    step_type[0] = ts.StepType.FIRST
    step_type = tf.constant(step_type, tf.int32)
    state = tf.nest.map_structure(
        lambda spec: tf.constant(rng.normal(size=(NUM_ENVS, *spec.shape)), tf.float32), both.state_spec
    )
    team, value, after = both(observation, step_type, state)
    logits, after_actor = call(actor, observation, step_type, state["actor"])
    own = state["actor" if shares_torso else "critic"]
    apart, after_critic = call(critic, observation, step_type, own)
    np.testing.assert_allclose(categorical.agent_distribution(team).logits, logits, atol=1e-6)
    np.testing.assert_allclose(value, apart, atol=1e-6)
    expected = {"actor": after_actor, "critic": () if shares_torso else after_critic}
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after, expected)


def test_a_shared_torso_learns_from_actor_and_critic_and_heads_from_their_own(draw, randomised, build):
    actor = build("actor", SHARED, DENSE, seed=1)
    critic = build("critic of obs", SHARED, DENSE, seed=2, torso=actor.torso)
    both = ActorCritic(randomised(actor), randomised(critic))
    torso = {variable.ref() for variable in actor.torso.trainable_variables}
    assert torso == {v.ref() for v in actor.trainable_variables} & {v.ref() for v in critic.trainable_variables}
    observation = draw(4)
    with tf.GradientTape(persistent=True) as tape:
        team, value, state = both(observation, None, ())
        logits = tf.reduce_sum(categorical.agent_distribution(team).logits)
        value = tf.reduce_sum(value)
    assert both.state_spec == state == ()
    for total, net in [(logits, actor), (value, critic)]:
        gradients = tape.gradient(total, both.trainable_variables)
        reached = {v.ref() for v, g in zip(both.trainable_variables, gradients, strict=True) if g is not None}
        assert reached == {variable.ref() for variable in net.trainable_variables}
