"""Says where files are: beside the package in a checkout, inside it where it was installed from a wheel."""

import pathlib
import re
import time

_PACKAGE = pathlib.Path(__file__).resolve().parent
# The folder that holds the project, or None where the package was installed without it.
CHECKOUT = _PACKAGE.parent if (_PACKAGE.parent / "launch" / "app.py").is_file() else None
GIN_FOLDER = (CHECKOUT or _PACKAGE) / "gin"
# Runs, results and the local MLflow store; without a checkout, of the directory in which the process began.
STORE_FOLDER = (CHECKOUT or pathlib.Path.cwd()) / "mlflow_artifacts"


def new_run_folder(name: str) -> pathlib.Path:
    """Returns a folder for a run that begins now; it is named after the run, as far as a folder can be.

    The folder is not made.
    """
    name = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).lstrip(".")[:200]
    return STORE_FOLDER / "runs" / f"{name}_{time.strftime('%Y%m%d_%H%M%S')}"


def shown(path: pathlib.Path) -> str:
    """Returns a path as one would type it in the current directory."""
    return str(path.relative_to(pathlib.Path.cwd())) if path.is_relative_to(pathlib.Path.cwd()) else str(path)
