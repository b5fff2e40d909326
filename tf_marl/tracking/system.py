"""What the machine does meanwhile: processor, memory, disk, network and GPU, as MLflow's pages show them."""

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
    """Samples the machine from a thread of its own, as far as it can be done."""

    def __init__(self, record: Callable[[int, dict[str, float]], None], first_sample: int):
        """
        Args:
            record: is handed (number of the sample, metrics).
            first_sample: its number.
        """
        self._record = record
        self._sample = first_sample
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Records nothing more once it returns."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # is no reason to stop training
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
    """MLflow's monitors that work here, without the thread in which MLflow would have them wait for its store."""
    for kind, name in (("cpu", "CPU"), ("disk", "Disk"), ("network", "Network"), ("gpu", "GPU"), ("rocm", "ROCM")):
        module = importlib.import_module(f"mlflow.system_metrics.metrics.{kind}_monitor")
        with contextlib.suppress(Exception):  # no such device, or nothing installed that knows it
            yield getattr(module, f"{name}Monitor")()
