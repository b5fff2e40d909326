"""What the launchers share: quiet start, flags, gin, and errors a user can act on in one line.

Nothing heavy is imported until the flags have been read, so `--help` answers at once and a wrong flag costs nothing.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import logging as stdlib_logging
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from absl import app, flags, logging

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
GIN_FOLDER = CHECKOUT / "gin"
STORE_FOLDER = CHECKOUT / "mlflow_artifacts"
BAD_INPUT = 2  # exit code
FAILED = 1  # exit code
INTERRUPTED = 130  # exit code: 128 + SIGINT; SIGTERM's is 143

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # the flags defined below belong to the launcher that asks for them


class BadInput(Exception):
    """The user's input cannot be used; the message says which and what to do, in one line."""


class Failure(Exception):
    """What was begun cannot go on, through no fault of the program's; the message says why and what to do."""


def define_gin_flags() -> None:
    flags.DEFINE_multi_string(
        "gin_file", [], "Gin file, from the current directory or the checkout's gin/; repeats, later ones win."
    )
    flags.DEFINE_multi_string("gin_bindings", [], "Gin binding such as 'train.num_env_steps = 5e6'; repeats.")


def define_plugin_flag() -> None:
    flags.DEFINE_multi_string(
        "plugin", [], "Python module that makes a learner, a world or a sink of yours known; repeats."
    )


def define_store_flag() -> None:
    flags.DEFINE_string("tracking_uri", None, "MLflow store; by default SQLite in the checkout's mlflow_artifacts/.")


def define_tracking_flags() -> None:
    define_store_flag()
    flags.DEFINE_string("experiment", "tf_marl", "MLflow experiment.")
    flags.DEFINE_string("run_name", None, "MLflow run name; by default made of algorithm, map and seed.")


def define_json_flag() -> None:
    flags.DEFINE_bool("json", False, "Print one JSON object on the last line of stdout.")


def define_memory_flag() -> None:
    flags.DEFINE_float("max_gigabytes", None, "Memory that it may take; by default what is free.", lower_bound=0.0)


def define_sc2_flag() -> None:
    flags.DEFINE_string(
        "sc2_python", None, "Interpreter that has smac, for the backend sc2; by default $SC2_PYTHON, or this one."
    )


def define_seed_flag() -> None:
    flags.DEFINE_integer("seed", 0, "Root of all randomness.", lower_bound=0, upper_bound=2**31 - 1)


def run(main: Callable[[], int]) -> None:
    """Parses the flags, calls `main`, exits with what it returns; bad input becomes one line and exit code 2."""

    def parse(argv: list[str]) -> list[str]:
        try:
            return FLAGS(argv)
        except flags.Error as error:
            sys.exit(_complain(error))
        except SystemExit:
            sys.exit(0)  # absl has shown the help that was asked for, and would call that a failure

    def call(argv: list[str]) -> int:
        if len(argv) > 1:
            return _complain(f"unexpected argument {argv[1]!r}; every option is a --flag=value (see --help)")
        if "sc2_python" in FLAGS and FLAGS.sc2_python:
            os.environ["SC2_PYTHON"] = FLAGS.sc2_python
        logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().setFormatter(stdlib_logging.Formatter("warning: %(message)s"))
        try:
            if "plugin" in FLAGS and FLAGS.plugin:
                _import_plugins(FLAGS.plugin)
            return main()
        except BadInput as error:
            return _complain(error)
        except Failure as error:
            return _complain(error, FAILED)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED

    app.run(call, flags_parser=parse)


def _import_plugins(names: Iterable[str]) -> None:
    """Raises: BadInput: one cannot be imported; names it."""
    from tf_marl import config

    for name in names:
        with bad_input(f"--plugin={name}: "), _stderr_held_back():
            importlib.import_module(name)
        config.trust(name)


def _complain(error: object, code: int = BAD_INPUT) -> int:
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    return code


@contextlib.contextmanager
def bad_input(what: str = "", kinds: type[Exception] | tuple[type[Exception], ...] = Exception) -> Iterator[None]:
    """Turns what fails inside, of some kinds, into bad input: the message is `what` and the first line of the error."""
    try:
        yield
    except BadInput:
        raise
    except kinds as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BadInput(f"{what}{lines[0]}") from error


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Drops what is written to file descriptor 2, but shows it where an exception or the end of the process comes.

    TensorFlow's C++ start-up notices heed no switch before it is imported, and what ends the process looks like them.
    """
    sys.stderr.flush()
    # The shell reads to the end, which is this process's own if it comes first.
    shows = ["sh", "-c", 'said=$(cat); [ -z "$said" ] || echo "$said" >&2']
    with subprocess.Popen(shows, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True) as watcher:
        assert watcher.stdin
        kept = os.dup(2)
        os.dup2(watcher.stdin.fileno(), 2)
        nothing_to_show = True
        try:
            yield
        except Exception:
            nothing_to_show = False
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            if nothing_to_show:
                watcher.kill()


class Stop:
    """Whether someone asked the process to end: `stop()`, and how."""

    def __init__(self) -> None:
        self._signal: int | None = None

    def __call__(self) -> bool:
        return self._signal is not None

    @property
    def code(self) -> int:
        """What a process that ends for that reason exits with; 0 if it was not asked to."""
        return 0 if self._signal is None else 128 + self._signal

    def ask(self, signal_number: int) -> None:
        self._signal = signal_number


@contextlib.contextmanager
def first_signal() -> Iterator[Stop]:
    """Yields whether Ctrl-C or SIGTERM came inside, which by itself does nothing; a second one acts as ever.

    An exception that is raised wherever Python happens to be can be swallowed there, by a destructor for one.
    """
    stop = Stop()

    def remember(signal_number, frame):
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.ask(signal_number)
        again = "; Ctrl-C again leaves at once" if signal_number == signal.SIGINT else ""
        # Not by `print`, in the middle of which this may be.
        os.write(sys.stderr.fileno(), f"\nsaving and stopping after this update{again}\n".encode())

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def import_quietly() -> None:
    """Imports TensorFlow and what stands on it, without their notices; errors still surface as exceptions."""
    gc.disable()  # nothing imported is garbage, and looking for it takes a fifth of the time
    with _stderr_held_back():
        importlib.import_module("tf_marl.training.train")
        tf = importlib.import_module("tensorflow")  # after tf_marl, which settles the Keras that TensorFlow takes
        tf.config.list_physical_devices()
    gc.freeze()
    gc.enable()


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process of its own, so that what TensorFlow and XLA keep for good is given back.

    It starts from this one, in which TensorFlow is imported but has computed nothing yet.
    """
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def writable_folder(path: str | pathlib.Path, flag: str = "root_dir") -> pathlib.Path:
    """The folder, made if need be; the flag is whose value it is.

    Raises:
        BadInput: nothing can be written there.
    """
    try:
        folder = pathlib.Path(path).expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(1 << 16))  # a disk may be full; a run begins with less
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or what is no path at all
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"--{flag}={path}: cannot write there ({why}); mend that or name another folder") from None
    return folder


def new_root_dir(run_name: str) -> pathlib.Path:
    """A folder for a run that begins now, beside the others: named after it, as far as a folder can be."""
    name = re.sub(r"[^\w.-]+", "_", run_name, flags=re.ASCII).lstrip(".")[:200]
    return STORE_FOLDER / "runs" / f"{name}_{time.strftime('%Y%m%d_%H%M%S')}"


def lock(folder: pathlib.Path) -> None:
    """Keeps other processes from training in a folder until this one ends, however it does.

    Raises:
        BadInput: another has it.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)  # never closed, so held to the end
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode()
        raise BadInput(
            f"--root_dir={folder}: process {owner} trains there; wait for it or name another folder"
        ) from None
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())


def gin_paths(names: list[str]) -> list[str]:
    """Where the named gin files are.

    Raises:
        BadInput: one is in neither place.
    """
    paths = []
    for name in names:
        found = next((path for path in (pathlib.Path(name), GIN_FOLDER / name) if path.is_file()), None)
        if found is None:
            known = ", ".join(sorted(str(path.relative_to(GIN_FOLDER)) for path in GIN_FOLDER.rglob("*.gin")))
            raise BadInput(f"--gin_file={name}: no such file, here or in gin/, which holds: {known}")
        paths.append(str(found))
    return paths


def read_gin(paths: list[str], bindings: list[str]) -> None:
    """Reads gin files, then bindings.

    Raises:
        BadInput: a name or a value in them is none; names the file and the line, or the binding.
    """
    import gin

    from tf_marl import config
    from tf_marl.experiments import runs

    gin.add_config_file_search_path(str(GIN_FOLDER))
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)  # gin logs an error for every place where an included file is not
    try:
        for path in paths:
            with _readable(path):
                gin.parse_config_file(path)
        for binding in bindings:
            with _readable(f"--gin_bindings={binding}"):
                gin.parse_config(binding)
    finally:
        logging.set_verbosity(verbosity)
    with bad_input():
        config.check_names()
    try:
        gin.finalize()
    except ValueError as error:
        lacks = re.match("No bindings specified for '(.*)/gin.macro'", str(error))
        if not lacks:
            raise BadInput(error) from None
        macro = lacks[1]
        settings = runs.flat(gin.config_str(max_line_length=10_000))
        users = (f"{name} = {value}" for name, value in settings.items() if f"%{macro}" in value)
        raise BadInput(
            f"{next(users)}: there is no macro {macro}; write the value itself, or add {macro} = VALUE"
        ) from None


@contextlib.contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turns what gin says of a file or a binding into bad input that tells where, and what to write instead."""
    try:
        yield
    except (SyntaxError, tokenize.TokenError) as error:
        if isinstance(error, SyntaxError) and error.filename:  # perhaps one that the file includes
            where = f"{error.filename}, line {error.lineno}: {(error.text or '').strip()}"
        raise BadInput(
            f"{where}: write NAME = VALUE, where a value is a number such as 1e9, a 'text' in quotes, True, False or"
            " None, a [list] of values, @NAME, @NAME() or %MACRO; nothing is computed"
        ) from None
    except RecursionError:
        raise BadInput(f"{where}: includes itself, or has too many brackets in brackets") from None
    except Exception as error:
        said, *place = str(error).splitlines()
        of_a_file = place[:1] if place and "In file" in place[0] else []
        raise BadInput(" ".join([f"{where}:", said, *of_a_file])) from error


def parse_gin(paths: list[str], bindings: list[str], needs_agent: bool = True) -> None:
    """Reads the configuration; call `import_quietly` first, it makes the names known.

    Raises:
        BadInput: unknown name or unreadable value, or no map, or no algorithm where one is needed.
    """
    from tf_marl.experiments import runs

    read_gin(paths, bindings)
    needed = {"train.agent": "ippo.gin"} if needs_agent else {}
    for name, example in (needed | {"environment.map_name": "maps/3m.gin"}).items():
        if not runs.is_set(name):
            raise BadInput(f"{name} is not set; add for example --gin_file={example}")


def tracking_uri() -> str:
    """The store that --tracking_uri names, by default the local one."""
    from tf_marl import tracking

    return FLAGS.tracking_uri or tracking.local_store(STORE_FOLDER)


def log_results(name: str, params: dict[str, str], tags: dict[str, str], files: Iterable[pathlib.Path]) -> str:
    """Keeps the files a study wrote in MLflow, as a run by the flag's name or this one. Returns its id.

    Raises:
        BadInput: the store does not take them; the files are as they were.
    """
    from tf_marl import tracking

    # Started again, the study logs a new run, of all that it wrote; so the journal need not outlive this one.
    with tempfile.TemporaryDirectory() as journal:
        with bad_input("--tracking_uri: "):
            tracker = tracking.Tracker(
                tracking_uri(),
                FLAGS.experiment,
                FLAGS.run_name or name,
                params=params,
                tags=tags,
                folder=pathlib.Path(journal),
            )
        for path in files:
            tracker.file(path)
        if tracker.finish("FINISHED") or tracker.run_id is None:
            raise BadInput("--tracking_uri: the store stopped answering; --out has all, and a new start logs it")
    return tracker.run_id


def print_json(result: dict) -> None:
    print(json.dumps(result), flush=True)
