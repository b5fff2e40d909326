"""Tables that grow a run at a time: what was measured once is not measured again."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd


class Tables:
    """CSV files in a folder, whose rows tell by some columns, the keys, which run they are of.

    Args:
        folder: of the files `NAME.csv`, those that are there already being read.
        names: of the tables. The first tells which runs there are: a run that it has is complete.
        keys: the columns, with their types.
    """

    def __init__(self, folder: pathlib.Path, names: Sequence[str], keys: Mapping[str, type]):
        self.folder = folder
        self.paths = [folder / f"{name}.csv" for name in names]
        self._keys = list(keys)
        self._tables = {
            # Else a text such as "none" or "1.0" would be taken for something else.
            path.stem: pd.read_csv(path, dtype=dict(keys), keep_default_na=False, na_values=[""])
            if path.is_file()
            else pd.DataFrame(columns=self._keys)
            for path in self.paths
        }

    def __getitem__(self, name: str) -> pd.DataFrame:
        """A table, all of its rows."""
        return self._tables[name]

    def select(self, name: str, runs: Iterable[tuple]) -> pd.DataFrame:
        """The rows of a table that are of some runs. Args: runs, each the values of its keys."""
        table = self._tables[name]
        wanted = set(runs)
        return table[[key in wanted for key in table[self._keys].itertuples(index=False, name=None)]]

    def have(self, run: tuple) -> bool:
        """Whether a run is there. Args: run, the values of its keys."""
        return len(self.select(self.paths[0].stem, [run])) > 0

    def add(self, rows: Mapping[str, Sequence[Mapping]]) -> None:
        """Takes up a run, saved at once. Args: rows, by table, with the columns of the keys."""
        for path in reversed(self.paths):  # the first one last
            old, new = self._tables[path.stem], pd.DataFrame(rows[path.stem])
            # An empty table knows no types, and would make whole numbers fractions.
            self._tables[path.stem] = table = pd.concat([old, new], ignore_index=True) if len(old) else new
            unfinished = path.with_suffix(".part")
            table.to_csv(unfinished, index=False, float_format="%.4g")
            unfinished.replace(path)
