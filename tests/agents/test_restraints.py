"""Rules that hold the trust region: what each makes of an update, how they go together, and how gin writes them."""

import functools
import itertools

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tf_marl import agents
from tf_marl.agents.ppo import clip_range, restraints
from tf_marl.compile import graph

ALPHA = 0.05  # which a fast update exceeds
HUGE = 1e3  # which none does
# From policies near uniform, the largest joint total variation is often one agent's.
FAST = {"actor_learning_rate": 0.03, "num_epochs": 3, "actor_gain": 3.0}
RECURRENT = {"rnn": "gru", "rnn_units": 8}
QUANTITIES = ["sum_bound", "product_bound", "joint_tv"]


pytestmark = pytest.mark.usefixtures("eagerly")  # many agents learn a little here, and tracing takes longer than that


def actor_weights(agent):
    return [weight.numpy() for weight in agent.actor_weights]


def remembered(agent, folder):
    """All that an update changes, by name: weights, and what the optimisers and the agent itself keep."""
    reader = tf.train.load_checkpoint(tf.train.Checkpoint(agent=agent).write(str(folder / "agent")))
    names = reader.get_variable_to_shape_map().keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return {name: reader.get_tensor(name) for name in names}


def largest(agent, rows):
    """Of each quantity, from the policy that collected a rollout to the present one, by enumeration."""
    old, new = (scipy.special.softmax(np.float64(x), axis=-1) for x in (rows.policy_info["logits"], agent.logits(rows)))
    new = np.where(agent.learning_mask(rows)[..., None], new, old)
    tv = 0.5 * np.abs(new - old).sum(axis=-1)
    joint_old, joint_new = (np.einsum("bti,btj,btk->btijk", *np.moveaxis(p, 2, 0)) for p in (old, new))
    values = {
        "lower_bound": tv.max(axis=-1),
        "sum_bound": tv.sum(axis=-1),
        "product_bound": 1.0 - np.prod(1.0 - tv, axis=-1),
        "joint_tv": 0.5 * np.abs(joint_new - joint_old).sum(axis=(-3, -2, -1)),
    }
    return {name: value.max() for name, value in values.items()}


# Backtracking


def backtracked(make, rollout, quantity="product_bound", alpha=ALPHA):
    """(agent, the same without the rule, its actor's weights before, the rollout of both, the metrics of both)."""
    agent, plain = make(enforce=[restraints.backtrack(alpha, quantity)]), make()
    before, rows = actor_weights(agent), rollout(agent)
    metrics, plain_metrics = (either.update(*rows).metrics for either in (agent, plain))
    return agent, plain, before, rows[0], metrics, plain_metrics


VARIANTS = {
    "mappo": {"algorithm": agents.mappo},
    "jr_ppo": {"algorithm": agents.jr_ppo},
    "shared torso": {"share_torso": True},
    "own weights": {"parameter_sharing": "none"},
    "happo": {"algorithm": agents.happo},
    "a2po": {"algorithm": agents.a2po},
    "the critic first": {"order": "critic_first", "num_critic_epochs": 1},
    "gru": RECURRENT,
    "gru, shared torso": RECURRENT | {"share_torso": True, "sequence_length": 4},
    "gru, jr_ppo": RECURRENT | {"algorithm": agents.jr_ppo},
}


@pytest.mark.parametrize(
    ("quantity", "options"),
    [pytest.param(quantity, {}, id=f"ippo, {quantity}") for quantity in QUANTITIES]
    + [
        pytest.param("product_bound", options, id=name, marks=[pytest.mark.slow] * (name in ("gru", "gru, jr_ppo")))
        for name, options in VARIANTS.items()
    ],
)
def test_backtrack_goes_back_on_a_line_until_every_state_is_within_alpha(
    quantity,
    options,
    small_agent,
    rollout,
    tmp_path,
    assert_equal,
):
    make = functools.partial(small_agent, **FAST | options)
    agent, plain, before, rows, metrics, plain_metrics = backtracked(make, rollout, quantity)
    assert largest(plain, rows)[quantity] > 1.5 * ALPHA
    assert 0.5 * ALPHA < largest(agent, rows)[quantity] <= ALPHA * (1 + 1e-5)
    share = metrics.pop("trust_region/step_share")
    assert 0.0 < share < 1.0
    assert metrics.pop("trust_region/backtracks") >= 1.0
    for old, new, between in zip(before, actor_weights(plain), actor_weights(agent), strict=True):
        np.testing.assert_allclose(between, old + share * (new - old), atol=1e-6)
    assert_equal({name: metrics[name] for name in plain_metrics}, plain_metrics)
    # The optimisers took the same steps, and so did the critic; only the actor's weights differ.
    with_rule, without = (remembered(either, tmp_path) for either in (agent, plain))
    assert with_rule.keys() == without.keys()
    assert any("OPTIMIZER_SLOT" in name for name in without)
    others = [name for name in without if np.any(with_rule[name] != without[name])]
    assert len(others) == len(before)
    assert not any("OPTIMIZER_SLOT" in name or "iter" in name or "epsilon_scale" in name for name in others)


def test_backtrack_holds_the_bounds_below_the_one_it_measures(small_agent, rollout):
    agent, _, _, rows, _, _ = backtracked(functools.partial(small_agent, **FAST), rollout, "sum_bound")
    held = largest(agent, rows)
    assert held["joint_tv"] < held["product_bound"] < held["sum_bound"] <= ALPHA * (1 + 1e-5)


def test_backtrack_leaves_a_small_enough_update_alone(small_agent, rollout, assert_equal, differ):
    agent, plain, before, _, metrics, _ = backtracked(functools.partial(small_agent, **FAST), rollout, alpha=HUGE)
    assert metrics["trust_region/step_share"] == 1.0
    assert metrics["trust_region/backtracks"] == 0.0
    assert_equal(actor_weights(agent), actor_weights(plain))
    assert differ(actor_weights(agent), before)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("cause", ["a huge step", "an overflow", "rewards that are not numbers"])
def test_backtrack_takes_a_ruined_update_back_whole(cause, quantity, small_agent, rollout, experience, assert_equal):
    options = {"a huge step": {"actor_learning_rate": 1e30}, "an overflow": {"actor_learning_rate": 3e38}}
    agent = small_agent(enforce=[restraints.backtrack(ALPHA, quantity)], **options.get(cause, {}))
    if cause == "rewards that are not numbers":
        experience = experience._replace(reward=experience.reward * float("nan"))
    before = actor_weights(agent)
    rows = rollout(agent, experience)
    metrics = agent.update(*rows).metrics
    assert metrics["trust_region/step_share"] == 0.0
    assert_equal(actor_weights(agent), before)
    assert largest(agent, rows[0])[quantity] == 0.0


@pytest.mark.parametrize("policy", ["another's", "not a number"])
def test_backtrack_ends_where_not_even_the_old_weights_are_within_alpha(policy, small_agent, rollout, assert_equal):
    agent = small_agent(enforce=[restraints.backtrack(ALPHA)], **FAST)
    rows, final = rollout(agent)
    if policy == "another's":
        shape = rows.policy_info["logits"].shape
        rows = rows._replace(policy_info={"logits": rows.policy_info["logits"] + tf.range(float(shape[-1]))})
    else:
        agent.actor_weights[1].assign(agent.actor_weights[1] * float("nan"))
    before = actor_weights(agent)
    assert agent.update(rows, final).metrics["trust_region/step_share"] == 0.0
    assert_equal(actor_weights(agent), before)


def test_a_compiled_update_is_backtracked_as_well(small_agent, rollout):
    make = functools.partial(small_agent, enforce=[restraints.early_stop(2 * ALPHA), restraints.backtrack(ALPHA)])
    agent, compiled = make(**FAST), make(**FAST)
    rows, final = rollout(agent)
    expected = agent.update(rows, final).metrics
    tf.config.run_functions_eagerly(False)
    actual = graph.function(lambda: compiled.update(rows, final).metrics)()
    assert actual.keys() == expected.keys()
    assert 0.0 < actual["trust_region/step_share"] < 1.0
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    assert largest(compiled, rows)["product_bound"] <= ALPHA * (1 + 1e-5)


# Early stopping


def watched(agent, rows):
    """The update, and the largest product bound before each epoch and after the last."""
    update = agent.update(*rows, watch=lambda _, change: {"epochs": largest_product(change)})
    return update, update.history["epochs"].numpy()


def largest_product(change):
    old, new = (tf.nn.softmax(team) for team in change.teams())
    return tf.reduce_max(1.0 - tf.reduce_prod(1.0 - 0.5 * tf.reduce_sum(tf.abs(new - old), axis=-1), axis=-1))


@pytest.mark.parametrize(
    "options", [{}, {"algorithm": agents.jr_ppo}, {"share_torso": True}], ids=["ippo", "jr_ppo", "shared torso"]
)
def test_early_stop_ends_after_the_first_epoch_above_alpha(options, small_agent, rollout, assert_equal):
    make = functools.partial(small_agent, **FAST | {"num_epochs": 5, "actor_learning_rate": 0.005} | options)
    plain = make()
    rows = rollout(plain)
    _, tv = watched(plain, rows)
    assert tv[1] < tv[2]
    agent = make(enforce=[restraints.early_stop(float(tv[1] + tv[2]) / 2)])
    metrics = agent.update(*rows).metrics
    assert metrics["trust_region/epochs"] == 2.0
    # As if it had been meant to be two, and so are the means of losses.
    twin = make(num_epochs=2)
    expected = twin.update(*rows).metrics
    assert_equal({name: metrics[name] for name in expected}, expected)
    assert_equal(actor_weights(agent), actor_weights(twin))
    assert_equal(agent.critic.get_weights(), twin.critic.get_weights())


def test_early_stop_never_comes_with_a_huge_alpha(small_agent, rollout, tmp_path, assert_equal):
    agent, plain = small_agent(enforce=[restraints.early_stop(HUGE)], **FAST), small_agent(**FAST)
    rows = rollout(plain)
    metrics, expected = agent.update(*rows).metrics, plain.update(*rows).metrics
    assert expected["trust_region/epochs"] == FAST["num_epochs"]
    assert_equal({name: metrics[name] for name in expected}, expected)
    assert_equal(remembered(agent, tmp_path), remembered(plain, tmp_path))


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_early_stop_goes_by_the_quantity_it_is_given(quantity, small_agent, rollout):
    once = small_agent(**FAST | {"num_epochs": 1})
    rows = rollout(once)
    once.update(*rows)
    sizes = largest(once, rows[0])
    assert all(above > 1.01 * below for below, above in itertools.pairwise(sorted(sizes.values())))
    tv = sizes[quantity]
    for alpha, epochs in ((0.999 * tv, 1.0), (1.001 * tv, 2.0)):
        agent = small_agent(enforce=[restraints.early_stop(float(alpha), quantity)], **FAST | {"num_epochs": 2})
        assert agent.update(*rows).metrics["trust_region/epochs"] == epochs


def test_early_stop_comes_where_the_policy_is_not_a_number(small_agent, rollout, experience):
    agent = small_agent(enforce=[restraints.early_stop(HUGE)], **FAST)
    rows = rollout(agent, experience._replace(reward=experience.reward * float("nan")))
    assert agent.update(*rows).metrics["trust_region/epochs"] == 1.0


def test_early_stop_leaves_a_critic_that_learns_first_all_its_epochs(small_agent, rollout, assert_equal, differ):
    make = functools.partial(small_agent, order="critic_first", num_critic_epochs=3, **FAST)
    agent, plain = make(enforce=[restraints.early_stop(1e-6)]), make()
    rows = rollout(agent)
    metrics, expected = (either.update(*rows).metrics for either in (agent, plain))
    assert metrics["trust_region/epochs"] == 1.0
    assert metrics["loss/value"] == expected["loss/value"]
    assert_equal(agent.critic.get_weights(), plain.critic.get_weights())
    assert differ(actor_weights(agent), actor_weights(plain))


# Another clip range


def scale_after(agent, rows):
    scale = agent.update(*rows).metrics["trust_region/epsilon_scale"]
    assert scale == agent.epsilon_scale
    return scale


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("times", [0.7, 1.8], ids=["narrows", "widens"])
def test_adapt_epsilon_goes_by_the_root_of_how_far_it_is_off(times, quantity, small_agent, rollout, assert_equal):
    plain = small_agent(**FAST)
    rows = rollout(plain)
    plain.update(*rows)
    alpha = times * largest(plain, rows[0])[quantity]
    agent = small_agent(enforce=[restraints.adapt_epsilon(float(alpha), quantity)], **FAST)
    np.testing.assert_allclose(scale_after(agent, rows), times**0.5, rtol=1e-4)
    # This update was with the range as it was, so the rule made no difference to it.
    assert_equal(actor_weights(agent), actor_weights(plain))


@pytest.mark.parametrize(("alpha", "factor", "limit"), [(1e-6, 1 / 1.5, 0.01), (HUGE, 1.5, 10.0)])
def test_adapt_epsilon_takes_steps_of_limited_size_within_limits(alpha, factor, limit, small_agent, rollout):
    agent = small_agent(enforce=[restraints.adapt_epsilon(alpha)], **FAST)
    rows = rollout(agent)
    np.testing.assert_allclose(scale_after(agent, rows), factor, rtol=1e-6)
    np.testing.assert_allclose(scale_after(agent, rows), factor**2, rtol=1e-6)
    agent.epsilon_scale.assign(limit / factor**0.5)
    np.testing.assert_allclose(scale_after(agent, rows), limit, rtol=1e-6)
    np.testing.assert_allclose(scale_after(agent, rows), limit, rtol=1e-6)


def test_adapt_epsilon_narrows_where_the_policy_is_not_a_number(small_agent, rollout, experience):
    agent = small_agent(enforce=[restraints.adapt_epsilon(HUGE)], **FAST)
    rows = rollout(agent, experience._replace(reward=experience.reward * float("nan")))
    np.testing.assert_allclose(scale_after(agent, rows), 1 / 1.5, rtol=1e-6)


@pytest.mark.parametrize(
    "rule", [0.3, clip_range.per_living_agent(0.6), clip_range.linear(clip_range.per_agent(0.6))], ids=["0", "1", "2"]
)
def test_the_scale_is_of_whatever_the_clip_range_says(rule, small_agent, experience, assert_equal):
    agent, alive = small_agent(clip_range=rule), experience.observation["alive"]
    agent.progress.assign(0.5)
    usual = agent.config.clip_range(alive, agent.progress)
    assert_equal(agent.epsilon(alive), usual)
    agent.epsilon_scale.assign(0.25)
    np.testing.assert_allclose(agent.epsilon(alive), 0.25 * usual, rtol=1e-6)


def test_a_scaled_clip_range_is_what_training_clips_by(small_agent, rollout):
    narrow, scaled, plain = (small_agent(clip_range=epsilon, **FAST) for epsilon in (0.05, 0.2, 0.2))
    scaled.epsilon_scale.assign(0.25)
    for agent in (narrow, scaled, plain):
        agent.update(*rollout(agent))
    for weight, other in zip(actor_weights(scaled), actor_weights(narrow), strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-5)
    assert np.abs(actor_weights(plain)[1] - actor_weights(narrow)[1]).max() > 1e-3


def test_the_scale_is_in_a_checkpoint_of_the_agent(small_agent, rollout, tmp_path):
    make = functools.partial(small_agent, enforce=[restraints.adapt_epsilon(1e-6)], **FAST)
    agent, restored = make(), make()
    scale = scale_after(agent, rollout(agent))
    path = tf.train.Checkpoint(agent=agent).write(str(tmp_path / "agent"))
    assert restored.epsilon_scale == 1.0
    tf.train.Checkpoint(agent=restored).read(path)
    assert restored.epsilon_scale == scale != 1.0


# Together


def test_rules_go_together(small_agent, rollout):
    rules = [restraints.early_stop(2 * ALPHA), restraints.adapt_epsilon(ALPHA), restraints.backtrack(ALPHA)]
    agent = small_agent(enforce=rules, **FAST | {"num_epochs": 10})
    rows = rollout(agent)
    metrics = agent.update(*rows).metrics
    assert 1.0 <= metrics["trust_region/epochs"] < 10.0
    assert 0.0 < metrics["trust_region/step_share"] < 1.0
    assert metrics["trust_region/epsilon_scale"] < 1.0
    assert metrics["trust_region/alpha"] == np.float32(ALPHA)  # the least of theirs
    assert largest(agent, rows[0])["product_bound"] <= ALPHA * (1 + 1e-5)


def test_rules_settle_in_their_order(small_agent, rollout):
    """What adapts the clip range sees the update before another went back on it, or after."""
    adapt, back = restraints.adapt_epsilon(1.1 * ALPHA), restraints.backtrack(ALPHA)
    for rules, widens in (([adapt, back], False), ([back, adapt], True)):
        agent = small_agent(enforce=rules, **FAST)
        assert (scale_after(agent, rollout(agent)) > 1.0) == widens


def test_the_first_of_two_early_stops_ends_the_epochs(small_agent, rollout):
    for alphas in ((1e-6, HUGE), (HUGE, 1e-6)):
        agent = small_agent(enforce=[restraints.early_stop(alpha) for alpha in alphas], **FAST)
        assert agent.update(*rollout(agent)).metrics["trust_region/epochs"] == 1.0


def test_a_rule_of_its_own_does_nothing(small_agent, rollout, tmp_path, assert_equal):
    agent, plain = small_agent(enforce=[restraints.Restraint(1e-6, "joint_tv")], **FAST), small_agent(**FAST)
    rows = rollout(plain)
    agent.update(*rows)
    plain.update(*rows)
    assert_equal(remembered(agent, tmp_path), remembered(plain, tmp_path))


# Watched


def test_a_watch_sees_the_policy_before_each_epoch_and_after_the_update(small_agent, rollout, tmp_path, assert_equal):
    agent, unwatched = small_agent(**FAST), small_agent(**FAST)
    rows = rollout(agent)
    update, tv = watched(agent, rows)
    assert tv.shape == (FAST["num_epochs"] + 1,)
    assert tv[0] == 0.0
    assert (tv[1:] > 0.0).all()
    np.testing.assert_allclose(tv[-1], largest(agent, rows[0])["product_bound"], rtol=1e-4)
    shorter = small_agent(**FAST | {"num_epochs": 2})
    shorter.update(*rows)
    np.testing.assert_allclose(tv[2], largest(shorter, rows[0])["product_bound"], rtol=1e-4)
    # And it makes no difference.
    expected = unwatched.update(*rows)
    assert expected.history == ()
    assert_equal(update.metrics, expected.metrics)
    assert_equal(remembered(agent, tmp_path), remembered(unwatched, tmp_path))


def test_the_last_row_watched_is_what_the_rules_left(small_agent, rollout, assert_equal):
    plain, agent = small_agent(**FAST), small_agent(enforce=[restraints.backtrack(ALPHA)], **FAST)
    rows = rollout(plain)
    (_, free), (_, held) = watched(plain, rows), watched(agent, rows)
    assert_equal(held[:-1], free[:-1])
    assert 0.0 < held[-1] <= ALPHA * (1 + 1e-5) < free[-1]


def test_what_is_not_reached_after_an_early_stop_is_not_a_number(small_agent, rollout):
    rules = [restraints.early_stop(1e-6), restraints.backtrack(ALPHA)]
    agent = small_agent(enforce=rules, **FAST)
    update, tv = watched(agent, rollout(agent))
    assert update.metrics["trust_region/epochs"] == 1.0
    assert tv[0] == 0.0 < tv[1] <= ALPHA * (1 + 1e-5)
    assert np.isnan(tv[2:]).all()
    assert len(tv) == FAST["num_epochs"] + 1


def test_a_watch_is_told_the_epoch(small_agent, rollout):
    agent = small_agent(enforce=[restraints.backtrack(ALPHA)], order="critic_first", num_critic_epochs=7, **FAST)
    told = agent.update(*rollout(agent), watch=lambda epochs, _: tf.cast(epochs, tf.float32)).history
    np.testing.assert_array_equal(told, np.arange(FAST["num_epochs"] + 1))
