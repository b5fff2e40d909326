"""Makes files of a trained policy that serves with TensorFlow alone: tf-marl export --root_dir=DIR --out=DIR

What is in them: `tf_marl/export.py`.
"""

from absl import flags

from . import app

FLAGS = flags.FLAGS

app.define_json_flag()
app.define_plugin_flag()
flags.DEFINE_string("root_dir", None, "Folder of a training run.")
flags.DEFINE_string("out", None, "Folder of the exported versions; made if need be.")
flags.DEFINE_bool("best", True, "Export the policy that evaluated best, not the newest.")
flags.DEFINE_bool("overwrite", False, "Replace a version that is there already.")


def main() -> int:
    """Exports the policy and says where its files are. Returns the exit code."""
    if not FLAGS.root_dir or not FLAGS.out:
        raise app.BadInput("give --root_dir=DIR, the folder of a training run, and --out=DIR, where the files go")
    from tf_marl.experiments import runs

    with app.bad_input():
        config = runs.config_of(FLAGS.root_dir)
    out = app.writable_folder(FLAGS.out, "out")
    app.import_quietly()
    import tensorflow as tf

    from tf_marl import export

    with app.bad_input():
        _, agent, env_steps = runs.load_run(FLAGS.root_dir, FLAGS.best)
        facts = runs.training_facts(config) | {"best": FLAGS.best}
    try:
        version = export.save(agent, out, env_steps, facts, FLAGS.overwrite)
    except FileExistsError as error:
        raise app.BadInput(f"--out={FLAGS.out}: {error}; add --overwrite or name another folder") from None
    except (OSError, tf.errors.OpError) as error:
        raise app.BadInput(f"--out={FLAGS.out}: cannot write there ({error}); name another folder") from None
    which = "best" if FLAGS.best else "newest"
    print(
        f"{facts['algorithm']} on {facts['map']}, the {which} policy, after {env_steps:,} env steps:\n"
        f"  serve     {version} (TensorFlow Serving: --model_base_path={out})\n"
        f"  inputs    {version / export.SIGNATURE_NAME}\n"
        f"  TF-Agents {out / export.POLICY_SAVER / str(env_steps)}"
    )
    app.print_json({"saved_model": str(version), "env_steps": env_steps} | facts)
    return 0


if __name__ == "__main__":
    app.run(main)
