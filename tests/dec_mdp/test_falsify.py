"""Counterexamples: found, minimised, kept, replayed."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from tf_marl.dec_mdp import falsify, statements
from tf_marl.dec_mdp.statements import READINGS, Case

RESULTS = pathlib.Path(__file__).parents[2] / "mlflow_artifacts/results/theory"
KEPT = sorted((RESULTS / "witnesses").glob("*.json"))


@pytest.fixture(scope="module")
def trials():
    return falsify.search(120, 0, 0, lambda text: None)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_witness_is_a_counterexample(path):
    witness = falsify.load(path)
    slack = float(witness.reading.check(Case(falsify.instances(witness.tables))).slack[0])
    assert slack == pytest.approx(json.loads(path.read_text())["slack"], rel=1e-3)
    assert slack < -100 * statements.TOLERANCE


def test_whatever_was_refuted_has_a_kept_witness():
    table = pd.read_csv(RESULTS / "statements.csv")
    named = table[table.verdict.str.contains(".json")]
    assert set(named.verdict.str.extract(r"witness (.*)\)")[0]) == {path.name for path in KEPT}
    # The last row is of whole updates, refuted by learning.csv; test_learning.py refutes it again.
    assert list(table[(table.violated > 0) & ~table.index.isin(named.index)].index) == [len(table) - 1]
    assert {falsify.load(path).reading[:2] for path in KEPT} == set(zip(named.statement, named.reading, strict=True))


def test_every_reading_is_tried_and_the_tally_is_right(trials):
    assert [trial.reading for trial in trials] == list(READINGS)
    for trial in trials:
        assert trial.tried >= 119  # rounding of the shares
        assert (trial.violated > 0) == (trial.slack < -statements.TOLERANCE)
        assert (trial.witness is not None) == (trial.violated > 0)
        assert (trial.verdict == "held") == (trial.violated == 0)


def test_a_minimised_witness_is_plainer_and_survives_its_file(trials, tmp_path):
    trial = next(t for t in trials if t.reading.name.startswith("independent surrogates; alpha = sum_k"))
    witness = falsify.minimise(trial.witness)
    path = falsify.save(witness, tmp_path)
    again = falsify.load(path)
    assert again.reading == trial.reading
    for name, table in witness.tables.items():
        np.testing.assert_array_equal(again.tables[name], table)
    assert float(again.reading.check(Case(falsify.instances(again.tables))).slack[0]) < 0
    assert witness.tables["gamma"] == 0.0  # it needs no future


def test_climbing_refutes_what_random_instances_do_not(trials):
    trial = next(t for t in trials if t.reading.name.startswith("joint surrogate; max |A_k|"))
    assert trial.slack > -1e-3
    *_, last = falsify.climb(trial.reading, falsify.CLIMBED[0], 60, 0)
    assert np.min(trial.reading.check(last).slack) < -1e-3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no witness"),
        ("{}", "is no witness"),
        ('{"statement": "Theorem 9", "reading": "any", "slack": -1}', "no reading of Theorem 9"),
    ],
)
def test_a_file_that_is_no_witness_is_refused(text, says, tmp_path):
    path = tmp_path / "witness.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        falsify.load(path)
