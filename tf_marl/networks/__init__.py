"""An actor turns observations into a team policy, and a critic turns them into values.

    observation -> torso (dense layers, then a GRU if wanted) -> head (dense layers) -> logits or values

By default all agents share weights. An agent id tells them apart: a learned vector per agent that is added in the first
layer. This equals appending a one-hot id to the observation, without the copy. With `parameter_sharing`, each group of
agents may have weights of its own instead.

Shapes: B environments, T steps, N agents, F features, H units. Networks take one step, [B, ...], or sequences,
[B, T, ...]. Recurrent states are [B, N, H]; at the first step of an episode they count as zeros.
"""

from tf_marl.networks.actor import Actor
from tf_marl.networks.actor_critic import ActorCritic, training_flops
from tf_marl.networks.architecture import Architecture
from tf_marl.networks.critic import Critic
from tf_marl.networks.q_network import QNetwork

__all__ = ["Actor", "ActorCritic", "Architecture", "Critic", "QNetwork", "training_flops"]
