"""The algorithms side by side: what the critic sees, and how the ratio is formed."""

import gin
import numpy as np
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.ppo import PPOAgent, PPOConfig
from tf_marl.config import naming
from tf_marl.networks import Actor, Critic


@gin.configurable(denylist=["time_step_spec", "action_spec", "seed"])
def ippo(time_step_spec: ts.TimeStep, action_spec: types.NestedTensorSpec, **options) -> PPOAgent:
    """Independent PPO: the critic sees what its agent sees, and each agent's ratio is clipped by itself.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        **options: fields of `PPOConfig`.
    Raises:
        ValueError: unknown option or unfit value; names it.
    """
    with naming("ippo"):
        config = PPOConfig(**options)
    actor_seed, critic_seed = np.random.SeedSequence(config.seed).generate_state(2)
    observation_spec = time_step_spec.observation
    return PPOAgent(
        time_step_spec,
        action_spec,
        actor=Actor(observation_spec, config.hidden, config.activation, int(actor_seed)),
        critic=Critic(observation_spec, config.hidden, config.activation, int(critic_seed)),
        config=config,
    )
