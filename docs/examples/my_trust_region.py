"""A clip rule and a restraint of one's own."""

import gin
import tensorflow as tf

from tf_marl.agents.ppo.restraints import Restraint
from tf_marl.ops import total_variation


# clip rule
@gin.configurable
def per_root_agent(alpha):
    """Gives alpha / sqrt(N), between a fixed clip range and alpha / N."""
    return lambda alive, progress: tf.constant(alpha / alive.shape[-1] ** 0.5)


# restraint
class StopOnMean(Restraint):
    """Ends the epochs of an update once the mean over states of the product bound is above alpha."""

    def __init__(self, alpha):
        super().__init__(alpha, "product_bound")

    def after_epoch(self, agent, change, epochs, memory):
        old, new = change().teams()
        return memory, tf.reduce_mean(total_variation.joint_tv_product_bound(old, new)) > self.alpha

    def end(self, agent, change, epochs, memory):
        return memory, {"trust_region/stopped_after": tf.cast(epochs, tf.float32)}


@gin.configurable
def stop_on_mean(alpha):
    return StopOnMean(alpha)
