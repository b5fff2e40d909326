"""TRPO's step against a Fisher matrix that is written out, and limits against enumeration."""

import functools

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tf_marl import agents
from tf_marl.agents.ppo.natural_gradient import largest_joint_tv, mean_joint_kl, mean_kl
from tf_marl.agents.ppo.trust_region import natural_gradient
from tf_marl.ops import categorical

RECURRENT = {"rnn": "gru", "rnn_units": 4}
DELTA, ALPHA = 0.003, 0.05
# Second derivatives of a GRU, operation by operation, take a while.
NETWORKS = pytest.mark.parametrize(
    "options", [pytest.param({}, id="dense"), pytest.param(RECURRENT, id="gru", marks=pytest.mark.slow)]
)


pytestmark = pytest.mark.usefixtures("eagerly")  # many agents learn a little here, and tracing takes longer than that


def flat(arrays):
    return np.concatenate([np.ravel(array) for array in arrays]).astype(np.float64)


def weights(agent):
    return flat(agent.actor.trainable_variables)


def probabilities(agent, rows):
    """Old and new ones of the agents, [B, T, N, A]; equal where a decision does not count."""
    old, new = (
        scipy.special.softmax(np.float64(logits), axis=-1)
        for logits in (rows.policy_info["logits"], agent.logits(rows))
    )
    learns = agent.learning_mask(rows).numpy()
    return old, np.where(learns[..., None], new, old), learns


def joint(p):
    return np.einsum("bti,btj,btk->btijk", *np.moveaxis(p, 2, 0)).reshape(*p.shape[:2], -1)


def mean_kls(agent, rows):
    """The mean KL divergence over decisions, and that of the joint policy over states, by enumeration."""
    old, new, learns = probabilities(agent, rows)
    of_agents = scipy.special.rel_entr(old, new).sum(axis=-1)[learns].mean()
    return of_agents, scipy.special.rel_entr(joint(old), joint(new)).sum(axis=-1)[learns.any(axis=-1)].mean()


def largest_tv(agent, rows):
    old, new, _ = probabilities(agent, rows)
    return 0.5 * np.abs(joint(new) - joint(old)).sum(axis=-1).max()


@NETWORKS
@pytest.mark.parametrize(("limit", "is_joint"), [(mean_kl, False), (mean_joint_kl, True)])
def test_the_step_is_the_natural_gradient_scaled_to_the_limit(options, limit, is_joint, small_agent, rollout):
    """x = (F + damping)^-1 g and sqrt(2 delta / x'(F + damping) x), with F summed over decisions from Jacobians."""
    delta, damping = 1e-6, 0.01
    rules = natural_gradient(limit=limit(delta), num_products=80, damping=damping, least_improvement=0.0)
    agent = small_agent(agents.ps_trpo, step=rules, hidden=(3,), actor_gain=1.0, **options)
    (rows, final), variables = rollout(agent), agent.actor.trainable_variables
    batch = agent.batch(rows, final)
    learns = batch.learns.numpy()
    with tf.GradientTape(persistent=True) as tape:
        team, *_ = agent.networks(batch.observation, batch.step_type, batch.state)
        logits = tf.boolean_mask(team.distribution.logits_parameter(), learns)
        taken = tf.boolean_mask(batch.action, learns)
        ratio = tf.exp(categorical.distribution(logits).log_prob(taken) - tf.boolean_mask(batch.old_log_prob, learns))
        surrogate = tf.reduce_mean(ratio * tf.boolean_mask(batch.advantage, learns))
    gradient = flat(tape.gradient(surrogate, variables))
    jacobians = tape.jacobian(logits, variables, experimental_use_pfor=False)
    jacobian = np.concatenate([np.reshape(j, [*logits.shape, -1]) for j in jacobians], axis=-1).astype(np.float64)
    p = tf.nn.softmax(logits).numpy().astype(np.float64)
    count = learns.any(axis=-1).sum() if is_joint else learns.sum()
    centred = jacobian - np.einsum("da,dap->dp", p, jacobian)[:, None]
    damped = np.einsum("da,dap,daq->pq", p, centred, centred) / count + damping * np.eye(len(gradient))
    direction = np.linalg.solve(damped, gradient)
    expected = np.sqrt(2.0 * delta / (direction @ damped @ direction)) * direction

    before = weights(agent)
    metrics = agent.update(rows, final).metrics
    share = metrics["trust_region/line_search_share"]
    assert share > 0.5
    step = (weights(agent) - before) / share
    assert np.linalg.norm(step - expected) < 0.01 * np.linalg.norm(expected)


LIMITS = {
    "agents' KL": (mean_kl(DELTA), lambda *seen: mean_kls(*seen)[0], DELTA),
    "joint KL": (mean_joint_kl(DELTA), lambda *seen: mean_kls(*seen)[1], DELTA),
    "joint TV": (largest_joint_tv(ALPHA, "joint_tv"), largest_tv, ALPHA),
    "Hellinger": (largest_joint_tv(ALPHA), largest_tv, ALPHA),
}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("algorithm", [agents.trpo, agents.itrpo, agents.ps_trpo])
def test_a_step_raises_the_surrogate_within_its_limit(name, algorithm, small_agent, rollout):
    limit, measure, largest = LIMITS[name]
    agent = small_agent(algorithm, step=natural_gradient(limit=limit), actor_gain=1.0)
    (rows, final), before = rollout(agent), weights(agent)
    metrics = agent.update(rows, final).metrics
    assert metrics["loss/policy"] < -0.01
    assert metrics["trust_region/step_gain"] >= 0.1
    measured = measure(agent, rows)
    assert 0.2 * largest < measured <= largest * (1 + 1e-4)
    if name != "Hellinger":  # which measures a bound
        np.testing.assert_allclose(metrics["trust_region/step_measure"], measured, rtol=1e-3)
    assert np.any(weights(agent) != before)


@NETWORKS
def test_hatrpo_holds_the_kl_divergence_of_every_agent(options, small_agent, rollout):
    agent = small_agent(agents.hatrpo, step=natural_gradient(limit=mean_kl(DELTA)), actor_gain=1.0, **options)
    rows, final = rollout(agent)
    metrics = agent.update(rows, final).metrics
    old, new, learns = probabilities(agent, rows)
    kl = scipy.special.rel_entr(old, new).sum(axis=-1)
    for k in range(3):
        assert 0.0 < kl[..., k][learns[..., k]].mean() <= DELTA * (1 + 1e-4)
    change = agent.policy_change(rows)
    log_ratio = tf.reduce_sum(tf.where(change.learns, tf.subtract(*change.log_probs()), 0.0), axis=-1)
    expected = np.exp(log_ratio.numpy())[change.states()].mean()
    np.testing.assert_allclose(metrics["trust_region/joint_ratio_mean"], expected, rtol=1e-5)


def test_a_step_that_is_far_too_long_is_shortened(small_agent, rollout):
    agent = small_agent(agents.itrpo, step=natural_gradient(limit=mean_kl(50.0)), actor_gain=1.0)
    metrics = agent.update(*rollout(agent)).metrics
    assert metrics["trust_region/line_search_tries"] > 1.0
    assert metrics["loss/policy"] < 0.0


@pytest.mark.parametrize("algorithm", [agents.trpo, agents.itrpo, agents.hatrpo])
def test_a_step_that_helps_nobody_is_not_taken(algorithm, small_agent, rollout, experience):
    agent = small_agent(algorithm)
    before = weights(agent)
    rows = rollout(agent, experience._replace(reward=experience.reward * float("nan")))
    metrics = agent.update(*rows).metrics
    np.testing.assert_array_equal(weights(agent), before)
    assert metrics["trust_region/line_search_share"] == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (functools.partial(natural_gradient, limit=0.01), r"natural_gradient\.limit: should be a limit .*, not 0\.01"),
        (functools.partial(natural_gradient, damping=-1.0), r"natural_gradient\.damping: .*-1\.0"),
        (functools.partial(natural_gradient, products=3), r"natural_gradient\.products"),
        (functools.partial(mean_kl, delta=-0.1), r"mean_kl\.delta: .*-0\.1"),
        (functools.partial(largest_joint_tv, alpha=0.2, quantity="tv"), r"largest_joint_tv\.quantity: .*'tv'"),
    ],
)
def test_an_unfit_setting_is_named(make, message):
    with pytest.raises(ValueError, match=rf"^{message}"):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_range": 0.2}, r"ppo\.clip_range: trpo needs None, not 0\.2"),
        ({"entropy_coefficient": 0.01}, r"ppo\.entropy_coefficient: trpo needs 0\.0, not 0\.01"),
    ],
)
def test_a_setting_without_effect_is_refused(options, message, small_agent):
    with pytest.raises(ValueError, match=rf"^{message}"):
        small_agent(agents.trpo, **options)
