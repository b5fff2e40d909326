"""A learner of one's own: the cross-entropy method, which imitates the best episodes (Rubinstein 1999)."""

import gin
import tensorflow as tf

from tf_marl.agents.learner import Learner
from tf_marl.agents.policy import TeamPolicy
from tf_marl.networks import Actor, Architecture
from tf_marl.ops import categorical, masked


# networks
class CrossEntropy(Learner):
    """Raises the probability of what the team did in the episodes with the largest returns."""

    def __init__(self, time_step_spec, action_spec, elite_share, learning_rate, hidden, seed):
        everyone = [0] * action_spec.shape[0]  # one group: all agents share weights
        self.actor = Actor(time_step_spec.observation, everyone, Architecture(hidden=hidden), seed)
        self.actor.create_variables()
        super().__init__(
            time_step_spec,
            action_spec,
            policy=TeamPolicy(time_step_spec, action_spec, self.actor, greedy=True),
            collect_policy=TeamPolicy(time_step_spec, action_spec, self.actor),
            weights={"actor": self.actor},
        )
        self._elite_share = elite_share
        self._optimizer = tf.keras.optimizers.legacy.Adam(learning_rate)
        self._optimizer._create_all_weights(self.actor.trainable_variables)

    # learn
    def learn(self, rollout):
        experience = rollout.experience
        inside = ~experience.is_boundary()  # [B, T]; rows between two episodes hold no decision
        episode_return = tf.reduce_sum(tf.where(inside, experience.reward, 0.0), axis=1)  # [B]
        num_elite = max(1, round(self._elite_share * episode_return.shape[0]))
        threshold = tf.reduce_min(tf.math.top_k(episode_return, num_elite).values)
        is_elite = episode_return >= threshold  # [B]
        learns = (inside & is_elite[:, None])[..., None] & experience.observation["alive"]  # [B, T, N]
        with tf.GradientTape() as tape:
            team, _ = self.actor(experience.observation, step_type=experience.step_type)
            log_prob = categorical.agent_distribution(team).log_prob(experience.action)  # [B, T, N]
            loss = -masked.mean(log_prob, learns)
        variables = self.actor.trainable_variables
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.train_step_counter.assign_add(1)
        return {"loss/policy": loss, "elite/return_min": threshold}

    # variables
    @property
    def learning_variables(self):
        return [*self.variables, *self._optimizer.variables()]

    def settings(self):
        return {"cross_entropy.elite_share": self._elite_share}


# factory
@gin.configurable(denylist=["time_step_spec", "action_spec", "seed", "unit_types"])
def cross_entropy(
    time_step_spec, action_spec, unit_types=None, seed=0, elite_share=0.2, learning_rate=1e-2, hidden=(64,)
):
    return CrossEntropy(time_step_spec, action_spec, elite_share, learning_rate, hidden, seed)
