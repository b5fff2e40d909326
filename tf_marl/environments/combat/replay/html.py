"""The page of a replay consists of the parts in `web/` and the battles as JSON, joined in one file."""

import json
from importlib import resources

import numpy as np

from tf_marl.environments.combat.replay import layout
from tf_marl.environments.combat.replay.recording import Episode, unit_types

_SCRIPTS = ("battlefield.js", "panels.js", "controls.js")  # in this order: each uses those before it


def page(episodes: list[Episode], title: str = "") -> str:
    """Returns the replay as one HTML page that needs no other file.

    Args:
        episodes: the episodes to show, in this order; all from one recording.
        title: who plays, for people to read.
    """
    battle = episodes[0].battle
    types = unit_types(episodes)
    data = {
        "map": battle.map_name,
        "title": title,
        "seed": battle.seed,
        "terrain": ["".join(row) for row in battle.terrain.T],  # a string per y
        "view": layout.view(episodes),
        "moves": battle.moves,
        "types": [{"name": name.replace("_", " "), "shape": layout.SHAPES[i]} for i, name in enumerate(types)],
        "numAgents": len(battle.agents),
        "episodes": [_columns(episode, types) for episode in episodes],
    }
    # In a script element a "<" could end the data; in JSON it can always be spelled so.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page, style, script = _part("page.html"), _part("page.css"), "\n".join(map(_part, _SCRIPTS))
    return page.replace("{{style}}", style).replace("{{script}}", script).replace("{{replay}}", text)


def _part(name: str) -> str:
    return resources.files(__package__).joinpath("web", name).read_text("utf-8").removesuffix("\n")


def _columns(episode: Episode, types: list[str]) -> dict:
    """Returns an episode as numbers and texts for JSON, rounded to what people can see; `types` numbers the types."""

    def rounded(column: np.ndarray, digits: int) -> list:
        return np.round(column.astype(np.float64), digits).tolist()

    # Four actions a hexadecimal digit, the lowest action in the lowest bit of the first digit.
    padded = np.pad(episode.available, [(0, 0), (0, 0), (0, -episode.available.shape[2] % 4)])
    digits = padded.reshape(*padded.shape[:2], -1, 4) @ np.array([1, 2, 4, 8])
    return {
        "units": [
            {
                "type": types.index(u.name),
                "radius": u.radius,
                "health": u.max_health,
                "shield": u.max_shield,
                "energy": u.max_energy,
                "sight": u.sight,
                "attackDistance": u.attack_distance,
            }
            for u in episode.battle.units
        ],
        "outcome": episode.outcome,
        "slots": episode.slots.tolist(),
        "x": rounded(episode.x, 2),
        "y": rounded(episode.y, 2),
        "health": rounded(episode.health, 1),
        "shield": rounded(episode.shield, 1) if episode.shield.any() else None,
        "energy": rounded(episode.energy, 1) if episode.energy.any() else None,
        "target": episode.target.tolist(),
        "available": [["".join(f"{digit:x}" for digit in agent) for agent in row] for row in digits],
        "action": episode.action.tolist(),
        "reward": rounded(episode.reward, 4),
        "value": None if episode.value is None else rounded(episode.value, 3),
    }
