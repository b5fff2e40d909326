"""Runs that are over: what they left behind, taken up again."""

import pathlib
import tempfile
from typing import TYPE_CHECKING, Any

from tf_marl import tracking

if TYPE_CHECKING:
    from tf_marl.environments.world import World
    from tf_marl.export import ServedPolicy

TRACKING_NAME = "tracking"  # in a run's root_dir: what is on its way to MLflow


def load_model(model_uri: str, tracking_uri: str) -> tuple["ServedPolicy", "World", dict[str, Any]]:
    """A policy from MLflow's registry, the world it is for, and what else is known of it.

    Args:
        model_uri: MLflow's address of it.
        tracking_uri: of the store that has it.
    Returns: among what is known, `env_steps`, and `algorithm`, `map` and `environment`, its settings, of its run.
    Raises:
        ValueError: no such model, or none that tf_marl logged.
    """
    from tf_marl import environments, export  # TensorFlow is not imported for a wrong flag

    with tempfile.TemporaryDirectory() as folder:
        try:
            model = tracking.download(model_uri, tracking_uri, pathlib.Path(folder))
            page = export.read_page(model)
            facts = page["training"] | {"env_steps": page["env_steps"]}
            world = environments.make(**facts["environment"])
            return export.ServedPolicy(world.time_step_spec, world.action_spec, model), world, facts
        except Exception as error:  # a stranger's model may lack anything
            first, *_ = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"{model_uri}: {first}") from error
