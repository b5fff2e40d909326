"""Clip ranges: each rule's arithmetic, how gin puts them together, and what is refused."""

import math

import gin
import numpy as np
import pytest
import tensorflow as tf

from tf_marl import agents
from tf_marl.agents.learner import Rollout
from tf_marl.agents.ppo import clip_range, restraints
from tf_marl.agents.ppo.config import PPOConfig
from tf_marl.config import naming
from tf_marl.environments.matrix_game import MatrixGame

pytestmark = pytest.mark.usefixtures("clean_gin")

ALIVE = tf.constant([[True, True, True, True], [True, False, False, True], [False] * 4])  # 4, 2 and 0 of 4
ALPHA, EPSILON = 0.8, 0.2


def epsilons(rule, progress=0.0):
    """[3], for the teams of `ALIVE`, in a graph as in training."""
    epsilon = tf.function(rule)(ALIVE, tf.constant(progress))
    assert epsilon.dtype == tf.float32
    assert epsilon.shape in ([], [3, 1])
    return np.broadcast_to(epsilon, [3, 1])[:, 0]


def sqrt_rule(num_agents):
    return math.sqrt((1.0 + 4.0 * ALPHA**2) ** (1.0 / num_agents) - 1.0)


RULES = {
    "fixed": (lambda: clip_range.fixed(EPSILON), [EPSILON] * 3),
    "per_agent": (lambda: clip_range.per_agent(ALPHA), [ALPHA / 4] * 3),
    "per_living_agent": (lambda: clip_range.per_living_agent(ALPHA), [ALPHA / 4, ALPHA / 2, ALPHA]),
    "per_sqrt_agents": (lambda: clip_range.per_sqrt_agents(ALPHA), [sqrt_rule(4)] * 3),
    "per_sqrt_living_agents": (lambda: clip_range.per_sqrt_living_agents(ALPHA), [*map(sqrt_rule, (4, 2, 1))]),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_a_rule_gives_its_value_whatever_the_progress(name, progress):
    rule, expected = RULES[name]
    np.testing.assert_allclose(epsilons(rule(), progress), expected, rtol=1e-6)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("final", [0.0, 0.25, 1.0])
def test_linear_leads_any_rule_from_its_value_to_a_share_of_it(name, final):
    rule, full = RULES[name]
    linear = clip_range.linear(rule(), final)
    np.testing.assert_allclose(epsilons(linear, 0.0), full, rtol=1e-6)
    np.testing.assert_allclose(epsilons(linear, 0.5), np.multiply(full, (1.0 + final) / 2), rtol=1e-6)
    np.testing.assert_allclose(epsilons(linear, 1.0), np.multiply(full, final), rtol=1e-6)


def test_linear_ends_at_0_by_default_and_takes_a_number():
    linear = clip_range.linear(EPSILON)
    np.testing.assert_allclose(epsilons(linear, 0.75), EPSILON * 0.25, rtol=1e-6)
    assert not epsilons(linear, 1.0).any()


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5)])
def test_a_rule_broadcasts_against_ratios_of_any_batch(rng, shape):
    alive = tf.constant(rng.random(shape) < 0.5)
    epsilon = clip_range.per_living_agent(ALPHA)(alive, tf.constant(0.0))
    assert epsilon.shape == [*shape[:-1], 1]
    living = np.maximum(alive.numpy().sum(axis=-1, keepdims=True), 1)
    np.testing.assert_allclose(epsilon, ALPHA / living, rtol=1e-6)


def test_ratios_within_the_range_per_agent_keep_the_sum_of_their_distances_within_alpha():
    np.testing.assert_allclose(epsilons(clip_range.per_agent(ALPHA)) * ALIVE.shape[-1], ALPHA, rtol=1e-6)
    living = np.sum(ALIVE, axis=-1)[:2]
    np.testing.assert_allclose(epsilons(clip_range.per_living_agent(ALPHA))[:2] * living, ALPHA, rtol=1e-6)


@pytest.mark.parametrize("number", [EPSILON, 1])
def test_a_number_in_the_config_is_always_that(number):
    np.testing.assert_allclose(epsilons(PPOConfig(clip_range=number).clip_range, 0.5), [number] * 3, rtol=1e-6)


def test_the_config_has_a_rule_by_default_and_takes_one():
    np.testing.assert_allclose(epsilons(PPOConfig().clip_range), [0.2] * 3, rtol=1e-6)
    rule = clip_range.per_agent(ALPHA)
    assert PPOConfig(clip_range=rule).clip_range is rule


# Through gin


def ippo(*bindings):
    gin.parse_config(bindings)
    world = MatrixGame(np.zeros([2] * 4), num_envs=1)
    return agents.ippo(world.time_step_spec, world.action_spec, hidden=(4,))


@pytest.mark.parametrize(
    ("bindings", "expected"),  # halfway through training
    [
        (["ppo.clip_range = 0.2"], [0.2] * 3),
        (["ppo.clip_range = @fixed()", "fixed.epsilon = 0.2"], [0.2] * 3),
        (["ppo.clip_range = @per_agent()", "per_agent.alpha = 1.0"], [1.0 / 4] * 3),
        (["ppo.clip_range = @per_living_agent()", "per_living_agent.alpha = 1.0"], [1.0 / 4, 1.0 / 2, 1.0]),
        (["ppo.clip_range = @linear()", "linear.rule = 0.2"], [0.2 / 2] * 3),
        (
            ["ppo.clip_range = @linear()", "linear.rule = @per_agent()", "per_agent.alpha = 1.0"],
            [1.0 / 4 / 2] * 3,
        ),
        (
            ["ppo.clip_range = @linear()", "linear.rule = @fixed()", "fixed.epsilon = 0.2", "linear.final = 0.5"],
            [0.2 * 0.75] * 3,
        ),
    ],
)
def test_gin_puts_rules_together(bindings, expected):
    np.testing.assert_allclose(epsilons(ippo(*bindings).config.clip_range, 0.5), expected, rtol=1e-6)


# Refused


UNFIT = [-0.2, 0.0, "0.2", True, float("nan")]


@pytest.mark.parametrize("value", [*UNFIT, [0.2]])
def test_an_unfit_clip_range_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"ppo\.clip_range") as refusal, naming("ppo"):
        PPOConfig(clip_range=value)
    asked_for = "a positive number, a rule such as @per_agent(), or None for no clipping"
    assert str(refusal.value) == f"ppo.clip_range: should be {asked_for}, not {value!r}"


@pytest.mark.parametrize(
    ("rule", "setting"),
    [
        (clip_range.fixed, "fixed.epsilon"),
        (clip_range.per_agent, "per_agent.alpha"),
        (clip_range.per_living_agent, "per_living_agent.alpha"),
        (clip_range.linear, "linear.rule"),
    ],
)
@pytest.mark.parametrize("value", UNFIT)
def test_an_unfit_setting_of_a_rule_is_refused_by_name(rule, setting, value, complaint):
    line = complaint(rule, **{setting.split(".")[1]: value})
    assert line.startswith(f"{setting}: ")
    assert line.endswith(f", not {value!r}")


@pytest.mark.parametrize(
    ("rule", "setting"),
    [
        ("fixed", "epsilon"),
        ("per_agent", "alpha"),
        ("per_living_agent", "alpha"),
        ("linear", "rule"),
    ],
)
def test_a_missing_setting_of_a_rule_is_named(rule, setting, complaint):
    assert complaint(ippo, f"ppo.clip_range = @{rule}()") == f"{rule}.{setting}: missing required argument"


@pytest.mark.parametrize("final", [-0.1, 1.5, "0", True])
def test_an_unfit_end_of_linear_is_refused_by_name(final, complaint):
    assert complaint(clip_range.linear, rule=EPSILON, final=final).startswith("linear.final: ")


def test_an_unknown_setting_of_a_rule_is_refused_by_name(complaint):
    assert complaint(clip_range.fixed, epsilon=EPSILON, nonsense=1) == "fixed.nonsense: unexpected keyword argument"


@pytest.mark.parametrize(
    ("bindings", "says"),
    [
        (["ppo.clip_range = -1"], "ppo.clip_range: should be a positive number"),
        (["ppo.clip_range = 'wide'"], "ppo.clip_range: should be a positive number"),
        (["ppo.clip_range = @per_agent()", "per_agent.alpha = -1.0"], "per_agent.alpha: "),
        (["ppo.clip_range = @linear()", "linear.rule = True"], "linear.rule: should be a positive number"),
    ],
)
def test_what_gin_sets_and_does_not_fit_is_refused_by_name(bindings, says, complaint):
    assert complaint(ippo, *bindings).startswith(says)


def test_none_is_no_clipping(small_agent, experience, split, weights, assert_equal):
    free, wide = (
        small_agent(clip_range=None, actor_learning_rate=0.03),
        small_agent(clip_range=1e6, actor_learning_rate=0.03),
    )
    metrics, of_wide = (agent.learn(Rollout(*split(experience))) for agent in (free, wide))
    assert_equal(weights(free), weights(wide))
    assert metrics["trust_region/clip_fraction"] == 0.0
    lacking = {*(f"trust_region/{name}" for name in ("epsilon", "clip_alpha", "alpha")), "certificate/lower_bound_clip"}
    assert of_wide.keys() - metrics.keys() == lacking
    assert_equal(metrics, {name: of_wide[name] for name in metrics})


def test_adapt_epsilon_needs_a_clip_range_to_adapt():
    with pytest.raises(ValueError, match="adapt_epsilon needs a clip_range"):
        PPOConfig(clip_range=None, enforce=[restraints.adapt_epsilon(0.3)])


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("num_agents", [1, 2, 10, 27])
def test_per_sqrt_agents_is_where_ratios_in_range_bound_the_joint_tv_by_alpha(alpha, num_agents):
    alive = tf.ones([num_agents], tf.bool)
    epsilon = float(clip_range.per_sqrt_agents(alpha)(alive, tf.constant(0.0)))
    assert 0.5 * math.sqrt((1.0 + epsilon**2) ** num_agents - 1.0) == pytest.approx(alpha, rel=1e-4)
    assert epsilon >= alpha / num_agents  # what Theorem 3 asks for
    assert epsilon == pytest.approx(2.0 * alpha / math.sqrt(num_agents), rel=2.0 * alpha**2)
