"""What a person watching a training run sees."""

import sys

from tqdm import tqdm


class ProgressBar:
    """A bar with time left, return, win rate, trust region and speed, and a line per evaluation.

    The trust region is the last update's: its largest joint total variation, and alpha. Where stderr is no terminal,
    there are lines alone.
    """

    def __init__(self, num_env_steps: int, env_steps: int):
        """Args: num_env_steps, where training ends, and env_steps, where it begins."""
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
        self._joint_tv = "unknown"

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()

    def __call__(self, env_steps: int, metrics: dict[str, float]) -> None:
        """A `record` function: takes metrics as training reports them."""
        if "eval/battle_won_mean" in metrics:
            self._bar.write(
                f"{env_steps:>12,} env steps   greedy: won {metrics['eval/battle_won_mean']:.2f}"
                f"   return {metrics['eval/return_mean']:5.2f}   length {metrics['eval/episode_length_mean']:.0f}"
                f"   joint TV {self._joint_tv}",
                file=sys.stderr,
            )
            return
        self._bar.set_description("training", refresh=False)
        self._joint_tv = f"{metrics['trust_region/joint_tv_max']:.2f} (alpha {metrics['trust_region/alpha']:.2g})"
        if "train/return_mean" in metrics:
            self._episodes = {
                "return": f"{metrics['train/return_mean']:.1f}",
                "won": f"{metrics['train/battle_won_mean']:.2f}",
            }
        self._bar.set_postfix(self._episodes | {"joint TV": self._joint_tv}, refresh=False)
        self._bar.update(min(env_steps, self._bar.total) - self._bar.n)
