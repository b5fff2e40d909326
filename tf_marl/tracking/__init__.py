"""This package keeps a run's parameters, metrics, artifacts and models, and how the run ended.

A tracker writes everything to a journal on disk. A sender, in a thread of its own, passes it on to a sink:

    Tracker --append--> journal on disk --Sender, a thread--> Sink

Training only waits for the journal, which is a local file. The sink may be slow or down, and come back at any time.
Then it gets what it lacks, from this process or from the next one that tracks in the same folder.

    # Starts a run, or resumes the one in `folder`.
    tracker = Tracker("folder:runs", "battles", "ippo_3m", params, tags, folder)
    # Keeps metrics; so do text, file, figure and model for what they are named after. history() reads metrics back.
    tracker.record(env_steps, {"loss/value": 0.1})
    # Returns None if everything has arrived.
    tracker.finish("FINISHED")

The address selects the sink: `folder:DIR` is a plain folder (`folder_sink.py`), and every address without a registered
scheme is one of MLflow's (`mlflow_sink.py`). Only MLflow has a registry of models, for `versions`, `download` and
`client`. To add a kind of sink, write a subclass of `Sink` with its seven abstract methods and call
`register("its_scheme", ItsSink)`; `tests/tracking/test_sinks.py` tests what it must do. MLflow is imported only when it
is needed.
"""

from tf_marl.tracking.address import shown
from tf_marl.tracking.mlflow_models import download, versions
from tf_marl.tracking.mlflow_store import client, local_store
from tf_marl.tracking.sink import (
    SAVED_MODEL,
    Metrics,
    Model,
    Sink,
    SinkError,
    absolute,
    check_reachable,
    is_mlflow,
    open_sink,
    register,
)
from tf_marl.tracking.tracker import Tracker, git_commit, has_begun, kept

__all__ = [
    "SAVED_MODEL",
    "Metrics",
    "Model",
    "Sink",
    "SinkError",
    "Tracker",
    "absolute",
    "check_reachable",
    "client",
    "download",
    "git_commit",
    "has_begun",
    "is_mlflow",
    "kept",
    "local_store",
    "open_sink",
    "register",
    "shown",
    "versions",
]
