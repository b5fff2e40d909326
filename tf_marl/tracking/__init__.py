"""Tracking: where a run's parameters, metrics, artifacts, models and fate are kept.

    Tracker --append--> journal on disk --Sender, a thread--> Sink

Training waits for the journal alone, a write to a local file. The sink may be slow or down, and come back at any time:
what it lacks goes there once it answers, in this process or in the next one with the same folder.

    tracker = Tracker("folder:runs", "battles", "ippo_3m", params, tags, folder)    starts a run, or goes on with it
    tracker.record(env_steps, {"loss/value": 0.1})      also text, file, figure, model; history() reads metrics back
    tracker.finish("FINISHED")                          None once all of it has arrived

The address chooses the sink: `folder:DIR` is a plain folder (`folder_sink.py`), all others are MLflow's
(`mlflow_sink.py`), which alone has a registry of models: `versions`, `download`, `client`. One more kind is a subclass
of `Sink`, seven methods, and `register("its_scheme", ItsSink)`; `tests/tracking/test_sinks.py` says what it must do.
Nothing imports MLflow before it is needed.
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
