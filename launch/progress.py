"""What a person watching a training run sees."""

import sys

from tqdm import tqdm


class ProgressBar:
    """A bar with time left, return, win rate and speed, and a line per evaluation; lines alone where no one watches."""

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

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()

    def __call__(self, env_steps: int, metrics: dict[str, float]) -> None:
        """A `record` function: takes metrics as training reports them."""
        if "eval/battle_won_mean" in metrics:
            self._bar.write(
                f"{env_steps:>12,} env steps   greedy: won {metrics['eval/battle_won_mean']:.2f}"
                f"   return {metrics['eval/return_mean']:5.2f}   length {metrics['eval/episode_length_mean']:.0f}",
                file=sys.stderr,
            )
            return
        self._bar.set_description("training", refresh=False)
        if "train/return_mean" in metrics:
            self._bar.set_postfix(
                {"return": f"{metrics['train/return_mean']:.1f}", "won": f"{metrics['train/battle_won_mean']:.2f}"},
                refresh=False,
            )
        self._bar.update(min(env_steps, self._bar.total) - self._bar.n)
