"""Runs what launch.benchmark --what=export wrote, on JAX's device: python launch/run_exported.py DIR

It needs jax and numpy and nothing of this project, so that the file and the folder can be taken to any machine.
"""

import argparse
import json
import pathlib
import statistics
import time


def main() -> None:
    """Compiles and runs the module in the folder that is given, and prints the first call's metrics and the speed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=7, help="timed calls, after one that warms up")
    arguments = parser.parse_args()
    if not (arguments.folder / "module.json").is_file():
        parser.error(f"{arguments.folder} holds no module.json; launch.benchmark --what=export --out=DIR writes one")
    try:
        import jax
        import numpy as np
        from jax.extend import backend
    except ImportError as missing:
        parser.error(f"{missing}; pip install jax")

    about = json.loads((arguments.folder / "module.json").read_text("utf-8"))
    jax.config.update("jax_enable_x64", True)  # the counters are 64 bits wide
    client = backend.get_backend()
    began = time.perf_counter()
    text = (arguments.folder / "module.mlir").read_text("utf-8")
    executable = client.compile_and_load(text, client.devices()[:1])
    compile_seconds = time.perf_counter() - began
    with np.load(arguments.folder / "arguments.npz") as file:
        values = [jax.device_put(file[name]) for name in sorted(file)]
    names, env_steps, seconds = about["outputs"], [], []
    for i in range(arguments.repeats + 1):
        began = time.perf_counter()
        outputs = executable.execute(values)
        metrics = {name: float(np.asarray(value)) for name, value in zip(names, outputs, strict=False)}
        seconds.append(time.perf_counter() - began)
        env_steps.append(metrics["tally/env_steps"])
        values = [value if j is None else outputs[j] for value, j in zip(values, about["feedback"], strict=True)]
        if i == 0:
            print(json.dumps({"first_call": metrics}))
    speeds = [steps / took for steps, took in zip(env_steps[1:], seconds[1:], strict=True)]
    print(
        json.dumps(
            {name: about[name] for name in ("map", "num_envs")}
            | {
                "device": str(client.devices()[0].device_kind),
                "compile_seconds": compile_seconds,
                "env_steps_per_second": statistics.median(speeds),
                "env_steps_per_second_min": min(speeds),
                "env_steps_per_second_max": max(speeds),
            }
        )
    )


if __name__ == "__main__":
    main()
