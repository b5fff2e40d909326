"""Shows a person who waits what an experiment does."""

import sys

from tqdm import tqdm


def tell(text: str) -> None:
    """Writes a line to stderr, so that stdout holds results alone."""
    print(text, file=sys.stderr, flush=True)


class ProgressBar:
    """Shows a bar with time left, return, outcomes, trust region and speed, and a line for each evaluation.

    The trust region, of learners that measure it, is the last update's: its largest joint total variation, and alpha.
    Where stderr is no terminal, there are lines alone.
    """

    def __init__(self, num_env_steps: int, env_steps: int):
        """Draws the bar.

        Args:
            num_env_steps: where training ends.
            env_steps: where it begins.
        """
        self._bar = tqdm(
            total=num_env_steps,
            initial=env_steps,
            unit=" env steps",
            unit_scale=True,
            disable=None,  # unless stderr is a terminal
            dynamic_ncols=True,
            desc="compiling",
        )
        self._episodes: dict[str, str] = {}  # of the last update in which any ended
        self._joint_tv = ""

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()

    def __call__(self, env_steps: int, metrics: dict[str, float]) -> None:
        """Takes metrics as training reports them; so it serves as `record`.

        Args:
            env_steps: so far.
            metrics: of an update or of an evaluation.
        """
        if "eval/return_mean" in metrics:
            shown = [f"{label} {value:.2f}" for label, value in _outcomes(metrics, "eval").items()]
            shown += [
                f"return {metrics['eval/return_mean']:5.2f}",
                f"length {metrics['eval/episode_length_mean']:.0f}",
            ]
            shown += [f"joint TV {self._joint_tv}"] if self._joint_tv else []
            line = "   ".join(shown)
            self._bar.write(f"{env_steps:>12,} env steps   greedy: {line}", file=sys.stderr)
            return
        self._bar.set_description("training", refresh=False)
        if "trust_region/joint_tv_max" in metrics:
            alpha = f" (alpha {metrics['trust_region/alpha']:.2g})" if "trust_region/alpha" in metrics else ""
            self._joint_tv = f"{metrics['trust_region/joint_tv_max']:.2f}{alpha}"
        if "train/return_mean" in metrics:
            self._episodes = {"return": f"{metrics['train/return_mean']:.1f}"}
            self._episodes |= {label: f"{value:.2f}" for label, value in _outcomes(metrics, "train").items()}
        trust_region = {"joint TV": self._joint_tv} if self._joint_tv else {}
        self._bar.set_postfix(self._episodes | trust_region, refresh=False)
        self._bar.update(min(env_steps, self._bar.total) - self._bar.n)


def _outcomes(metrics: dict[str, float], prefix: str) -> dict[str, float]:
    """Returns the share of episodes that came to each of the world's outcomes, by short labels."""
    means = {name.partition("/")[2]: value for name, value in metrics.items() if name.startswith(f"{prefix}/")}
    of_all = ("return_mean", "episode_length_mean")
    shares = {name: value for name, value in means.items() if name.endswith("_mean") and name not in of_all}
    return {name.removesuffix("_mean").removeprefix("battle_"): value for name, value in shares.items()}
