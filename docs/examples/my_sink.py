"""A sink of one's own: a line of text for everything that a run records, `lines:FILE`."""

import pathlib

from tf_marl import tracking


class Lines(tracking.Sink):
    """Appends lines to a file."""

    def _write(self, *words):
        with open(pathlib.Path(self.address.removeprefix("lines:")), "a", encoding="utf-8") as file:
            print(*words, file=file)

    def check_reachable(self):
        pass

    def start(self, experiment, run_name, params, tags, time):
        self.run_id = self.experiment_id = run_name
        self._write("start", run_name, params["train.agent"])

    def resume(self, tags):
        self._write("resume")

    def record(self, rows):
        for row in rows:
            self._write("record", row.step, *sorted(row.values))

    def artifact(self, name, path):
        self._write("artifact", name)

    def model(self, model):
        self._write("model", model.name)

    def finish(self, status, error, time):
        self._write("finish", status)


tracking.register("lines", Lines)
