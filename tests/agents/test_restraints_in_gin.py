"""Restraints as gin puts them together, and what it is told where they do not fit."""

import gin
import numpy as np
import pytest

from tf_marl import agents
from tf_marl.agents.ppo import restraints
from tf_marl.agents.ppo.config import PPOConfig
from tf_marl.environments.matrix_game import MatrixGame

ALPHA = 0.05
QUANTITIES = ["sum_bound", "product_bound", "joint_tv"]


def ippo(*bindings):
    gin.parse_config(bindings)
    world = MatrixGame(np.zeros([2] * 4), num_envs=1)
    return agents.ippo(world.time_step_spec, world.action_spec, hidden=(4,))


@pytest.mark.usefixtures("clean_gin")
def test_gin_puts_rules_together():
    agent = ippo(
        "ppo.enforce = [@early_stop(), @backtrack(), @adapt_epsilon()]",
        "early_stop.alpha = 0.3",
        "backtrack.alpha = 0.2",
        "backtrack.quantity = 'joint_tv'",
        "adapt_epsilon.alpha = 0.1",
        "adapt_epsilon.quantity = 'sum_bound'",
    )
    rules = agent.config.enforce
    assert [type(rule) for rule in rules] == [restraints.EarlyStop, restraints.Backtrack, restraints.AdaptEpsilon]
    assert [rule.alpha for rule in rules] == [0.3, 0.2, 0.1]
    assert [rule.quantity for rule in rules] == ["product_bound", "joint_tv", "sum_bound"]


def test_nothing_is_enforced_by_default():
    assert PPOConfig().enforce == ()


RULES = ["early_stop", "backtrack", "adapt_epsilon"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("alpha", [-0.2, 0.0, "0.2", True, float("nan"), float("inf"), None])
def test_an_unfit_alpha_is_refused_by_name(rule, alpha, complaint):
    line = complaint(getattr(restraints, rule), alpha=alpha)
    assert line.startswith(f"{rule}.alpha: ")
    assert line.endswith(f", not {alpha!r}")


@pytest.mark.parametrize("rule", RULES)
def test_an_unknown_quantity_is_refused_by_name_and_the_known_ones_told(rule, complaint):
    line = complaint(getattr(restraints, rule), alpha=ALPHA, quantity="tv")
    assert line.startswith(f"{rule}.quantity: ")
    assert all(quantity in line for quantity in [*QUANTITIES, "not 'tv'"])


@pytest.mark.parametrize(
    ("bindings", "says"),
    [
        (["ppo.enforce = [@backtrack()]"], "backtrack.alpha: missing required argument"),
        (["ppo.enforce = [@backtrack()]", "backtrack.alpha = -1.0"], "backtrack.alpha: "),
        (["ppo.enforce = [@early_stop()]", "early_stop.alpha = 'small'"], "early_stop.alpha: "),
        (["ppo.enforce = [0.3]"], "ppo.enforce.0: should hold restraints such as @backtrack(), not 0.3"),
        (["ppo.enforce = [@backtrack]"], "ppo.enforce.0: should hold restraints such as @backtrack(), not "),
        (["ppo.enforce = 0.3"], "ppo.enforce: "),
        (["ppo.enforce = 'backtrack'"], "ppo.enforce: "),
        (["ppo.enforce = @backtrack()", "backtrack.alpha = 0.3"], "ppo.enforce: "),
    ],
)
@pytest.mark.usefixtures("clean_gin")
def test_what_gin_sets_and_does_not_fit_is_refused_by_name(bindings, says, complaint):
    assert complaint(ippo, *bindings).startswith(says)
