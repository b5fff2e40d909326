"""Algorithms whose actor is moved by another step than clipped epochs: one agent after another, or by TRPO's step.

    algorithm   step                    weights    critic sees     value, advantage   limit, unless set
    HAPPO       turns of epochs         own        the state       the team's         the clip range
    A2PO        turns of epochs         shared     the state       each agent's       the clip range
    HATRPO      turns of TRPO's step    own        the state       the team's         mean KL of each agent
    TRPO        TRPO's, joint ratio     shared     the state       the team's         largest joint TV
    ITRPO       TRPO's                  shared     its agent's     each agent's       mean KL of an agent
    PS-TRPO     TRPO's                  shared     the state       each agent's       mean KL of the joint policy

The turns are explained in `turns.py`, TRPO's step and its limits in `natural_gradient.py`. All other settings are in
the gin scope `ppo`. TRPO's step clips nothing and adds no entropy bonus, so settings of these are refused.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import gin
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.ppo import natural_gradient as trpos
from tf_marl.agents.ppo.agent import PPOAgent
from tf_marl.agents.ppo.epochs import clipped_epochs
from tf_marl.agents.ppo.natural_gradient import LargestJointTV, Limit, MeanKL, StepRules
from tf_marl.agents.ppo.turns import Order, TurnRules, in_turns
from tf_marl.agents.ppo.variants import GIVEN_IN_CODE, Algorithm, ppo
from tf_marl.config import fields, naming
from tf_marl.ops import surrogate

_OF_TRPO: dict[str, Any] = {"clip_range": None, "entropy_coefficient": 0.0}
_OWN_WEIGHTS: dict[str, Any] = {"parameter_sharing": "none"}


@gin.configurable
def natural_gradient(**settings: Any) -> StepRules:
    """Returns how TRPO's step is computed.

    Args:
        **settings: fields of `StepRules`.
    Raises:
        ValueError: a setting is unknown or its value does not fit; the message names it.
    """
    with naming("natural_gradient"):
        return StepRules(**settings)


@gin.configurable(denylist=GIVEN_IN_CODE)
def happo(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    order: Order = "random",
    **options: Any,
) -> PPOAgent:
    """Makes an agent of HAPPO (Kuba et al. 2022).

    Agents learn one after another, each knowing how those before it have changed. By default each has weights of its
    own. With shared weights the ratios of the agents before are computed anew at every gradient step.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`.
        order: "random", anew in each update, or "semi_greedy": in turn the agent with the largest mean |A| and anybody.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    with naming("happo"):
        rules = TurnRules(order=order)
    algorithm = Algorithm(
        "happo",
        has_team_value=True,
        make_step=in_turns(rules, clipped_epochs),
        defaults=_OWN_WEIGHTS,
        settings={"happo.order": order},
    )
    return ppo(algorithm, time_step_spec, action_spec, unit_types, **options)


@gin.configurable(denylist=GIVEN_IN_CODE)
def a2po(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    order: Order = "semi_greedy",
    corrects_advantage: bool = True,
    others_clip: float | None = 0.1,
    first_clip_share: float = 0.5,
    **options: Any,
) -> PPOAgent:
    """Makes an agent of A2PO (Wang et al. 2023).

    Agents learn one after another, each with an advantage that is corrected for the changes of those before it. The
    order goes by mean |A|; the authors' code divides it by |V|.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`.
        order: "random", anew in each update, or "semi_greedy": in turn the agent with the largest mean |A| and anybody.
        corrects_advantage: whether the advantage is estimated anew before each turn.
        others_clip: half-width of the clip range of the product of the ratios before; None clips as HAPPO does.
        first_clip_share: share of the clip range that the first of many agents has; it grows linearly up to 1 for the
            last.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    with naming("a2po"):
        rules = TurnRules(
            order=order,
            corrects_advantage=corrects_advantage,
            others_clip=others_clip,
            first_clip_share=first_clip_share,
        )
    algorithm = Algorithm("a2po", make_step=in_turns(rules, clipped_epochs), settings=fields("a2po", rules))
    return ppo(algorithm, time_step_spec, action_spec, unit_types, **options)


@gin.configurable(denylist=["step", *GIVEN_IN_CODE])
def hatrpo(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    order: Order = "random",
    step: StepRules | None = None,
    **options: Any,
) -> PPOAgent:
    """Makes an agent of HATRPO (Kuba et al. 2022), with a true KL divergence.

    Agents with weights of their own take TRPO's step one after another. The authors' code limits another quantity than
    the KL divergence of discrete actions, so its thresholds do not carry over.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`.
        order: "random", anew in each update, or "semi_greedy": in turn the agent with the largest mean |A| and anybody.
        step: how TRPO's step is computed; None takes what gin sets for `natural_gradient`.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    with naming("hatrpo"):
        rules = TurnRules(order=order)
    step, told = _step(step, MeanKL(0.01))
    algorithm = Algorithm(
        "hatrpo",
        has_team_value=True,
        make_step=in_turns(rules, trpos.natural_gradient(step)),
        defaults=_OF_TRPO | _OWN_WEIGHTS,
        required=_OF_TRPO | _OWN_WEIGHTS,
        settings=told | {"hatrpo.order": order},
    )
    return ppo(algorithm, time_step_spec, action_spec, unit_types, **options)


@gin.configurable(denylist=["step", *GIVEN_IN_CODE])
def trpo(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    step: StepRules | None = None,
    **options: Any,
) -> PPOAgent:
    """Makes an agent of TRPO for the joint policy (equations 1 and 5 of the paper).

    The surrogate is that of the joint ratio and the team's advantage. Unless another limit is set, the joint total
    variation is at most alpha = 0.2 at every state of the rollout.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`.
        step: how TRPO's step is computed; None takes what gin sets for `natural_gradient`.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    step, told = _step(step, LargestJointTV(0.2))
    algorithm = Algorithm(
        "trpo",
        has_team_value=True,
        ratio=surrogate.joint_ratio,
        make_step=trpos.natural_gradient(step),
        defaults=_OF_TRPO,
        required=_OF_TRPO,
        settings=told,
    )
    return ppo(algorithm, time_step_spec, action_spec, unit_types, **options)


@gin.configurable(denylist=["step", *GIVEN_IN_CODE])
def itrpo(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    step: StepRules | None = None,
    **options: Any,
) -> PPOAgent:
    """Makes an agent of independent TRPO.

    The critic sees what its agent sees, and the surrogate is the sum of the agents' own.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`.
        step: how TRPO's step is computed; None takes what gin sets for `natural_gradient`.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    step, told = _step(step, MeanKL(0.01))
    algorithm = Algorithm(
        "itrpo",
        critic_inputs=("obs",),
        make_step=trpos.natural_gradient(step),
        defaults=_OF_TRPO,
        required=_OF_TRPO,
        settings=told,
    )
    return ppo(algorithm, time_step_spec, action_spec, unit_types, **options)


@gin.configurable(denylist=["step", *GIVEN_IN_CODE])
def ps_trpo(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    step: StepRules | None = None,
    **options: Any,
) -> PPOAgent:
    """Makes an agent of PS-TRPO (Gupta et al. 2017): TRPO with shared weights.

    The surrogate is the sum of the agents' own; the limit is a budget for the whole team.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`.
        step: how TRPO's step is computed; None takes what gin sets for `natural_gradient`.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    step, told = _step(step, MeanKL(0.05, joint=True))
    algorithm = Algorithm(
        "ps_trpo",
        make_step=trpos.natural_gradient(step),
        defaults=_OF_TRPO,
        required=_OF_TRPO,
        settings=told,
    )
    return ppo(algorithm, time_step_spec, action_spec, unit_types, **options)


def _step(step: StepRules | None, limit: Limit) -> tuple[StepRules, dict[str, Any]]:
    """Returns the rules of TRPO's step, with a limit, and their settings by their gin names."""
    step = step or natural_gradient()
    told = fields("natural_gradient", step)
    return (step if step.limit else dataclasses.replace(step, limit=limit)), told
