"""Battles to watch: played once, kept env step by env step, shown as a page, a GIF or a film.

The page (`replay.html`, filled in by `page`) is one file that needs no network; GIF and MP4 show the same battles
without its panels. TensorFlow is imported only to play, so a wrong file name is told before it is loaded.
"""

import itertools
import json
import pathlib
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    import tensorflow as tf
    from tf_agents.policies import tf_policy
    from tf_agents.typing import types

    from tf_marl.environments.combat.environment import Combat, State
    from tf_marl.environments.combat.units import UnitType

SUFFIXES = (".html", ".gif", ".mp4")
_MOVES = ("no-op", "stop", "north", "south", "east", "west")  # the action after these attacks enemy 0, and so on
_KEPT = ("x", "y", "health", "shield", "energy", "target")  # of the simulator's units
_LABELS = {"marauder": "Mr", "medivac": "+", "zergling": "Zl", "spine_crawler": "Sp"}  # others: their first letter
_SHAPES = ((0, 0), (4, 0), (3, 0), (6, 0), (4, 45))  # per type on a map: corners (0 is a circle), degrees turned
_MARGIN = 2.5  # map units between the outermost unit and the edge of the picture
_MIN_VIEW = (20.0, 12.0)  # map units, width and height of the picture at least


class Unit(NamedTuple):
    """What does not change about a unit."""

    name: str  # of its type
    radius: float  # map units
    max_health: float
    max_shield: float
    max_energy: float  # of those who heal; the others have none


class Battle(NamedTuple):
    """What does not change in the episodes of one recording; N agents, M enemies, U = N + M units."""

    map_name: str
    terrain: np.ndarray  # [32, 32] of ".", "^" (a cliff, for cliff walkers alone) and "#", indexed [x, y]
    agents: tuple[Unit, ...]
    enemies: tuple[Unit, ...]
    sight: float  # map units, how far agents see
    attack_distance: float  # map units, how far enemies may be for SMAC to allow an attack
    seed: tuple[int, ...]  # two numbers, the recording's

    @property
    def units(self) -> tuple[Unit, ...]:
        return self.agents + self.enemies

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the A actions."""
        return _MOVES + tuple(f"attack {j}" for j in range(len(self.enemies)))


class Episode(NamedTuple):
    """One episode of T env steps; row t of [T + 1, ...] is the battle after t of them."""

    battle: Battle
    outcome: str  # won, lost, draw (everyone is dead) or timeout
    slots: np.ndarray  # [M] int: the enemy that each attack action names
    x: np.ndarray  # [T + 1, U] map units, to the east
    y: np.ndarray  # [T + 1, U] map units, to the north
    health: np.ndarray  # [T + 1, U] hit points; 0 is dead
    shield: np.ndarray  # [T + 1, U] shield points
    energy: np.ndarray  # [T + 1, U]
    target: np.ndarray  # [T + 1, U] int: the unit that this one attacks or heals, or -1
    available: np.ndarray  # [T + 1, N, A] bool
    action: np.ndarray  # [T, N] int: row t leads from t to t + 1
    reward: np.ndarray  # [T], likewise
    value: np.ndarray | None  # [T + 1, N]: the critic's, if there is one

    @property
    def num_steps(self) -> int:
        return len(self.reward)


def record(
    world: "Combat",
    policy: "tf_policy.TFPolicy",
    seed: Sequence[int],
    episodes: int,
) -> list[Episode]:
    """Plays as `Evaluator` does, one episode in each environment of `world`, and keeps the first of them.

    Args:
        world: B battles; B is part of what a seed means, so an evaluation's episodes need that evaluation's B.
        policy: greedy, as a rule; if its `info` tells a `value` [B, N], or [B, 1] of the team, that is kept too.
        seed: two numbers; equal seeds and weights give equal episodes.
        episodes: how many to keep, at most B.
    Returns:
        The episodes of the battles 0 to `episodes` - 1.
    """
    import tensorflow as tf

    from tf_marl.compile import graph
    from tf_marl.environments.combat.task import ATTACK_DISTANCE, SIGHT

    def kept(state: "State") -> dict[str, tf.Tensor]:
        """What is kept of a moment, battles last."""
        time_step = world.time_step(state)
        return {name: getattr(state.units, name) for name in _KEPT} | {
            "order": state.order,
            "available": state.available,
            "action": state.last_action,
            "reward": time_step.reward,
            "last": time_step.is_last(),
            "terminated": time_step.discount == 0.0,
            "won": world.info(state)["battle_won"],
        }

    @graph.function(jit_compile=True)
    def start() -> "tuple[State, types.NestedTensor, dict[str, tf.Tensor]]":
        state = world.reset(seed)
        return state, policy.get_initial_state(world.num_envs), kept(state)

    @graph.function(jit_compile=True)
    def step(
        state: "State", policy_state: "types.NestedTensor", t: tf.Tensor
    ) -> "tuple[State, types.NestedTensor, dict[str, tf.Tensor], dict[str, tf.Tensor]]":
        """Also returns: what the policy tells of the moment before."""
        state, _, action_step = world.play_step(policy, seed, t, state, world.time_step(state), policy_state)
        told = {"value": tf.transpose(action_step.info["value"])} if "value" in policy.info_spec else {}
        return state, action_step.state, kept(state), told

    state, policy_state, moment = start()
    moments = []
    going = np.ones(episodes, bool)
    for t in itertools.count():
        # One step beyond the last moment, which tells what that was worth.
        state, policy_state, after, told = step(state, policy_state, tf.constant(t))
        moments.append(moment | told)
        if not going.any():
            break
        moment = after
        going &= ~moment["last"].numpy()[:episodes]
    film = {name: np.stack([moment[name].numpy()[..., :episodes] for moment in moments]) for name in moments[0]}

    scenario = world.scenario

    def look(unit: "UnitType") -> Unit:
        energy = unit.heal.energy_max if unit.heal else 0.0
        return Unit(unit.name, unit.radius, unit.hit_points, unit.shield_points, energy)

    battle = Battle(
        map_name=scenario.name,
        terrain=np.where(scenario.pathable, ".", np.where(scenario.cliffs, "^", "#")),
        agents=tuple(map(look, scenario.agents)),
        enemies=tuple(map(look, scenario.enemies)),
        sight=SIGHT,
        attack_distance=ATTACK_DISTANCE,
        seed=tuple(int(word) for word in seed),
    )
    return [_episode(battle, {name: column[..., i] for name, column in film.items()}) for i in range(episodes)]


def _episode(battle: Battle, film: dict[str, np.ndarray]) -> Episode:
    """Cuts one battle's film [>= T + 1, ...] at the end of its first episode."""
    end = int(film["last"].argmax())
    film = {name: column[: end + 1] for name, column in film.items()}
    living, value = film["health"][end] > 0, film.get("value")
    if film["won"][end]:
        outcome = "won"
    elif not film["terminated"][end]:
        outcome = "timeout"
    else:
        outcome = "lost" if living.any() else "draw"
    return Episode(
        battle=battle,
        outcome=outcome,
        # Empty where the enemies are not shuffled.
        slots=film["order"][0] if film["order"].size else np.arange(len(battle.enemies)),
        **{name: film[name] for name in _KEPT},
        available=film["available"],
        value=np.repeat(value, len(battle.agents) // value.shape[1], axis=1) if value is not None else None,
        action=film["action"][1:],
        reward=film["reward"][1:],
    )


def check_name(path: str | pathlib.Path) -> None:
    """Raises ValueError if `write` does not know what to make of that file name."""
    if pathlib.Path(path).suffix not in SUFFIXES:
        raise ValueError(f"{path}: a replay is a file that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def write(path: str | pathlib.Path, episodes: list[Episode], title: str = "") -> None:
    """Writes the episodes, one recording's, as a page, a GIF or a film, whichever the file's name asks for.

    Args:
        path: ends in .html, .gif or .mp4.
        episodes: shown in this order.
        title: who plays, for people to read.
    Raises:
        ValueError: the name ends in something else.
    """
    check_name(path)
    suffix = pathlib.Path(path).suffix
    if suffix == ".html":
        pathlib.Path(path).write_text(page(episodes, title), "utf-8")
    elif suffix == ".gif":
        _write_gif(str(path), episodes)
    else:
        _write_mp4(str(path), episodes)


# The page


def page(episodes: list[Episode], title: str = "") -> str:
    """The replay as one self-contained HTML page."""
    battle = episodes[0].battle
    types = _types(battle)
    data = {
        "map": battle.map_name,
        "title": title,
        "seed": battle.seed,
        "terrain": ["".join(row) for row in battle.terrain.T],  # a string per y
        "view": _view(episodes),
        "sight": battle.sight,
        "attackDistance": battle.attack_distance,
        "moves": _MOVES,
        "types": [{"name": name.replace("_", " "), "shape": _SHAPES[i]} for i, name in enumerate(types)],
        "numAgents": len(battle.agents),
        "units": [
            {
                "type": types.index(u.name),
                "radius": u.radius,
                "health": u.max_health,
                "shield": u.max_shield,
                "energy": u.max_energy,
            }
            for u in battle.units
        ],
        "episodes": [_columns(episode) for episode in episodes],
    }
    # In a script element a "<" could end the data; in JSON it can always be spelled so.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return resources.files(__package__).joinpath("replay.html").read_text("utf-8").replace("{{replay}}", text)


def _columns(episode: Episode) -> dict:
    """An episode as JSON's numbers and strings, rounded to what one can see."""

    def rounded(column: np.ndarray, digits: int) -> list:
        return np.round(column.astype(np.float64), digits).tolist()

    # Four actions a hexadecimal digit, the lowest action in the lowest bit of the first digit.
    padded = np.pad(episode.available, [(0, 0), (0, 0), (0, -episode.available.shape[2] % 4)])
    digits = padded.reshape(*padded.shape[:2], -1, 4) @ np.array([1, 2, 4, 8])
    return {
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


def _types(battle: Battle) -> list[str]:
    """Names of the unit types on the map, each once."""
    return list(dict.fromkeys(unit.name for unit in battle.units))


def _label(name: str) -> str:
    return _LABELS.get(name, name[0].upper())


def _view(episodes: list[Episode]) -> list[float]:
    """Left, bottom, right, top of the part of the map where something happens, in map units; no taller than wide."""
    size = float(len(episodes[0].battle.terrain))
    spans = []
    for columns in ([episode.x for episode in episodes], [episode.y for episode in episodes]):
        spans.append((float(min(map(np.min, columns))) - _MARGIN, float(max(map(np.max, columns))) + _MARGIN))
    (left, right), (bottom, top) = spans
    width = max(right - left, _MIN_VIEW[0], top - bottom)
    height = max(top - bottom, _MIN_VIEW[1], width / 2)

    def place(low: float, high: float, length: float) -> tuple[float, float]:
        length = min(length, size)
        low = min(max((low + high - length) / 2, 0.0), size - length)
        return round(low, 2), round(low + length, 2)

    left, right = place(left, right, width)
    bottom, top = place(bottom, top, height)
    return [left, bottom, right, top]


# GIF and MP4

_WIDTH, _BLOCK = 640, 16  # pixels; codecs like sides that are multiples of the block
_HEADER = 32  # pixels above the map
_SUPERSAMPLING = 2  # Pillow draws hard edges, so pictures are drawn larger and shrunk
_STEPS_PER_SECOND = 5  # env steps
_HOLD = 1.2  # seconds that the end of an episode stays
_GIF_FRAMES_PER_STEP, _MP4_FRAMES_PER_STEP = 2, 4
_GROUND, _CLIFF, _ROCK, _INK, _DIM = "#f4f2ec", "#e2ddd0", "#cfcabd", "#22262b", "#8a8f96"
_SIDES = ("#0072b2", "#d55e00")  # blue and vermilion of Okabe and Ito's palette: told apart by the colour-blind
_HEALTH, _SHIELD, _EMPTY = "#2a9d55", "#56b4e9", "#aaa69b"


class _Canvas:
    """Draws moments of the episodes of one recording."""

    def __init__(self, episodes: list[Episode]):
        self._episodes = episodes
        self._battle = episodes[0].battle
        self._types = _types(self._battle)
        self._left, bottom, right, self._top = _view(episodes)
        self._scale = _SUPERSAMPLING * _WIDTH / (right - self._left)  # drawn pixels per map unit
        height = _HEADER + (self._top - bottom) * _WIDTH / (right - self._left)
        self.size = _WIDTH, round(height / _BLOCK) * _BLOCK
        self._font = ImageFont.load_default(13 * _SUPERSAMPLING)
        self._small = ImageFont.load_default(max(0.55 * self._scale, 8 * _SUPERSAMPLING))
        self._ground = self._draw_ground()

    def _pixel(self, x: float, y: float) -> tuple[float, float]:
        return (x - self._left) * self._scale, _HEADER * _SUPERSAMPLING + (self._top - y) * self._scale

    def _draw_ground(self) -> Image.Image:
        ground = Image.new("RGB", (self.size[0] * _SUPERSAMPLING, self.size[1] * _SUPERSAMPLING), _GROUND)
        draw = ImageDraw.Draw(ground)
        for (x, y), kind in np.ndenumerate(self._battle.terrain):
            if kind != ".":
                draw.rectangle((*self._pixel(x, y + 1), *self._pixel(x + 1, y)), _CLIFF if kind == "^" else _ROCK)
        draw.rectangle((0, 0, ground.width, _HEADER * _SUPERSAMPLING), fill="white")
        return ground

    def frame(self, number: int, t: float) -> Image.Image:
        """Episode `number` after `t` env steps; between two steps units are on their way."""
        episode = self._episodes[number]
        i = min(int(t), episode.num_steps - 1)

        def between(column: np.ndarray) -> list[float]:
            return (column[i] + (t - i) * (column[i + 1] - column[i])).tolist()

        x, y, health, shield = (between(c) for c in (episode.x, episode.y, episode.health, episode.shield))
        alive = episode.health[i if t < episode.num_steps else i + 1] > 0
        image = self._ground.copy()
        draw = ImageDraw.Draw(image)
        for u in np.flatnonzero(~alive).tolist():
            px, py = self._pixel(x[u], y[u])
            arm = 0.25 * self._scale
            for slope in (1, -1):
                draw.line((px - arm, py - slope * arm, px + arm, py + slope * arm), _DIM, 2 * _SUPERSAMPLING)
        if t < episode.num_steps:
            for u, victim in enumerate(_aims(episode, i)):
                if alive[u] and victim >= 0:
                    line = (*self._pixel(x[u], y[u]), *self._pixel(x[victim], y[victim]))
                    draw.line(line, _SIDES[u >= len(self._battle.agents)], _SUPERSAMPLING)
        for u in np.flatnonzero(alive).tolist():
            self._draw_unit(draw, u, self._pixel(x[u], y[u]), health[u], shield[u])
        self._draw_header(draw, number, t)
        return image.reduce(_SUPERSAMPLING)

    def _draw_unit(
        self, draw: ImageDraw.ImageDraw, u: int, pixel: tuple[float, float], health: float, shield: float
    ) -> None:
        unit = self._battle.units[u]
        px, py = pixel
        radius = max(unit.radius, 0.375) * self._scale
        corners, turned = _SHAPES[self._types.index(unit.name)]
        colour = _SIDES[u >= len(self._battle.agents)]
        if corners:
            draw.regular_polygon((px, py, radius * 1.2), corners, turned, colour, "white")
        else:
            draw.circle((px, py), radius, colour, "white", _SUPERSAMPLING)
        draw.text((px, py), _label(unit.name), "white", self._small, anchor="mm")
        bars = [(health / unit.max_health, _HEALTH)]
        if unit.max_shield:
            bars.insert(0, (shield / unit.max_shield, _SHIELD))
        thick, half = 3 * _SUPERSAMPLING, max(radius, 8 * _SUPERSAMPLING)
        low = py - radius * 1.2 - _SUPERSAMPLING
        for fraction, colour in reversed(bars):
            draw.rectangle((px - half, low - thick, px + half, low), _EMPTY)
            if fraction > 0:
                draw.rectangle((px - half, low - thick, px - half + 2 * half * fraction, low), colour)
            low -= thick + _SUPERSAMPLING

    def _draw_header(self, draw: ImageDraw.ImageDraw, number: int, t: float) -> None:
        episode = self._episodes[number]
        over = t >= episode.num_steps
        middle, edge = _HEADER * _SUPERSAMPLING / 2, 10 * _SUPERSAMPLING
        width = _WIDTH * _SUPERSAMPLING
        title = f"{self._battle.map_name}   episode {number + 1} of {len(self._episodes)}"
        state = f"{episode.outcome}   " * over
        state += f"return {episode.reward[: int(t)].sum():.2f}   step {int(t)} of {episode.num_steps}"
        draw.text((edge, middle), title, _INK, self._font, anchor="lm")
        draw.text((width - edge, middle), state, _INK, self._font, anchor="rm")
        bottom = _HEADER * _SUPERSAMPLING
        draw.rectangle((0, bottom - 2 * _SUPERSAMPLING, width * t / episode.num_steps, bottom), fill=_INK)


def _aims(episode: Episode, i: int) -> list[int]:
    """[U]: the unit that each unit attacks or heals on the way from step i to i + 1, or -1.

    A unit whose target dies in that step has none any more at its end; then it is the one it was told to attack.
    """
    n, health = len(episode.battle.agents), episode.health
    aims = episode.target[i + 1].tolist()
    for u, unit in enumerate(episode.battle.units):
        if u >= n:
            told = int(episode.target[i, u])
        elif (slot := int(episode.action[i, u]) - len(_MOVES)) >= 0:
            told = slot if unit.max_energy else n + int(episode.slots[slot])
        else:
            told = -1
        if aims[u] < 0 <= told and health[i, told] > 0 >= health[i + 1, told]:
            aims[u] = told
    return aims


def _frames(episodes: list[Episode], canvas: _Canvas, per_step: int) -> Iterator[tuple[Image.Image, float]]:
    """(picture, seconds it stays)."""
    for number, episode in enumerate(episodes):
        last = episode.num_steps * per_step
        for k in range(last + 1):
            yield canvas.frame(number, k / per_step), 1 / (_STEPS_PER_SECOND * per_step) if k < last else _HOLD


def _write_gif(path: str, episodes: list[Episode]) -> None:
    canvas = _Canvas(episodes)
    # One palette for all pictures, since each its own would flicker: of a picture and what is not in it yet.
    sample = canvas.frame(0, 0.0)
    for k, colour in enumerate((_DIM, _EMPTY, *_SIDES, _HEALTH, _SHIELD)):
        sample.paste(colour, (_HEADER * k, 0, _HEADER * (k + 1), _HEADER))
    colours = sample.quantize(96)
    pictures, milliseconds = [], []
    for picture, seconds in _frames(episodes, canvas, _GIF_FRAMES_PER_STEP):
        pictures.append(picture.quantize(palette=colours, dither=Image.Dither.NONE))
        milliseconds.append(round(1000 * seconds))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)


def _write_mp4(path: str, episodes: list[Episode]) -> None:
    import imageio_ffmpeg

    canvas = _Canvas(episodes)
    fps = _STEPS_PER_SECOND * _MP4_FRAMES_PER_STEP
    film = imageio_ffmpeg.write_frames(path, canvas.size, fps=fps, quality=6, macro_block_size=_BLOCK)
    film.send(None)
    for picture, seconds in _frames(episodes, canvas, _MP4_FRAMES_PER_STEP):
        for _ in range(round(seconds * fps)):
            film.send(picture.tobytes())
    film.close()
