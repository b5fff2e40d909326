"""The challenge from the command line. (Who wins it: tests/experiments.)"""

import mlflow
import pytest

NAME = "tf_marl.ippo.3m"


def test_the_first_to_come_is_champion(warm_launch, store_in, tmp_path):
    store = store_in(tmp_path)
    client = mlflow.MlflowClient(store)
    client.create_registered_model(NAME)
    client.create_model_version(NAME, str(tmp_path))
    outcome = warm_launch("launch.champion", f"--model={NAME}", f"--tracking_uri={store}", "--json")
    assert outcome.json()["champion"] == 1
    assert outcome.json()["win_rates"] == {}
    assert outcome.stdout.startswith(f"{NAME}: version 1 is the champion, the first\n")
    assert client.get_model_version_by_alias(NAME, "champion").version == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [((), "give --model=NAME"), ((f"--model={NAME}",), f"--model={NAME}: no version of {NAME} is registered")],
)
def test_what_is_not_registered_cannot_play(flags, message, store_in, warm_launch, tmp_path):
    outcome = warm_launch("launch.champion", *flags, f"--tracking_uri={store_in(tmp_path)}")
    assert outcome.code == 2
    assert outcome.stderr.startswith(f"error: {message}")
