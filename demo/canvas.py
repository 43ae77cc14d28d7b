"""Brushes for the scenes: gradients, soft shapes and textures on one picture."""

import math
from collections.abc import Sequence
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageOps
from PIL.Image import Resampling

Size = tuple[int, int]
Colour = str | tuple[int, ...]


def mix(one: Colour, other: Colour, share: float) -> tuple[int, ...]:
    """The colour that lies `share` of the way from one to the other."""
    pair = (ImageColor.getrgb(c) if isinstance(c, str) else c for c in (one, other))
    return tuple(round(a + (b - a) * share) for a, b in zip(*pair, strict=True))


def gradient(size: Size, colours: Sequence[Colour]) -> Image.Image:
    """From the first colour at the top to the last at the bottom."""
    stops = np.array([mix(c, c, 0) for c in colours], dtype=float)
    at = np.linspace(0, len(stops) - 1, size[1])
    column = np.stack([np.interp(at, range(len(stops)), stops[:, i]) for i in range(3)], axis=1)
    return Image.fromarray(column.round().astype(np.uint8)[:, None]).resize(
        size, Resampling.NEAREST
    )


def soften(grey: Image.Image, low: int, high: int, strength: float = 1) -> Image.Image:
    """A mask from a grey picture: nothing below `low`, full strength from `high` up."""
    return grey.point(
        [round(255 * strength * min(max((v - low) / (high - low), 0), 1)) for v in range(256)]
    )


class Canvas:
    """A picture being painted: its size, its chance, and the brushes the scenes share."""

    def __init__(self, size: Size, random: Random, background: Sequence[Colour] = ("white",)):
        self.picture = gradient(size, background)
        self.random = random
        self.draw = ImageDraw.Draw(self.picture)
        self.w, self.h = size
        self.unit = min(size)

    def noise(self, size: Size, cells: Size, octaves: int = 3) -> Image.Image:
        """Cloudy grey patches, `cells` of them across and down, finer ones laid over them."""
        half = (size[0] // 2 + 1, size[1] // 2 + 1)  # smooth enough to be made small and enlarged
        total = np.zeros(half[::-1], np.float32)
        for octave in range(octaves):
            grid = (min(cells[0] << octave, half[0]), min(cells[1] << octave, half[1]))
            patch = Image.frombytes("L", grid, self.random.randbytes(grid[0] * grid[1]))
            patch = np.asarray(patch.resize(half, Resampling.BICUBIC), np.float32)
            total += patch * np.float32(0.5**octave)
        total = (total - total.min()) * np.float32(255 / np.ptp(total))
        return Image.fromarray(total.astype(np.uint8)).resize(size, Resampling.BILINEAR)

    def cover(self, top: int, colours: Sequence[Colour], bottom: int | None = None) -> None:
        """A gradient from side to side."""
        self.picture.paste(gradient((self.w, (bottom or self.h) - top), colours), (0, top))

    def texture(self, cells: Size, strength: float, top: int = 0, octaves: int = 3) -> None:
        """Lighten and darken everything below `top` in patches."""
        box = (0, top, self.w, self.h)
        part, grain = self.picture.crop(box), self.noise((self.w, self.h - top), cells, octaves)
        lit = ImageChops.overlay(part, Image.merge("RGB", (grain, grain, grain)))
        self.picture.paste(Image.blend(part, lit, strength), box)

    def glow(self, x: float, y: float, rx: float, ry: float, colour: Colour, power=1.0) -> None:
        """A soft spot of light, or of shadow if the colour is dark."""
        # Pillow's gradient reaches 181 in the middle of its sides: beyond that nothing may show.
        fade = [round(max(0, 1 - v / 181) ** 2 * 255 * power) for v in range(256)]
        size = (round(2 * rx), round(2 * ry))
        mask = Image.radial_gradient("L").point(fade).resize(size, Resampling.BILINEAR)
        self.picture.paste(colour, (round(x - rx), round(y - ry)), mask)

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """A rectangle from its upper left corner."""
        self.draw.rectangle((x, y, x + width, y + height), fill=colour)

    def shape(self, x: float, y: float, s: float, points: str, colour: Colour) -> None:
        """A polygon around (x, y), from "x,y x,y ..." in hundredths of `s`."""
        corners = [tuple(map(float, point.split(","))) for point in points.split()]
        self.draw.polygon([(x + s * a / 100, y + s * b / 100) for a, b in corners], fill=colour)

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """A flat ellipse."""
        self.draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)

    def ball(self, x: float, y: float, r: float, colour: Colour, tall: float = 1) -> None:
        """An ellipse lit from the upper left, as fruit and the moon are."""
        size = (round(2 * r), round(2 * r * tall))
        light = Image.radial_gradient("L").crop((58, 68, 250, 250)).resize(size)
        bright, dark = mix(colour, "white", 0.6), mix(colour, "#100818", 0.65)
        skin = ImageOps.colorize(light, bright, dark, mix(colour, colour, 0), midpoint=60)
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).ellipse((0, 0, size[0] - 1, size[1] - 1), fill=255)
        self.picture.paste(skin, (round(x - r), round(y - r * tall)), mask)

    def ridge(self, level: float, relief: float, waves: float, sharp: bool = False) -> np.ndarray:
        """The height of a crest at each column: rolling, or peaked if `sharp`."""
        x, crest = np.linspace(0, 1, self.w), np.zeros(self.w)
        for octave in range(8 if sharp else 3):
            turn = (x * waves * 1.9**octave + self.random.random()) * math.tau
            wave = 1 - 2 * np.abs(np.sin(turn / 2)) if sharp else np.sin(turn)
            crest += wave * (0.5 if sharp else 0.3) ** octave
        return level - relief * crest / 1.5

    def land(self, crest: np.ndarray, ground: Image.Image | Colour) -> None:
        """Cover everything below a crest with a colour or with another picture."""
        top = min(max(0, int(crest.min())), self.h - 1)
        mask = Image.new("L", (self.w, self.h - top))
        outline = [(0, self.h), *enumerate((crest - top).tolist()), (self.w, self.h)]
        ImageDraw.Draw(mask).polygon(outline, fill=255)
        part = ground.crop((0, top, *ground.size)) if isinstance(ground, Image.Image) else ground
        self.picture.paste(part, (0, top, self.w, self.h), mask)

    def clouds(self, bottom: int, colour: Colour, amount: float = 0.45) -> None:
        """Drifting clouds above `bottom`, fainter towards the horizon."""
        shape = self.noise((self.w, bottom), (3, 5), 5)
        fade = gradient(shape.size, ("white", "white", "#707070", "black")).convert("L")
        low = round(255 * (0.8 - 0.5 * amount))
        mask = ImageChops.multiply(soften(shape, low, low + 90, 0.9), fade)
        self.picture.paste(colour, (0, 0), mask)

    def stars(self, count: int = 350) -> None:
        """Stars, few of them bright."""
        for _ in range(count):
            x, y = self.random.uniform(0, self.w), self.random.uniform(0, self.h)
            r = 0.9 + 2.6 * self.random.random() ** 8
            self.disc(x, y, r, r, mix("#5a6a9a", "#fffbe8", self.random.random()))

    def ripples(self, top: int, colour: Colour, count: int, sun_x: float | None = None) -> None:
        """Strokes of light on water, longer the nearer they are; under the sun if there is one."""
        mask = Image.new("L", (self.w, self.h - top))
        draw, random = ImageDraw.Draw(mask), self.random
        for _ in range(count):
            near = random.random() ** 1.4
            y, length, tall = near * mask.height, 10 + near * self.w * 0.09, 1 + near * 6
            x = random.uniform(-length, self.w)
            if sun_x is not None:
                x = random.gauss(sun_x - length / 2, self.w * (0.02 + 0.05 * near))
            shade = random.randrange(25, 90 if sun_x is None else 220)
            draw.ellipse((x, y, x + length, y + tall), fill=shade)
        self.picture.paste(colour, (0, top), mask)

    def mirror(self, top: int, tint: Colour) -> None:
        """Still water below `top`: what stands above it, upside down, rippled and tinted."""
        height = self.h - top
        above = self.picture.crop((0, max(0, top - height), self.w, top))
        above = ImageOps.flip(above).resize((self.w, height))
        sway = [round(self.random.gauss(0, 1 + 18 * y / height)) for y in range(0, height, 6)]
        columns = (np.arange(self.w) + np.repeat(sway, 6)[:height, None]) % self.w
        rippled = np.asarray(above)[np.arange(height)[:, None], columns]
        rippled = Image.blend(Image.fromarray(rippled), Image.new("RGB", above.size, tint), 0.4)
        self.picture.paste(rippled, (0, top))
        self.ripples(top, mix(tint, "white", 0.6), 200)

    def fir(self, x: float, foot: float, height: float, colour: Colour) -> None:
        """A conifer: a zigzag that narrows to its tip."""
        left, right = [], []
        for tier in range(8):
            reach = height * 0.22 * (1 - tier / 8) * self.random.uniform(0.8, 1.2)
            y = foot - height * (0.05 + 0.11 * tier)
            left += [(x - reach, y), (x - reach * 0.45, y - height * 0.07)]
            right += [(x + reach, y), (x + reach * 0.45, y - height * 0.07)]
        self.draw.polygon([*left, (x, foot - height), *reversed(right)], fill=colour)
        self.draw.line((x, foot, x, foot - height * 0.2), fill=colour, width=round(height * 0.05))

    def petal(self, x: float, y: float, angle: float, r: Size, colour: Colour) -> None:
        """A petal or leaf, `r` long and wide, that grows from (x, y), paler along its middle."""
        edge, vein = mix(colour, "#200010", 0.15), mix(colour, "white", 0.13)
        cos, sin = math.cos(angle), math.sin(angle)
        turns = [step * math.tau / 24 for step in range(24)]
        for breadth, tone in ((1.0, edge), (0.8, colour), (0.3, vein)):
            along = [r[0] * (1 - math.cos(t)) / 2 * (0.7 + 0.3 * breadth) for t in turns]
            across = [r[1] * breadth * math.sin(t) * (0.6 - 0.2 * math.cos(t)) for t in turns]
            outline = [
                (x + a * cos - b * sin, y + a * sin + b * cos)
                for a, b in zip(along, across, strict=True)
            ]
            self.draw.polygon(outline, fill=tone)
