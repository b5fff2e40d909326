"""What cannot be used is refused at once: one line that says what to do, exit code 2, and nothing recorded."""

import http.server
import re
import socket
import threading

import pytest

LOADING = "loading TensorFlow ...\n"


@pytest.fixture
def store(tmp_path):
    """Flags of a run that keeps everything in `tmp_path`."""
    return f"--root_dir={tmp_path}/root", f"--tracking_uri=sqlite:///{tmp_path}/mlflow.db"


def refusal(outcome, tmp_path) -> str:
    """The one line of a proper refusal."""
    assert outcome.code == 2, outcome.stderr
    assert outcome.stdout == ""
    line = outcome.stderr.removeprefix(LOADING)
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert "Traceback" not in line
    assert not list(tmp_path.glob("**/mlflow.db"))
    return line


@pytest.fixture
def silent_server():
    """An address that takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def stranger():
    """A web server that knows nothing of MLflow."""

    class NotFound(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotFound) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def closed_port():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but not listening
        yield f"http://127.0.0.1:{closed.getsockname()[1]}"


# Before TensorFlow is imported


@pytest.mark.parametrize(
    ("module", "flags", "says"),
    [
        ("launch.train", ["--nonsense=1"], "Unknown command line flag 'nonsense'"),
        ("launch.train", ["--seed=-1"], "flag --seed=-1"),
        ("launch.train", ["--seed=one"], "flag --seed=one"),
        ("launch.train", ["ippo.gin"], "unexpected argument 'ippo.gin'"),
        ("launch.evaluate", [], "--root_dir"),
        ("launch.evaluate", ["--root_dir=.", "--policy=nearest"], "give one of --root_dir"),
        ("launch.evaluate", ["--policy=nearest"], "needs a map"),
        (
            "launch.evaluate",
            ["--policy=nearest", "--map=3m", "--best"],
            "--best: chooses among the policies of a training",
        ),
        ("launch.evaluate", ["--policy=clever", "--map=3m"], "--policy=clever"),
        ("launch.evaluate", ["--root_dir=.", "--episodes=0"], "flag --episodes=0"),
        ("launch.evaluate", ["--root_dir=."], "holds no config.gin"),
        ("launch.evaluate", ["--root_dir=/nowhere/at/all"], "holds no config.gin"),
        ("launch.evaluate", ["--model_uri="], "give one of --root_dir"),
        ("launch.evaluate", ["--saved_model=.", "--map=3m"], "--map: a trained team"),
        ("launch.export", ["--out=out"], "give --root_dir=DIR"),
        ("launch.export", ["--root_dir=.", "--out="], "--out=DIR"),
        ("launch.export", ["--root_dir=.", "--out=out"], "holds no config.gin"),
        ("launch.benchmark", ["--what=nothing"], "flag --what=nothing"),
        ("launch.benchmark", ["--num_envs=0"], "flag --num_envs=0"),
    ],
)
def test_a_bad_flag_is_refused_at_once(module, flags, says, launch, no_tensorflow, tmp_path):
    outcome = launch(module, *flags, cwd=tmp_path, env=no_tensorflow)
    assert says in refusal(outcome, tmp_path)


def test_an_unknown_gin_file_is_refused_with_those_there_are(launch, no_tensorflow, store, tmp_path):
    outcome = launch("launch.train", "--gin_file=maps/3n.gin", *store, cwd=tmp_path, env=no_tensorflow)
    line = refusal(outcome, tmp_path)
    assert "--gin_file=maps/3n.gin" in line
    assert "ippo.gin" in line
    assert "maps/3m.gin" in line


@pytest.mark.parametrize("name", ["file/below", "loop/below"])
def test_a_root_dir_that_cannot_be_written_is_refused_at_once(name, launch, no_tensorflow, tiny, store, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    flags = (*tiny, *store, f"--root_dir={tmp_path}/{name}")
    outcome = launch("launch.train", *flags, cwd=tmp_path, env=no_tensorflow)
    assert f"--root_dir={tmp_path}/{name}: cannot write there" in refusal(outcome, tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("config.gin/battle.html", "--replay=config.gin: cannot write there"),
        ("folder.html", "--replay=folder.html: is a folder"),
    ],
)
def test_a_replay_that_cannot_be_written_is_refused_at_once(name, says, launch, no_tensorflow, tmp_path):
    (tmp_path / "config.gin").write_text("train.agent = @ippo\nenvironment.map_name = '3m'\n")
    (tmp_path / "folder.html").mkdir()
    outcome = launch("launch.evaluate", "--root_dir=.", f"--replay={name}", cwd=tmp_path, env=no_tensorflow)
    assert re.search(says, refusal(outcome, tmp_path))


@pytest.mark.parametrize("server", ["closed_port", "stranger", "silent_server"])
def test_a_tracking_server_that_is_none_is_refused_at_once(
    server, launch, no_tensorflow, tiny, store, tmp_path, request
):
    address = request.getfixturevalue(server)
    flags = (*tiny, *store, f"--tracking_uri={address}")
    outcome = launch("launch.train", *flags, cwd=tmp_path, env=no_tensorflow)
    assert f"no MLflow server answers at {address}" in refusal(outcome, tmp_path)


# After it: each in a fork of a process that has it, and one of each kind all by itself


@pytest.mark.parametrize(
    ("binding", "says"),
    [
        ("environment.map_name = '9m'", "unknown map '9m'; choose one of: 3m, 8m, .*2s3z.*"),
        ("environment.map_name = 3", "environment.map_name: .*name, .*not 3"),
        ("environment.backend = 'chess'", "unknown backend 'chess'; choose one of: .*combat"),
        ("environment.nonsense = 1", "environment.nonsense: unexpected"),
        ("ppo.nonsense = 1", "ppo.nonsense: unexpected"),
        ("train.nonsense = 1", "'train' .*'nonsense'"),
        ("nonsense.x = 1", "'nonsense'"),
        ("train.agent = @nonsense", "'@nonsense'"),
        ("train.agent = 3", "train.agent: .*@ippo, not 3"),
        ("train.num_env_steps = 'many'", "train.num_env_steps: .*integer, not 'many'"),
        ("environment.num_envs = 1.5", "environment.num_envs: .*integer, not 1.5"),
        ("ppo.gamma = 'x'", "ppo.gamma: .*number, not 'x'"),
        ("ppo.gamma = 2.0", "ppo.gamma: .*less than or equal to 1, not 2.0"),
        ("ppo.clip_range = 1e999", "ppo.clip_range: .*positive number.*not inf"),
        ("train.seed = 4", "'train' .*'seed'"),
        ("ppo.seed = 4", "'ppo' .*'seed'"),
        ("ippo.clip_range = 0.1", "ippo.clip_range is ppo.clip_range now"),
        ("ppo.hidden = ()", r"ppo.hidden: .*not \(\)"),
        ("environment.num_envs = 0", "environment.num_envs: .*greater than 0, not 0"),
        ("train.num_env_steps = -1", "train.num_env_steps: .*greater than 0, not -1"),
        ("train.eval_episodes = 0", "train.eval_episodes: .*greater than 0, not 0"),
        ("ppo.num_epochs = 0", "ppo.num_epochs: .*greater than 0, not 0"),
        ("ppo.num_minibatches = 33", "num_minibatches = 33 .*32 rows"),  # 4 environments x 8 steps
        ("train.num_env_steps = ", "--gin_bindings=train.num_env_steps = : write NAME = VALUE"),
        ("train.num_env_steps 5", "train.num_env_steps 5: write NAME = VALUE"),
        ("train.num_env_steps = 10**9", r"train.num_env_steps = 10\*\*9: .* number such as 1e9.* nothing is computed"),
        ("ppo.gamma = float('nan')", r"ppo.gamma = float\('nan'\): .*number such as"),
        ("ppo.gamma = (", r"ppo.gamma = \(: write NAME = VALUE"),
        ("ppo.gamma = %NOPE", "ppo.gamma = %NOPE: there is no macro NOPE"),
        ("ppo.clip_range = @linear", r"ppo.clip_range: .*@per_agent\(\), .*, not @linear$"),
        ("ppo.sequence_length = 3", 'ppo: sequence_length needs rnn = "gru"$'),
        ("train.agent = @ippo()", r"train.agent: .*@ippo, not @ippo\(\)"),
        ("include 'nowhere.gin'", "nowhere.gin"),
        ("ppo.hidden = (300_000, 64)", "ppo.hidden.0: .*less than or equal to 32768, not 300000"),
        ("environment.num_envs = 1e9", "num_envs = 1,000,000,000 .* GB of memory.* --max_gigabytes="),
        ("environment.num_envs = 9223372036854775808", "num_envs = 9,223,372,036,854,775,808 .* GB of memory"),
        ("train.rollout_steps = 1e9", "rollouts of 1,000,000,000 env steps takes about .* GB of memory"),
        ("train.eval_episodes = 1e9", "train.eval_episodes = 1,000,000,000 takes about .* GB of memory"),
    ],
)
def test_a_bad_gin_binding_is_refused(binding, says, warm_launch, tiny, store, tmp_path):
    outcome = warm_launch("launch.train", *tiny, f"--gin_bindings={binding}", *store)
    assert re.search(says, refusal(outcome, tmp_path))


def test_a_replay_of_a_kind_that_the_world_has_not_is_refused(warm_launch, tmp_path):
    outcome = warm_launch("launch.evaluate", "--policy=nearest", "--map=3m", "--replay=battle.avi")
    assert "--replay=battle.avi: replays of 3m are files that end in .html or .gif or .mp4" in refusal(
        outcome, tmp_path
    )


def test_a_bad_gin_binding_is_refused_in_a_process_of_its_own(launch, tiny, store, tmp_path):
    outcome = launch("launch.train", *tiny, "--gin_bindings=environment.map_name = '9m'", *store, cwd=tmp_path)
    assert "3s5z_vs_3s6z" in refusal(outcome, tmp_path)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["ippo.gin"], "environment.map_name is not set; add for example --gin_file=maps/3m.gin"),
        (["maps/3m.gin"], "train.agent is not set; add for example --gin_file=ippo.gin"),
        ([], "train.agent is not set"),
    ],
)
def test_a_missing_algorithm_or_map_is_asked_for(files, says, warm_launch, store, tmp_path):
    outcome = warm_launch("launch.train", *[f"--gin_file={name}" for name in files], *store)
    assert says in refusal(outcome, tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"# gamma\nppo.gamma = = 3", "line 2: ppo.gamma = = 3: write NAME = VALUE"),
        (b"# gamma\nippo.gama.x = 3", "No configurable matching 'ippo.gama'.* line 2"),
        (b"ppo.gamma = (", "write NAME = VALUE"),
        (b"include 'broken.gin'", "includes itself"),
        (b"\x80\x00", "can't decode"),
    ],
)
def test_a_gin_file_that_is_not_gin_is_refused(text, says, warm_launch, tiny, store, tmp_path):
    path = tmp_path / "broken.gin"
    path.write_bytes(text.replace(b"broken.gin", str(path).encode()))
    outcome = warm_launch("launch.train", *tiny, f"--gin_file={path}", *store)
    assert re.search(f"error: {path}.*{says}", refusal(outcome, tmp_path))


def test_an_sqlite_path_that_cannot_be_used_is_refused(launch, tiny, store, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = launch("launch.train", *tiny, *store, f"--tracking_uri=sqlite:///{tmp_path}/file/m.db", cwd=tmp_path)
    assert "error: --tracking_uri: " in refusal(outcome, tmp_path)
    assert not (tmp_path / "root" / "config.gin").exists()


@pytest.mark.parametrize(
    ("module", "flags"),
    [
        ("launch.evaluate", ["--policy=random", "--map=3m", "--episodes=1000000000"]),
        ("launch.benchmark", ["--what=env", "--num_envs=1000000000"]),
        ("launch.benchmark", ["--what=train", "--max_gigabytes=0.1"]),
    ],
)
def test_what_takes_more_memory_than_there_may_be_is_refused(module, flags, warm_launch, tmp_path):
    assert re.search(r"takes about [\d.,]+ GB of memory", refusal(warm_launch(module, *flags), tmp_path))


@pytest.mark.parametrize(
    ("flag", "says"),
    [("--map=9m", "unknown map '9m'"), ("--gin_bindings=environment.backend = 'sc2'", "only the embedded battle")],
)
def test_what_cannot_be_timed_is_refused_by_the_benchmark(flag, says, warm_launch, tmp_path):
    assert says in refusal(warm_launch("launch.benchmark", "--what=env", flag), tmp_path)


def test_a_run_without_a_checkpoint_is_not_evaluated(warm_launch, tmp_path):
    (tmp_path / "config.gin").write_text("train.agent = @ippo\nenvironment.map_name = '3m'\n")
    outcome = warm_launch("launch.evaluate", f"--root_dir={tmp_path}")
    assert "holds no checkpoint yet" in refusal(outcome, tmp_path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"import pathlib", "line 1 is an import; only tf_marl's settings are read"),
        (b"from __gin__ import dynamic_registration", "line 1 is an import"),
        (b"include 'maps/3m.gin'", "line 1 is an include"),
        (b"train.agent = @tf_agents.networks.utils.mlp_layers", "tf_agents.networks.utils.mlp_layers is none of"),
        (b"ppo.clip_range = @os.getcwd()", "os.getcwd is none of tf_marl's settings"),
        (b"ppo.enforce = [@backtrack(), {'a': @a/b/nobody()}]", "a/b/nobody is none of tf_marl's settings"),
        (b"mlp_layers.activation_fn = None", "mlp_layers is none of tf_marl's settings"),
        (b"gin.macro.value = 3", "gin.macro is none of tf_marl's settings"),
        (b"environment.num_envs = %NOPE", "%NOPE is set nowhere in it"),
        (b"environment.map_name = ", "parse"),
        (bytes(range(256)), "its config.gin is no text"),
    ],
)
@pytest.mark.parametrize("module", ["launch.evaluate", "launch.export"])
def test_the_configuration_of_a_stranger_s_run_is_only_settings(module, line, says, warm_launch, tmp_path):
    ours = b"\ntrain.agent = @ippo\nppo.clip_range = @per_agent()\nper_agent.alpha = 1.0\nenvironment.map_name = '3m'\n"
    (tmp_path / "config.gin").write_bytes(line + ours)
    outcome = warm_launch(module, f"--root_dir={tmp_path}", *(["--out=out"] if module == "launch.export" else []))
    line = refusal(outcome, tmp_path)
    assert f"--root_dir={tmp_path}: " in line
    assert says in line


@pytest.mark.parametrize(
    ("module", "flags"),
    [
        ("launch.train", ["gin_file", "gin_bindings", "root_dir", "seed", "tracking_uri", "experiment", "run_name"]),
        ("launch.evaluate", ["root_dir", "model_uri", "saved_model", "policy", "map", "episodes", "seed", "replay"]),
        ("launch.baselines", ["map", "episodes", "out"]),
        ("launch.benchmark", ["what", "map", "num_envs", "repeats", "gin_file", "gin_bindings"]),
    ],
)
def test_help_answers_at_once(module, flags, launch, no_tensorflow, tmp_path):
    outcome = launch(module, "--help", cwd=tmp_path, env=no_tensorflow)
    assert outcome.code == 0
    assert outcome.stderr == ""
    assert all(f"--{flag}:" in outcome.stdout for flag in flags)
    assert "--[no]json" in outcome.stdout
