"""The scripted teams' win rates, drawn from their table."""

from tf_marl import tracking
from tf_marl.experiments import baselines


def row(map_name, policy, won):
    numbers = {"battle_won_mean": won, "battle_won_low": won - 0.1, "battle_won_high": won + 0.1, "return_mean": 9.0}
    return {"map": map_name, "policy": policy, "episodes": 64, "seed": 3} | numbers | {"episode_length_mean": 20.0}


def test_the_page_is_drawn_from_the_table(tmp_path):
    baselines.save([row(name, policy, 0.5) for name in ("3m", "8m") for policy in ("random", "nearest")], tmp_path)
    assert len(baselines.draw(tmp_path)) == 4
    page = (tmp_path / "win_rates.md").read_text("utf-8")
    assert f"`tf-marl baselines --episodes=64 --seed=3`, code of {tracking.git_commit()}" in page
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    assert cells[0] == ["map", "random", "nearest"]
    assert cells[2:] == [[name, *["0.50 (0.40 to 0.60)"] * 2] for name in ("3m", "8m")]
