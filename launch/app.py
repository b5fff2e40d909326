"""What the launchers share: quiet start, flags, gin, and errors a user can act on in one line.

Nothing heavy is imported until the flags have been read, so `--help` answers at once and a wrong flag costs nothing.
"""

import contextlib
import gc
import importlib
import json
import logging as stdlib_logging
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator

from absl import app, flags, logging

from tf_marl.compile import cache
from tf_marl.config import first_line
from tf_marl.places import STORE_FOLDER
from tf_marl.quiet import stderr_held_back

BAD_INPUT = 2  # exit code
FAILED = 1  # exit code
INTERRUPTED = 130  # exit code: 128 + SIGINT; SIGTERM's is 143

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # the flags defined below belong to the launcher that asks for them


class BadInput(Exception):
    """Says which of the user's input cannot be used and what to do, in one line."""


class Failure(Exception):
    """Says why what was begun cannot go on and what to do, in one line; the program is not at fault."""


def define_gin_flags() -> None:
    """Defines --gin_file and --gin_bindings."""
    flags.DEFINE_multi_string(
        "gin_file", [], "Gin file, from the current directory or the library's gin/; repeats, later ones win."
    )
    flags.DEFINE_multi_string("gin_bindings", [], "Gin binding such as 'train.num_env_steps = 5e6'; repeats.")


def define_plugin_flag() -> None:
    """Defines --plugin, for learners, worlds and sinks of the user's own."""
    flags.DEFINE_multi_string(
        "plugin", [], "Python module that makes a learner, a world or a sink of yours known; repeats."
    )


def define_store_flag() -> None:
    """Defines --tracking_uri."""
    flags.DEFINE_string("tracking_uri", None, f"MLflow store; by default SQLite in {STORE_FOLDER}.")


def define_tracking_flags() -> None:
    """Defines --tracking_uri, --experiment and --run_name."""
    define_store_flag()
    flags.DEFINE_string("experiment", "tf_marl", "MLflow experiment.")
    flags.DEFINE_string("run_name", None, "MLflow run name; by default made of algorithm, map and seed.")


def define_json_flag() -> None:
    """Defines --json, for `print_json`."""
    flags.DEFINE_bool("json", False, "Print one JSON object on the last line of stdout.")


def define_memory_flag() -> None:
    """Defines --max_gigabytes."""
    flags.DEFINE_float("max_gigabytes", None, "Memory that it may take; by default what is free.", lower_bound=0.0)


def define_sc2_flag() -> None:
    """Defines --sc2_python; `run` hands its value on as $SC2_PYTHON."""
    flags.DEFINE_string(
        "sc2_python", None, "Interpreter that has smac, for the backend sc2; by default $SC2_PYTHON, or this one."
    )


def define_seed_flag() -> None:
    """Defines --seed."""
    flags.DEFINE_integer("seed", 0, "Root of all randomness.", lower_bound=0, upper_bound=2**31 - 1)


def run(main: Callable[[], int]) -> None:
    """Parses the flags, calls `main` and ends the process; bad input becomes one line and exit code 2.

    Args:
        main: the launcher's; returns the exit code.
    """

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
    """Raises BadInput: a module cannot be imported; names it."""
    from tf_marl import settings

    for name in names:
        with bad_input(f"--plugin={name}: "), stderr_held_back():
            importlib.import_module(name)
        settings.trust(name)


def _complain(error: object, code: int = BAD_INPUT) -> int:
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    return code


@contextlib.contextmanager
def bad_input(what: str = "", kinds: type[Exception] | tuple[type[Exception], ...] = Exception) -> Iterator[None]:
    """Turns errors of some kinds into bad input: the message is `what` and the first line of the error."""
    try:
        yield
    except BadInput:
        raise
    except kinds as error:
        raise BadInput(f"{what}{first_line(error)}") from error


def import_quietly(keeps_programs: bool = True) -> None:
    """Imports TensorFlow and what stands on it, without their notices.

    Args:
        keeps_programs: whether what XLA compiles is kept in files for later commands, which then start sooner.
    Raises:
        Failure: TF-Agents is not installed, which pip cannot do along with the rest.
    """
    if keeps_programs:
        cache.keep_programs(STORE_FOLDER / "compiled")
    gc.disable()  # nothing imported is garbage, and looking for it takes a fifth of the time
    try:
        with stderr_held_back():
            importlib.import_module("tf_marl.training")
            tf = importlib.import_module("tensorflow")  # after tf_marl, which settles the Keras that TensorFlow takes
            tf.config.list_physical_devices()
    except ModuleNotFoundError as missing:
        if missing.name == "tf_agents":
            raise Failure(missing) from None
        raise
    gc.freeze()
    gc.enable()


def writable_folder(path: str | pathlib.Path, flag: str = "root_dir") -> pathlib.Path:
    """Returns the folder's absolute path, after making it if need be.

    Args:
        path: of the folder.
        flag: whose value it is.
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


def writable_file(path: str, flag: str) -> pathlib.Path:
    """Returns a file's absolute path, after making its folder if need be.

    Args:
        path: of the file.
        flag: whose value it is.
    Raises:
        BadInput: no file can be written there.
    """
    file = writable_folder(pathlib.Path(path).parent, flag) / pathlib.Path(path).name
    if file.is_dir():
        raise BadInput(f"--{flag}={path}: is a folder; name a file")
    return file


def read_gin(files: Iterable[str], bindings: Iterable[str], needs_agent: bool = True) -> None:
    """Reads the configuration; call `import_quietly` first, which makes the names known.

    Args:
        files: gin files.
        bindings: gin bindings, which come last.
        needs_agent: whether an algorithm must be set, besides a map.
    Raises:
        BadInput: a file, a name or a value is wrong, or a setting is missing; names it.
    """
    from tf_marl import settings

    needed = {"train.agent": "ippo.gin"} if needs_agent else {}
    with bad_input():
        settings.read(list(files), list(bindings), needed | {"environment.map_name": "maps/3m.gin"})


def check_gin_files(files: Iterable[str]) -> None:
    """Raises BadInput: a gin file is not there. Takes no time, so it comes before TensorFlow is imported."""
    from tf_marl import settings

    with bad_input():
        settings.find(list(files))


def check_store(root_dir: pathlib.Path | None = None) -> None:
    """Checks the store that --tracking_uri names, if it names one: that it answers.

    Args:
        root_dir: of a run; one that has begun keeps what its store does not take, so nothing is checked.
    Raises:
        BadInput: the store cannot be used.
    """
    from tf_marl import tracking
    from tf_marl.experiments import runs

    if FLAGS.tracking_uri and not (root_dir and tracking.has_begun(root_dir / runs.TRACKING_NAME)):
        with bad_input("--tracking_uri: "):
            tracking.check_reachable(FLAGS.tracking_uri)


def tracking_uri() -> str:
    """Returns the address of the store that --tracking_uri names, by default of the local one."""
    from tf_marl import tracking

    return FLAGS.tracking_uri or tracking.local_store(STORE_FOLDER)


def log_results(name: str, params: dict[str, str], tags: dict[str, str], files: Iterable[pathlib.Path]) -> str:
    """Keeps the files that a study wrote in MLflow, as a run.

    Args:
        name: of the run, unless --run_name gives one.
        params: of the run.
        tags: of the run.
        files: to keep as artifacts.
    Returns:
        The run's id.
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
    """Prints one JSON object on a line of stdout, if --json asks for it."""
    if FLAGS.json:
        print(json.dumps(result), flush=True)
