"""Tables that grow by one training run at a time, so that nothing is measured twice, and tables for people to read."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd


class Tables:
    """Holds CSV files of one folder, in which some columns, the keys, tell which run a row belongs to."""

    def __init__(self, folder: pathlib.Path, names: Sequence[str], keys: Mapping[str, type]):
        """Reads the files that exist; the others count as empty.

        Args:
            folder: where the files `NAME.csv` are.
            names: names of the tables. A run counts as complete once the first table has it.
            keys: names of the key columns, with their types.
        """
        self.folder = folder
        self.paths = [folder / f"{name}.csv" for name in names]
        self._keys = list(keys)
        self._tables = {
            # Without a type, pandas would read the text "none" as missing and the text "1.0" as a number.
            path.stem: pd.read_csv(path, dtype=dict(keys), keep_default_na=False, na_values=[""])
            if path.is_file()
            else pd.DataFrame(columns=self._keys)
            for path in self.paths
        }

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Returns all rows of the table with this name."""
        return self._tables[name]

    def select(self, name: str, runs: Iterable[tuple]) -> pd.DataFrame:
        """Returns the rows of a table that belong to some runs.

        Args:
            name: name of the table.
            runs: the runs, each as a tuple of its values of the key columns.
        """
        table = self._tables[name]
        wanted = set(runs)
        return table[[key in wanted for key in table[self._keys].itertuples(index=False, name=None)]]

    def have(self, run: tuple) -> bool:
        """Returns whether a run, given by its values of the key columns, is complete."""
        return len(self.select(self.paths[0].stem, [run])) > 0

    def add(self, rows: Mapping[str, Sequence[Mapping]]) -> None:
        """Adds the rows of a run and saves all tables at once.

        Args:
            rows: for each table's name, the new rows; each row maps columns, the keys among them, to values.

        Raises:
            OSError: a file cannot be written. The run then does not count as complete.
        """
        for path in reversed(self.paths):  # the first table comes last, since it makes the run complete
            old, new = self._tables[path.stem], pd.DataFrame(rows[path.stem])
            # An empty table has no types and would turn whole numbers into fractions.
            self._tables[path.stem] = table = pd.concat([old, new], ignore_index=True) if len(old) else new
            unfinished = path.with_suffix(".part")
            table.to_csv(unfinished, index=False, float_format="%.4g")
            unfinished.replace(path)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a Markdown table.

    Args:
        columns: the titles of the columns; two of them may be equal.
        rows: the cells of each row. Texts are taken as they are, and `|` in them is escaped.
    """
    table = pd.DataFrame([[str(cell).replace("|", "\\|") for cell in row] for row in rows], columns=list(columns))
    return table.to_markdown(index=False, disable_numparse=True)
