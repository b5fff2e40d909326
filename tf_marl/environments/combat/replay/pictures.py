"""This module draws recorded battles and writes them as GIF and MP4 files."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tf_marl.environments.combat.replay import layout
from tf_marl.environments.combat.replay.recording import Episode, Unit, unit_types

_LABELS = {"marauder": "Mr", "medivac": "+", "zergling": "Zl", "spine_crawler": "Sp"}  # other types: the first letter
_WIDTH, _BLOCK = 640, 16  # pixels; codecs like sides that are multiples of the block
_HEADER = 32  # pixels above the map
_SUPERSAMPLING = 2  # Pillow draws hard edges, so pictures are drawn larger and shrunk
_STEPS_PER_SECOND = 5  # env steps
_HOLD = 1.2  # seconds for which the end of an episode stays
_GIF_FRAMES_PER_STEP, _MP4_FRAMES_PER_STEP = 2, 4
_GROUND, _CLIFF, _ROCK, _INK, _DIM = "#f4f2ec", "#e2ddd0", "#cfcabd", "#22262b", "#8a8f96"
SIDES = ("#0072b2", "#d55e00")  # blue and vermilion of Okabe and Ito's palette: told apart by the colour-blind
_HEALTH, _SHIELD, _EMPTY = "#2a9d55", "#56b4e9", "#aaa69b"


class Canvas:
    """Draws moments of the episodes of one recording.

    Args:
        episodes: the episodes; together they decide which part of the map is drawn.
    """

    def __init__(self, episodes: list[Episode]):
        self._episodes = episodes
        self._battle = episodes[0].battle
        self._types = unit_types(episodes)
        self._left, bottom, right, self._top = layout.view(episodes)
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
        """Draws one moment of an episode. Between two env steps, units are on their way.

        Args:
            number: which episode, from 0.
            t: env steps since the start of the episode, 0 to `num_steps`; fractions lie between two steps.
        Returns:
            The picture, of `size` pixels.
        """
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
            for u, victim in enumerate(episode.aims(i)):
                if alive[u] and victim >= 0:
                    line = (*self._pixel(x[u], y[u]), *self._pixel(x[victim], y[victim]))
                    draw.line(line, SIDES[u >= len(self._battle.agents)], _SUPERSAMPLING)
        for u in np.flatnonzero(alive).tolist():
            self._draw_unit(draw, u, episode.battle.units[u], self._pixel(x[u], y[u]), health[u], shield[u])
        self._draw_header(draw, number, t)
        return image.reduce(_SUPERSAMPLING)

    def _draw_unit(
        self, draw: ImageDraw.ImageDraw, u: int, unit: Unit, pixel: tuple[float, float], health: float, shield: float
    ) -> None:
        px, py = pixel
        radius = max(unit.radius, 0.375) * self._scale
        corners, turned = layout.SHAPES[self._types.index(unit.name)]
        colour = SIDES[u >= len(self._battle.agents)]
        if corners:
            draw.regular_polygon((px, py, radius * 1.2), corners, turned, colour, "white")
        else:
            draw.circle((px, py), radius, colour, "white", _SUPERSAMPLING)
        draw.text((px, py), _LABELS.get(unit.name, unit.name[0].upper()), "white", self._small, anchor="mm")
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


def _frames(episodes: list[Episode], canvas: Canvas, per_step: int) -> Iterator[tuple[Image.Image, float]]:
    """Yields the pictures of all episodes, each with the seconds for which it stays."""
    for number, episode in enumerate(episodes):
        last = episode.num_steps * per_step
        for k in range(last + 1):
            yield canvas.frame(number, k / per_step), 1 / (_STEPS_PER_SECOND * per_step) if k < last else _HOLD


def write_gif(path: str, episodes: list[Episode]) -> None:
    """Writes the episodes as an animated GIF that repeats forever.

    Args:
        path: the file to write.
        episodes: the episodes to show, in this order; all from one recording.
    """
    canvas = Canvas(episodes)
    # All pictures share one palette, because a palette for each would flicker. It comes from the first picture and the
    # colours that are not in it yet.
    sample = canvas.frame(0, 0.0)
    for k, colour in enumerate((_DIM, _EMPTY, *SIDES, _HEALTH, _SHIELD)):
        sample.paste(colour, (_HEADER * k, 0, _HEADER * (k + 1), _HEADER))
    colours = sample.quantize(96)
    pictures, milliseconds = [], []
    for picture, seconds in _frames(episodes, canvas, _GIF_FRAMES_PER_STEP):
        pictures.append(picture.quantize(palette=colours, dither=Image.Dither.NONE))
        milliseconds.append(round(1000 * seconds))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)


def write_mp4(path: str, episodes: list[Episode]) -> None:
    """Writes the episodes as an MP4 film, with the ffmpeg that imageio-ffmpeg brings.

    Args:
        path: the file to write.
        episodes: the episodes to show, in this order; all from one recording.
    """
    import imageio_ffmpeg

    canvas = Canvas(episodes)
    fps = _STEPS_PER_SECOND * _MP4_FRAMES_PER_STEP
    film = imageio_ffmpeg.write_frames(path, canvas.size, fps=fps, quality=6, macro_block_size=_BLOCK)
    film.send(None)
    for picture, seconds in _frames(episodes, canvas, _MP4_FRAMES_PER_STEP):
        for _ in range(round(seconds * fps)):
            film.send(picture.tobytes())
    film.close()
