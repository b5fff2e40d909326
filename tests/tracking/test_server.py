"""An MLflow server is asked whether it answers and can be written to."""

import mlflow

from tf_marl.tracking import server


def test_a_server_that_takes_what_is_written_is_as_it_was(mlflow_server):
    before = mlflow.MlflowClient(mlflow_server).get_experiment("0").tags
    server.check_health(mlflow_server + "/")
    server.check_writing(mlflow_server + "/")
    assert mlflow.MlflowClient(mlflow_server).get_experiment("0").tags == before
