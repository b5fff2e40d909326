"""Runs a command by its name: tf-marl train --gin_file=ippo.gin --gin_file=maps/3m.gin"""

import importlib.util
import os
import pkgutil
import runpy
import sys

_NOT_COMMANDS = ("app",)


def main() -> None:
    """Runs the command that the first argument names; the others are its flags. `--help` lists the commands."""
    # A wheel has the commands inside this package, a checkout beside it.
    package = "tf_marl.launch" if importlib.util.find_spec("tf_marl.launch") else "launch"
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        sys.exit("error: the commands are not installed; run tf-marl in the checkout, or install its wheel")
    modules = pkgutil.iter_modules(found.submodule_search_locations)
    commands = sorted(module.name for module in modules if module.name not in _NOT_COMMANDS)
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print(f"tf-marl COMMAND --flag=value ...; COMMAND is one of: {', '.join(commands)}")
        print("tf-marl COMMAND --help tells a command's flags")
        return
    if name not in commands:
        print(f"error: tf-marl {name}: no such command; choose one of: {', '.join(commands)}", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    sys.path.insert(0, os.getcwd())  # as `python -m` has it: --plugin finds what lies in the current directory
    runpy.run_module(f"{package}.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
