"""Lets a registered policy challenge the champion of its algorithm and map.

tf-marl champion --model=tf_marl.ippo.3m --version=4

How: `tf_marl/experiments/champion.py`. Training does this at its end; the command is for when it could not.
"""

from absl import flags

from tf_marl.experiments import champion

from . import app

FLAGS = flags.FLAGS

app.define_json_flag()
app.define_plugin_flag()
app.define_store_flag()
flags.DEFINE_string("model", None, "Name of a registered model, such as tf_marl.ippo.3m.")
flags.DEFINE_integer("version", None, "Version that challenges; by default the newest.", lower_bound=1)
flags.DEFINE_integer("episodes", champion.EPISODES, "Fresh episodes that each plays.", lower_bound=1)
flags.DEFINE_float(
    "confidence", champion.CONFIDENCE, "That the difference is not chance.", lower_bound=0.5, upper_bound=1
)


def main() -> int:
    """Lets the version challenge, and says what came of it. Returns the exit code."""
    from tf_marl import tracking

    if not FLAGS.model:
        raise app.BadInput("give --model=NAME, of a registered model such as tf_marl.ippo.3m")
    app.check_store()
    app.import_quietly()
    with app.bad_input(f"--model={FLAGS.model}: "):
        version = FLAGS.version or max(tracking.versions(app.tracking_uri(), FLAGS.model))
        outcome = champion.challenge(app.tracking_uri(), FLAGS.model, version, FLAGS.episodes, FLAGS.confidence)
    print(f"{FLAGS.model}: {outcome.verdict}")
    told = {"champion": outcome.champion, "verdict": outcome.verdict, "metric": outcome.metric}
    app.print_json(told | {"win_rates": outcome.scores})
    return 0


if __name__ == "__main__":
    app.run(main)
