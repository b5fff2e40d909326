"""Plays greedy episodes with a trained team: python -m launch.evaluate --root_dir=DIR"""

import pathlib

from absl import flags

from launch import app

FLAGS = flags.FLAGS

app.define_json_flag()
app.define_seed_flag()
flags.DEFINE_string("root_dir", None, "Folder of the training run.", required=True)
flags.DEFINE_integer("episodes", 32, "Episodes to play.", lower_bound=1)


def main() -> int:
    config = pathlib.Path(FLAGS.root_dir) / app.CONFIG_NAME
    if not config.is_file():
        raise app.BadInput(f"--root_dir={FLAGS.root_dir}: holds no {app.CONFIG_NAME}, so no training run began there")
    app.import_quietly()
    import tensorflow as tf

    from tf_marl import environments
    from tf_marl.training.train import Trainer

    app.parse_gin([str(config)], [])
    with app.bad_input():
        trainer = Trainer(environment=environments.load(seed=FLAGS.seed), root_dir=FLAGS.root_dir)
    if not trainer.restore():
        raise app.BadInput(f"--root_dir={FLAGS.root_dir}: holds no checkpoint yet; train for longer")
    seed = tf.constant([FLAGS.seed, 4], tf.int32)  # not a seed of the training's own evaluations
    result = trainer.evaluator(FLAGS.episodes)(seed)
    print(
        f"{FLAGS.episodes} greedy episodes after {int(trainer.env_steps):,} env steps:"
        f" won {result['battle_won_mean']:.0%}, return {result['return_mean']:.2f},"
        f" length {result['episode_length_mean']:.1f} env steps"
    )
    if FLAGS.json:
        app.print_json(result | {"episodes": FLAGS.episodes, "env_steps": int(trainer.env_steps)})
    return 0


if __name__ == "__main__":
    app.run(main)
