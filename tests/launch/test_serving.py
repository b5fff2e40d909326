"""A recurrent team that wins, served: by MLflow over HTTP, and by a process that has TensorFlow alone.

Whoever decides is told what one agent sees, and carries its recurrent state from call to call; the battle runs here.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import gin
import mlflow
import numpy as np
import pytest
import requests
import tensorflow as tf

from tf_marl import agents, environments, export, tracking
from tf_marl.environments.tf_environments import CompiledEnvironment
from tf_marl.experiments import champion, runs

pytestmark = pytest.mark.slow

NAME = "tf_marl.ippo.3m"
UNITS = 64  # of the recurrent state

# Answers a line of JSON, inputs of `serving_default`, with one, its outputs.
TENSORFLOW_ALONE = """
import json, sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tf_marl", "tf_agents", "tensorflow_probability", "tf_keras", "gin", "mlflow"):
            raise ImportError(name + " is forbidden here")

sys.meta_path.insert(0, Forbid())
import tensorflow as tf

decide = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
dtypes = {name: spec.dtype for name, spec in decide.structured_input_signature[1].items()}
for line in sys.stdin:
    inputs = {name: tf.constant(value, dtypes[name]) for name, value in json.loads(line).items()}
    print(json.dumps({name: value.numpy().tolist() for name, value in decide(**inputs).items()}), flush=True)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tracking.local_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def beginner(store, tmp_path_factory):
    """Version 1 of the model, and its champion: a team that was never trained."""
    folder = tmp_path_factory.mktemp("beginner")
    environment = environments.load("3m")
    agent = agents.ippo(environment.time_step_spec(), environment.action_spec(), hidden=(4,))
    facts = runs.training_facts("train.agent = @ippo\nenvironment.map_name = '3m'\nenvironment.backend = 'combat'")
    page = export.save_model(agent, folder / "model" / tracking.SAVED_MODEL, 0, facts)
    tracker = tracking.Tracker(store, "battles", "beginner", {}, {}, folder / "tracking")
    tracker.model(folder / "model", NAME, "", 0, page["signatures"]["serving_default"], {"model/battle_won_mean": 0.0})
    assert tracker.finish("FINISHED") is None
    assert champion.challenge(store, NAME, 1).champion == 1


@pytest.fixture(scope="module")
def trained(store, beginner, launch, tmp_path_factory):
    """A training run of a recurrent team that wins battles of 3m: its folder and how it ended."""
    folder = tmp_path_factory.mktemp("trained")
    settings = ["ppo.hidden = (64,)", f"ppo.rnn_units = {UNITS}", "train.num_env_steps = 60_000"]
    flags = [f"--gin_bindings={line}" for line in [*settings, "train.eval_every_env_steps = 20_000"]]
    flags += [f"--root_dir={folder}/run", f"--tracking_uri={store}"]
    outcome = launch("launch.train", "--gin_file=ippo_rnn.gin", "--gin_file=maps/3m.gin", *flags, cwd=folder)
    assert outcome.code == 0, outcome.stderr
    return folder / "run", outcome


@pytest.fixture(scope="module")
def battle(trained):
    """A battle that the team wins: its environment and seed, and what the team did, decided as it was trained."""
    gin.clear_config()
    world, agent, _ = runs.load_run(str(trained[0]), best=True)
    gin.clear_config()
    world = world.resize(1)
    for seed in range(20):
        memory = agent.policy.get_initial_state(1)

        def act(time_step):
            nonlocal memory
            action, memory, _ = agent.policy.action(time_step, memory)
            return action.numpy()[0].tolist()

        played = play(world, seed, act)
        if played["won"]:
            return world, seed, played
    raise AssertionError("the team wins no battle of 20")


def play(world, seed, act):
    """One episode with the actions `act(time_step) -> [N]`."""
    environment = CompiledEnvironment(world, seed)
    time_step, actions = environment.reset(), []
    while not time_step.is_last():
        actions.append(act(time_step))
        time_step = environment.step(tf.constant([actions[-1]], tf.int32))
    return {"actions": actions, "won": bool(environment.info()["battle_won"])}


def decided_by(serve):
    """To act as `serve(inputs) -> outputs` decides, which are those of `serving_default` as JSON has them."""
    state = np.zeros([3, UNITS], np.float32).tolist()

    def act(time_step):
        nonlocal state
        inputs = {name: time_step.observation[name][0].numpy().tolist() for name in ("obs", "avail_actions")}
        outputs = serve(inputs | {"agent_index": [0, 1, 2], "state_gru": state})
        state = outputs["state_gru"]
        return outputs["action"]

    return act


def test_a_better_team_takes_the_title(store, trained):
    assert "model     tf_marl.ippo.3m: version 2 is the champion: of 256 fresh episodes won" in trained[1].stdout
    version = mlflow.MlflowClient(store).get_model_version_by_alias(NAME, "champion")
    assert int(version.version) == 2


def test_mlflow_serves_a_winning_recurrent_team(store, battle, tmp_path):
    world, seed, played = battle
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", f"--model-uri=models:/{NAME}@champion"]
    command += ["--env-manager=local", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    scripts = pathlib.Path(sys.executable).parent  # where MLflow looks for the server that it starts
    environment = os.environ | {"MLFLOW_TRACKING_URI": store, "PATH": f"{scripts}:{os.environ['PATH']}"}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        await_health(f"http://127.0.0.1:{port}/ping", server, tmp_path / "log")

        def post(inputs):
            return requests.post(f"http://127.0.0.1:{port}/invocations", json={"inputs": inputs}, timeout=30)

        def serve(inputs):
            answer = post(inputs)
            answer.raise_for_status()
            return answer.json()["predictions"]

        assert play(world, seed, decided_by(serve)) == played

        time_step = CompiledEnvironment(world, seed).reset()
        inputs = {name: time_step.observation[name][0].numpy().tolist() for name in ("obs", "avail_actions")}
        inputs |= {"agent_index": [0, 1, 2], "state_gru": np.zeros([3, UNITS]).tolist()}
        inputs["obs"][1][0] = None  # JSON's word for NaN
        refused = post(inputs)
        assert refused.status_code == 400
        assert "assertion failed: [obs is NaN or infinite, first in row] [[1]]" in refused.json()["stack_trace"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_a_process_with_tensorflow_alone_wins_the_same_battle(store, battle, tmp_path):
    world, seed, played = battle
    model = tracking.download(f"models:/{NAME}@champion", store, tmp_path)
    command = [sys.executable, "-I", "-c", TENSORFLOW_ALONE, str(model)]
    elsewhere = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}  # ours
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=elsewhere, **pipes) as process:

        def serve(inputs):
            print(json.dumps(inputs), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        assert play(world, seed, decided_by(serve)) == played
        process.stdin.close()


def await_health(url: str, server: subprocess.Popen, log: pathlib.Path) -> None:
    give_up = time.monotonic() + 120
    while True:
        try:
            return requests.get(url, timeout=1).raise_for_status()
        except requests.RequestException:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.5)
