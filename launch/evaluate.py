"""Plays greedy episodes with a trained team: python -m launch.evaluate --root_dir=DIR"""

import pathlib

from absl import flags

from launch import app

FLAGS = flags.FLAGS
REPLAY_EPISODES = 8  # at most; more make a file that nobody watches to the end

app.define_json_flag()
app.define_seed_flag()
flags.DEFINE_string("root_dir", None, "Folder of the training run.", required=True)
flags.DEFINE_integer("episodes", 32, "Episodes to play.", lower_bound=1)
flags.DEFINE_string(
    "replay", None, f"File to watch the first {REPLAY_EPISODES} episodes in: a page (.html) or a film (.gif, .mp4)."
)


def main() -> int:
    config = pathlib.Path(FLAGS.root_dir) / app.CONFIG_NAME
    if not config.is_file():
        raise app.BadInput(f"--root_dir={FLAGS.root_dir}: holds no {app.CONFIG_NAME}, so no training run began there")
    replay_file = _replay_file(FLAGS.replay) if FLAGS.replay else None
    app.import_quietly()
    import tensorflow as tf

    from tf_marl import environments, replay
    from tf_marl.training.train import Trainer

    app.parse_gin([str(config)], [])
    with app.bad_input():
        environment = environments.load(seed=FLAGS.seed)
        trainer = Trainer(environment=environment, root_dir=FLAGS.root_dir)
    if not trainer.restore():
        raise app.BadInput(f"--root_dir={FLAGS.root_dir}: holds no checkpoint yet; train for longer")
    seed = [FLAGS.seed, 4]  # not a seed of the training's own evaluations
    result = trainer.evaluator(FLAGS.episodes)(tf.constant(seed))
    print(
        f"{FLAGS.episodes} greedy episodes after {int(trainer.env_steps):,} env steps:"
        f" won {result['battle_won_mean']:.0%}, return {result['return_mean']:.2f},"
        f" length {result['episode_length_mean']:.1f} env steps"
    )
    if replay_file:
        kept = min(FLAGS.episodes, REPLAY_EPISODES)
        core, agent = environment.core.resize(FLAGS.episodes), trainer.agent
        episodes = replay.record(core, agent.policy, seed, kept, value=lambda obs: agent.critic(obs)[0])
        team = f"{pathlib.Path(FLAGS.root_dir).resolve().name} after {int(trainer.env_steps):,} env steps"
        with app.bad_input("--replay: "):
            replay.write(replay_file, episodes, team)
        print(f"the first {kept} of them to watch: {replay_file}")
    if FLAGS.json:
        app.print_json(result | {"episodes": FLAGS.episodes, "env_steps": int(trainer.env_steps)})
    return 0


def _replay_file(name: str) -> pathlib.Path:
    """Where the replay goes; its folder is made if need be."""
    from tf_marl import replay

    with app.bad_input("--replay="):
        replay.check_name(name)
    path = app.writable_folder(pathlib.Path(name).parent, "replay") / pathlib.Path(name).name
    if path.is_dir():
        raise app.BadInput(f"--replay={name}: is a folder; name a file")
    return path


if __name__ == "__main__":
    app.run(main)
