"""This module samples the machine's load during a run, under the names that MLflow's pages show.

It samples the processor, memory, disk, network and GPU.
"""

import contextlib
import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

PREFIX = "system/"
_SECONDS = 10.0  # between two samples

logger = logging.getLogger(__name__)


class Monitor:
    """Samples the machine's load every ten seconds in a thread of its own. An error ends the samples, not the run."""

    def __init__(self, record: Callable[[int, dict[str, float]], None], first_sample: int):
        """Starts the thread.

        Args:
            record: is called with the number of the sample and the metrics.
            first_sample: number of the first sample.
        """
        self._record = record
        self._sample = first_sample
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits for it. Nothing is recorded afterwards."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # training goes on without system metrics
            logger.info("no system metrics: %s", error)

    def _watch(self) -> None:
        if self._stopping.wait(_SECONDS):  # a run that short needs none, nor the import
            return
        monitors = list(_monitors())
        while not self._stopping.is_set():
            metrics: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                metrics |= {PREFIX + name: value for name, value in monitor.aggregate_metrics().items()}
                monitor.clear_metrics()
            self._record(self._sample, metrics)
            self._sample += 1
            self._stopping.wait(_SECONDS)


def _monitors() -> Iterator[Any]:
    """Yields those of MLflow's monitors that work on this machine.

    MLflow's own thread for them is not used, as it waits for the store.
    """
    for kind, name in (("cpu", "CPU"), ("disk", "Disk"), ("network", "Network"), ("gpu", "GPU"), ("rocm", "ROCM")):
        module = importlib.import_module(f"mlflow.system_metrics.metrics.{kind}_monitor")
        with contextlib.suppress(Exception):  # no such device, or nothing installed that knows it
            yield getattr(module, f"{name}Monitor")()
