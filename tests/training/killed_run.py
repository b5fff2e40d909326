"""A training run that someone will kill; says on stdout when it trains.

python killed_run.py ROOT_DIR TRACKING_URI ALGORITHM
"""

import functools
import pathlib
import sys

from tf_marl import agents, tracking
from tf_marl.environments.matrix_game import CLIMBING_GAME, MatrixGame
from tf_marl.training.train import Trainer

# Recurrent states, running statistics, the optimisers' own and earlier rollouts are all to be in the checkpoint.
MEMORY = {"hidden": (8,), "rnn": "gru", "rnn_units": 4, "normalize_observations": True}
OPTIONS = {
    "mappo": {"num_epochs": 2, "num_minibatches": 2, "normalize_values": True},
    "qmix": {"num_updates": 2, "batch_size": 4, "replay_rows": 32 * 40, "epsilon_env_steps": 5000},
}


def main(root_dir: str, tracking_uri: str, algorithm: str) -> None:
    trainer = Trainer(
        world=MatrixGame(CLIMBING_GAME, num_envs=4, episode_length=3),
        root_dir=root_dir,
        agent=functools.partial(getattr(agents, algorithm), **MEMORY, **OPTIONS[algorithm]),
        num_env_steps=24 * 400,
        rollout_steps=8,
        eval_every_env_steps=24 * 50,
        eval_episodes=4,
        checkpoint_every_env_steps=24 * 15,
    )
    trainer.restore()
    folder = pathlib.Path(root_dir) / "tracking"
    tracker = tracking.Tracker(tracking_uri, "kills", "killed", params={}, tags={}, folder=folder)

    def record(env_steps: int, metrics: dict[str, float]) -> None:
        tracker.record(env_steps, metrics)
        print(env_steps, flush=True)

    trainer.run(record)
    assert tracker.finish("FINISHED") is None


main(*sys.argv[1:])
