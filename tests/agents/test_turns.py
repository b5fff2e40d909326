"""Agents that learn one after another: what each knows of the others, whose weights move, and what is refused."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_marl import agents
from tf_marl.agents.ppo import clip_range, restraints
from tf_marl.ops import surrogate

FAST = {"actor_learning_rate": 0.03, "actor_gain": 1.0}
RECURRENT = {"rnn": "gru", "rnn_units": 8, "num_minibatches": 1}
SHARED, OWN = {"parameter_sharing": "all"}, {"parameter_sharing": "none"}


pytestmark = pytest.mark.usefixtures("eagerly")  # many agents learn a little here, and tracing takes longer than that


def actor_weights(agent):
    return [weight.numpy() for weight in agent.actor.trainable_variables]


def movers(before, agent):
    """The agents whose own weights have moved: all variables have an axis of agents."""
    pairs = zip(before, actor_weights(agent), strict=True)
    moved = [np.any(old != new, axis=tuple(range(1, old.ndim))) for old, new in pairs]
    return set(np.flatnonzero(np.any(moved, axis=0)))


def by_hand(agent, rows, final, order, clip):
    """The actor's weights after one epoch of HAPPO, agent by agent in a given order, on the whole batch.

    The first step of Adam is the learning rate times the gradient over its own size plus epsilon.
    """
    batch, config, networks = agent.batch(rows, final), agent.config, agent.networks
    weights = agent.actor.trainable_variables
    mass = tf.ones(batch.learns.shape[:2])
    for k in order:
        counts = tf.cast(batch.learns[..., k], tf.float32)
        share = counts / tf.reduce_sum(counts)
        with tf.GradientTape() as tape:
            team, *_ = networks(batch.observation, batch.step_type, batch.state)
            own = team.distribution.log_prob(batch.action)[..., k]
            ratio = tf.exp(own - batch.old_log_prob[..., k])
            gain = mass * surrogate.clipped_surrogate(ratio, batch.advantage[..., 0], clip)
            loss = -tf.reduce_sum(share * (gain + config.entropy_coefficient * team.distribution.entropy()[..., k]))
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            gradient = tf.convert_to_tensor(gradient)
            step = gradient / (tf.abs(gradient) + config.adam_epsilon / 0.001**0.5)
            weight.assign_sub(config.actor_learning_rate * step)
        team, *_ = networks(batch.observation, batch.step_type, batch.state)
        ratio = tf.exp(team.distribution.log_prob(batch.action)[..., k] - batch.old_log_prob[..., k])
        mass *= tf.where(batch.learns[..., k], ratio, 1.0)
    return actor_weights(agent)


def test_happo_weighs_each_turn_by_the_ratios_of_the_agents_before(small_agent, rollout):
    """One order out of six gives what the update gives; without those ratios, none does."""
    one_step = FAST | {"num_epochs": 1, "num_minibatches": 1, "max_grad_norm": None, "adam_epsilon": 1e-3}
    make = functools.partial(small_agent, agents.happo, **one_step)
    agent = make()
    rows = rollout(agent)
    agent.update(*rows)
    actual = actor_weights(agent)
    errors = [
        max(np.abs(a - b).max() for a, b in zip(actual, by_hand(make(), *rows, order, 0.2), strict=True))
        for order in itertools.permutations(range(3))
    ]
    assert sorted(errors)[0] < 1e-5 < 1e-4 < sorted(errors)[1], errors


def test_the_order_changes_from_update_to_update(small_agent, rollout):
    firsts = set()
    for seed in range(5):
        agent = small_agent(agents.happo, seed=seed, enforce=[restraints.early_stop(1e-9)], **FAST)
        before, rows = actor_weights(agent), rollout(agent)
        agent.update(*rows)
        (first,) = movers(before, agent)  # the stop came after one turn
        firsts.add(first)
    assert len(firsts) > 1


@pytest.mark.parametrize("algorithm", [agents.happo, agents.a2po])
@pytest.mark.parametrize("options", [OWN, SHARED, OWN | RECURRENT, SHARED | RECURRENT], ids=str)
def test_the_ratios_used_are_those_of_the_policy_that_comes_out(algorithm, options, small_agent, rollout):
    """Naive sharing would fail: there, an agent's turn changes ratios that are in use already."""
    agent = small_agent(algorithm, **FAST | options)
    rows = rollout(agent)
    metrics = agent.update(*rows).metrics
    change = agent.policy_change(rows[0])
    new, old = change.log_probs()
    ratio = tf.exp(tf.reduce_sum(tf.where(change.learns, new - old, 0.0), axis=-1))
    expected = np.mean(ratio.numpy()[change.states()])
    assert abs(expected - 1.0) > 1e-4
    np.testing.assert_allclose(metrics["trust_region/joint_ratio_mean"], expected, rtol=1e-5)
    assert metrics["trust_region/epochs"] == 3.0


def test_every_agent_keeps_moments_of_its_own_which_a_checkpoint_holds(small_agent, rollout, tmp_path, assert_equal):
    agent, twin = small_agent(agents.happo, **FAST), small_agent(agents.happo, seed=1, **FAST)
    agent.update(*rollout(agent))
    tf.train.Checkpoint(agent=twin).read(tf.train.Checkpoint(agent=agent).write(str(tmp_path / "agent")))
    twin.config = agent.config  # the seed is no part of a checkpoint
    fresh = small_agent(agents.happo, **FAST)
    fresh.actor.set_weights(agent.actor.get_weights())
    fresh.train_step_counter.assign(1)
    rows = rollout(agent)
    for learner in (agent, twin, fresh):
        learner.update(*rows)
    assert_equal(actor_weights(twin), actor_weights(agent))
    assert any(np.any(a != b) for a, b in zip(actor_weights(fresh), actor_weights(agent), strict=True))


def test_the_clip_range_is_that_of_the_whole_team(small_agent, rollout, assert_equal):
    """Also where it depends on the number of agents, though each learns as a team of one."""
    made = [
        small_agent(agents.happo, clip_range=rule, **FAST | {"num_epochs": 4})
        for rule in (clip_range.per_agent(0.03), 0.01, 0.03)
    ]
    for agent in made:
        agent.update(*rollout(agent))
    assert_equal(actor_weights(made[0]), actor_weights(made[1]))
    assert any(np.any(a != b) for a, b in zip(actor_weights(made[0]), actor_weights(made[2]), strict=True))


@pytest.mark.parametrize(("rate", "corrects"), [(1e-12, False), (0.03, True)])
def test_a2po_corrects_advantages_where_agents_have_changed(rate, corrects, small_agent, rollout):
    losses = []
    for corrects_advantage in (True, False):
        options = FAST | {"actor_learning_rate": rate, "order": "random", "corrects_advantage": corrects_advantage}
        agent = small_agent(agents.a2po, **options)
        losses.append(float(agent.update(*rollout(agent)).metrics["loss/policy"]))
    assert (abs(losses[0] - losses[1]) > 1e-5) == corrects


def test_a2pos_first_agent_has_a_share_of_the_clip_range(small_agent, rollout, assert_equal, differ):
    """Of three agents, 1/4 + 3/4 * 1/3 = 1/2."""
    after = []
    for clip, share in ((0.04, 0.25), (0.02, 1.0), (0.04, 1.0)):
        options = FAST | OWN | {"num_epochs": 4, "enforce": [restraints.early_stop(1e-9)], "clip_range": clip}
        agent = small_agent(agents.a2po, first_clip_share=share, others_clip=None, **options)
        agent.update(*rollout(agent))
        after.append(actor_weights(agent))
    assert_equal(after[0], after[1])
    assert differ(after[0], after[2])


def test_semi_greedy_turns_begin_with_the_largest_advantages(small_agent, rollout, experience):
    """An agent that is alone where rare, large rewards come has them."""
    options = FAST | OWN | {"enforce": [restraints.early_stop(1e-9)], "others_clip": None, "lambda_": 0.0}
    rare = tf.broadcast_to(tf.equal(tf.range(13) % 4, 1), [4, 13])
    for k in range(3):
        agent = small_agent(agents.a2po, **options)
        alive = tf.where(rare[..., None], tf.range(3) == k, experience.observation["alive"])
        observation = experience.observation | {"alive": alive}
        rows = experience._replace(reward=tf.where(rare, 100.0, 0.0), observation=observation)
        before, rows = actor_weights(agent), rollout(agent, rows)
        agent.update(*rows)
        assert movers(before, agent) == {k}


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        (agents.happo, {"order": "greedy"}, r"happo\.order: .*'greedy'"),
        (agents.happo, {"share_torso": True, "critic_input": "state"}, r"ppo: share_torso needs critic_input"),
        (agents.happo, {"critic_input": "obs"}, r"ppo\.critic_input: happo sees .*, not \"obs\""),
        (agents.a2po, {"others_clip": 1.5}, r"a2po\.others_clip: .*1\.5"),
        (agents.a2po, {"first_clip_share": 0.0}, r"a2po\.first_clip_share: .*0\.0"),
        (agents.coppo, {"inner_clip": -0.1}, r"coppo\.inner_clip: .*-0\.1"),
        (agents.hatrpo, SHARED, r"ppo\.parameter_sharing: hatrpo needs 'none', not 'all'"),
        (agents.hatrpo, {"clip_range": 0.2}, r"ppo\.clip_range: hatrpo needs None, not 0\.2"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(algorithm, options, message, small_agent):
    with pytest.raises(ValueError, match=rf"^{message}"):
        small_agent(algorithm, **options)
