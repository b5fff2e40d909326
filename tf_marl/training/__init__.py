"""Trains teams: `Trainer` is the whole loop, `Evaluator` plays episodes, the collectors fill rollouts.

    trainer = Trainer(environments.make("3m", num_envs=128), agents.ippo, root_dir="my_run")
    result = trainer.run()

Training knows learners and worlds by their protocols alone: `agents/learner.py`, `environments/world.py`.
"""

from tf_marl.training.evaluate import Evaluator, win_interval
from tf_marl.training.train import Result, Trainer

__all__ = ["Evaluator", "Result", "Trainer", "win_interval"]
