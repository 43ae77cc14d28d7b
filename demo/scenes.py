"""The scenes: each draws one picture of a size, with whatever varies taken from a Random."""

import math
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
from canvas import Canvas, Colour, Size, gradient, mix
from PIL import Image, ImageOps
from PIL.Image import Resampling

Scene = Callable[[Size, Random], Image.Image]

DAY = ("#1d5fb8", "#5ea4e0", "#cfe6f5")
DAWN = ("#5b6fae", "#d79ab8", "#ffd9b0")
DUSK = ("#3b1d5e", "#b8386a", "#ff7a2a", "#ffd06a")
PURPLE = ("#1c1450", "#6a2f92", "#c76ab0", "#f5b6c0")
NIGHT = ("#02040f", "#081433", "#1b2f5c")
OVERCAST = ("#8c98a4", "#b9c3cb", "#e2e7ea")
BLUE_SEA = ("#3f8fc4", "#12558f", "#06294f")
TEAL_SEA = ("#7fd6cf", "#1b97a4", "#0a5468")
FIRE_SEA = ("#e8803a", "#8a3a58", "#241338")
GREY_SEA = ("#9fb0ba", "#5d717e", "#2c3a44")
MEADOW = ("#8cc04a", "#2a7020")
LAWN = ("#1d4a1c", "#7fae4a")
AUTUMN = ("#d8481c", "#ffb428")
PASTELS = ("#e8a33c", "#d8604a", "#f0d9a0", "#6aa0c0", "#e8b8c0")
RETRO = ("#e4572e", "#f3a712", "#a8c686", "#669bbc", "#f4efe6")


def sea(
    size: Size, random: Random, sky=DAY, water=BLUE_SEA, sun="", sails=(), cloud="white"
) -> Image.Image:
    """Sea below sky, with a low sun or sailing boats on request."""
    c = Canvas(size, random)
    horizon, sun_x = round(c.h * random.uniform(0.46, 0.58)), c.w * random.uniform(0.3, 0.7)
    c.cover(0, sky, horizon)
    c.clouds(horizon, cloud)
    if sun:
        y, r = horizon - c.h * 0.11, c.unit * 0.075
        c.glow(sun_x, y, c.w * 0.6, c.w * 0.6, sun, 0.9)
        c.glow(sun_x, y, 3.5 * r, 3.5 * r, "#fff3c0")
        c.disc(sun_x, y, r, r, "#fffbe6")
    c.cover(horizon, water)
    c.ripples(horizon, "#04122a", 450)
    c.ripples(horizon, sun or "#d6eeff", 450)
    if sun:
        c.ripples(horizon, "#fff0b0", 500, sun_x)
    for number, colour in enumerate(sails):
        s = c.h * 0.15 * (1 + 0.45 * number)
        x = c.w * (number + random.uniform(0.4, 0.7)) / len(sails)
        sailing_boat(c, x, horizon + s * 0.3, s, colour)
    return c.picture


def sailing_boat(c: Canvas, x: float, y: float, s: float, colour: Colour) -> None:
    """A boat of size `s` and its reflection in broken stripes."""
    for step in range(9):
        half = s * (0.55 - 0.05 * step + 0.08 * math.sin(step * 2.3))
        c.disc(x, y + s * (0.17 + 0.1 * step), half, s * 0.03, mix(colour, "#2a5f8c", 0.5))
    c.shape(x, y, s, "4,-160 4,-10 65,-14", colour)
    c.shape(x, y, s, "-4,-140 -4,-10 -50,-12", mix(colour, "white", 0.7))
    c.shape(x, y, s, "-1,-165 2,-165 2,0 -1,0", "#4a3524")
    c.shape(x, y, s, "-65,-6 75,-6 50,16 -45,16", "#5b2f1c")


def beach(size: Size, random: Random, parasols=("#d8322a", "#f5c22b", "#3a8fc0")) -> Image.Image:
    """A beach from above: turquoise water, foam, sand, parasols with their shadows."""
    c = Canvas(size, random, TEAL_SEA[::-1])
    c.texture((8, 12), 0.3)
    for depth, colour in ((0.0, "#a8e6dd"), (0.03, "#ffffff"), (0.05, "#c9ab7c"), (0.1, "#ecd6a8")):
        c.land(c.ridge(c.h * (0.47 + depth), c.h * 0.03, 1.2), colour)
    c.texture((90, 70), 0.22, round(c.h * 0.5), 2)
    for number in range(11):
        x = c.w * (number % 4 + random.uniform(0.2, 0.8)) / 4
        y, r = c.h * (0.68 + 0.11 * (number // 4)), c.unit * 0.055
        c.glow(x + r * 0.7, y + r * 0.6, r * 1.9, r * 1.7, "#5a4020", 0.9)
        for wedge in range(10):
            tone = "#fff8ea" if wedge % 2 else parasols[number % len(parasols)]
            c.draw.pieslice((x - r, y - r, x + r, y + r), wedge * 36, wedge * 36 + 36, fill=tone)
    return c.picture


def peaks(size: Size, random: Random, sky=DAY, snow="#ffffff", lake="", moon=False) -> Image.Image:
    """Snowy mountains, sunlit from the left; on request over a lake, or by moonlight."""
    c = Canvas(size, random, (*sky, sky[-1]))
    if moon:
        c.stars()
        c.glow(c.w * 0.75, c.h * 0.17, c.unit * 0.3, c.unit * 0.3, "#c8d8ff", 0.7)
        c.ball(c.w * 0.75, c.h * 0.17, c.unit * 0.05, "#fff6d8")
    else:
        c.clouds(c.h // 2, mix(sky[-1], "white", 0.6))
    shore, half = round(c.h * 0.66) if lake else c.h, (c.w // 2, c.h // 2)
    for layer, haze in enumerate((0.45, 0.15, 0.0)):
        crest = c.ridge(shore * (0.5 + 0.19 * layer), c.h * 0.17, 1.3 + 0.4 * layer, sharp=True)
        wobble = np.asarray(c.noise(half, (24, 9), 5), np.float32) - 128
        # A column's slope, read a little to the side, makes lit and shaded faces run down jagged.
        slope = np.gradient(np.convolve(crest, np.ones(25) / 25, "same")).astype(np.float32)
        column = np.arange(0, c.w, 2) + (wobble * c.w * 0.0005).astype(int)
        lit = np.clip(0.5 - slope[np.clip(column, 20, c.w - 20)] * 0.6 + wobble / 500, 0, 1)
        below = np.arange(0, c.h, 2, np.float32)[:, None] - crest[::2].astype(np.float32)
        bare = np.clip((below + wobble * c.h * 0.0016) / c.h * 12 - 2.6 + 0.5 * layer, 0, 1)
        tones = (mix(snow, sky[0], 0.38), snow, "#2a3038", "#7a706c")
        dim, bright, dark, rock = (np.array(mix(t, sky[1], haze), np.float32) for t in tones)
        lit, bare = lit[..., None], bare[..., None]
        face = (dim + (bright - dim) * lit) * (1 - bare) + (dark + (rock - dark) * lit) * bare
        c.land(crest, Image.fromarray(face.astype(np.uint8)).resize(size, Resampling.BILINEAR))
    for number in range(0 if lake else 46):
        x, height = c.w * (number + random.random()) / 46, c.h * random.uniform(0.08, 0.2)
        c.fir(x, c.h * 1.02, height, mix("#16352b", sky[0], 0.2))
    if lake:
        c.mirror(shore, lake)
    return c.picture


def hills(size: Size, random: Random, sky=DAY, grass=MEADOW, firs=60, balloons=()) -> Image.Image:
    """Rolling hills, hazier the farther; with firs, and hot-air balloons on request."""
    c = Canvas(size, random, (*sky, sky[-1]))
    c.clouds(c.h // 2, mix(sky[-1], "white", 0.7))
    for layer in range(5):
        near = layer / 4
        crest = c.ridge(c.h * (0.5 + 0.11 * layer), c.h * 0.07, 0.8 + 0.3 * layer)
        colour = mix(mix(*grass, near * 0.7), sky[1], 0.4 * (1 - near) ** 2)
        c.land(crest, gradient(size, (colour, colour, mix(colour, "#0a2010", 0.4))))
        for _ in range(firs // 5 * (layer > 0)):
            x, height = random.randrange(c.w), c.h * (0.03 + 0.035 * layer)
            shade = mix("#12361f", sky[1], 0.35 * (1 - near))
            foot = crest[x] + random.uniform(0, c.h * 0.06)
            c.fir(x, foot, height * random.uniform(0.7, 1.3), shade)
    c.texture((60, 80), 0.25, round(c.h * 0.6))
    for number, colours in enumerate(balloons):
        x = c.w * (number + random.uniform(0.35, 0.65)) / len(balloons)
        r = c.unit * random.choice((0.08, 0.11, 0.15))
        hot_air_balloon(c, x, c.h * random.uniform(0.2, 0.42), r, colours)
    return c.picture


def hot_air_balloon(c: Canvas, x: float, y: float, r: float, colours: Sequence[Colour]) -> None:
    """A striped envelope, shaded, and a basket on its ropes."""
    for side in (-1, 1):
        c.shape(
            x, y, r, f"{side * 40},100 {side * 42},100 {side * 13},190 {side * 11},190", "#3a2a1a"
        )
    c.box(x - r * 0.15, y + r * 1.75, r * 0.3, r * 0.25, "#6b4423")
    size, middle = (round(2 * r), round(2.5 * r)), r
    skin, outline = Canvas(size, c.random), Canvas(size, c.random, ("black",))
    outline.disc(middle, r, r, r, "white")
    outline.shape(middle, r, r, "-90,43 90,43 20,145 -20,145", "white")
    for gore in range(6):
        skin.disc(middle, r, r * 1.02 * math.cos(gore * math.pi / 12), r * 1.6, colours[gore % 2])
    skin.glow(middle + r, r * 1.7, r * 2.2, r * 2.4, "#200820", 0.8)
    skin.glow(middle - r * 0.4, r * 0.6, r, r, "white", 0.6)
    c.picture.paste(skin.picture, (round(x - r), round(y - r)), outline.picture.convert("L"))


def dunes(size: Size, random: Random, sky=DAY, sand=("#f79a38", "#8a3208")) -> Image.Image:
    """Desert dunes, each with a sunlit and a shaded flank."""
    c = Canvas(size, random, (*sky, sky[-1]))
    for layer in range(4):
        crest = c.ridge(c.h * (0.45 + 0.15 * layer), c.h * 0.1, 0.7 + 0.2 * layer)
        light, shade = (mix(tone, sky[-1], 0.3 * (1 - layer / 3)) for tone in sand)
        c.land(crest, gradient(size, (light, light, mix(light, shade, 0.35))))
        top = int(np.argmin(crest[c.w // 8 : -c.w // 8])) + c.w // 8
        down = (c.h - crest[top]) / 12
        sweep = [(top - c.w * 0.16 * math.sin(t * 0.27), crest[top] + down * t) for t in range(13)]
        flank = [*sweep, (c.w, c.h), *((x, crest[x]) for x in range(c.w - 1, top, -8))]
        c.draw.polygon(flank, fill=mix(light, shade, 0.7))
    c.texture((40, 160), 0.13, round(c.h * 0.42), 2)
    return c.picture


def night(size: Size, random: Random, aurora=(), moon=0.0, milky=False) -> Image.Image:
    """A night sky above dark firs: stars, and on request a moon, an aurora or the Milky Way."""
    c = Canvas(size, random, NIGHT)
    half = (c.w // 2, c.h // 2)
    y, x = np.mgrid[0 : 1 : half[1] * 1j, 0 : 1 : half[0] * 1j].astype(np.float32)
    if milky:
        haze = np.clip(np.asarray(c.noise(half, (7, 7), 5), np.float32) * 1.5 - 90, 0, 215)
        haze *= np.exp(-(((x * 0.8 + y * 0.6 - 0.68) / 0.15) ** 2))
        c.picture.paste("#c9b4e0", (0, 0), Image.fromarray(haze.astype(np.uint8)).resize(size))
    c.stars(1100 if milky else 350)
    for number, colour in enumerate(aurora):
        up = c.ridge(0.5 - 0.12 * number, 0.12, 1.3)[::2].astype(np.float32) - y
        rays = np.asarray(c.noise(half, (30, 1), 3), np.float32) / 255
        veil = np.where(up > 0, np.exp(-up / (0.1 + 0.2 * rays)), np.exp(up / 0.025))
        veil = (veil * (80 + 150 * rays)).astype(np.uint8)
        c.picture.paste(colour, (0, 0), Image.fromarray(veil).resize(size))
    if moon:
        x, y, r = c.w * 0.62, c.h * 0.36, c.unit * moon
        c.glow(x, y, r * 4, r * 4, "#9fb4e8", 0.8)
        c.ball(x, y, r, "#f2e6bc")
        for _ in range(9):
            dx, dy, spot = (
                r * random.uniform(*span) for span in ((-0.5, 0.5),) * 2 + ((0.1, 0.4),)
            )
            c.glow(x + dx, y + dy, spot, spot, "#8a8068", 0.7)
    c.land(c.ridge(c.h * 0.88, c.h * 0.04, 1.1), "#04070c")
    for number in range(40):
        x, height = c.w * (number + random.random()) / 40, c.h * random.uniform(0.06, 0.2)
        c.fir(x, c.h * 0.97, height, "#03060a")
    return c.picture


def city(size: Size, random: Random, sky=DAY, wall="#68727c", lights="", river="") -> Image.Image:
    """A skyline in three layers, windows lit on request, mirrored in a river on request."""
    c = Canvas(size, random, sky)
    if not lights:
        c.clouds(c.h // 2, "white")
    ground = round(c.h * 0.7) if river else c.h
    for layer in range(3):
        x = -20.0
        while x < c.w:
            width = c.unit * random.uniform(0.06, 0.12)
            height = c.h * random.uniform(0.12, 0.5) * (1.1 - 0.28 * layer)
            tone = mix(wall, random.choice(("#20262e", "#d8b898")), random.uniform(0, 0.4))
            tower(c, x, ground, (width, height), mix(tone, sky[-2], 0.36 - 0.18 * layer), lights)
            x += width * random.uniform(0.9, 1.3)
    if river:
        c.mirror(ground, river)
    return c.picture


def tower(c: Canvas, x: float, foot: float, size: tuple[float, float], wall, lights: str) -> None:
    """One block, with a shaded side, a grid of windows and sometimes an aerial."""
    (width, height), step = size, c.unit * 0.02
    top = foot - height
    c.box(x, top, width, height, wall)
    c.box(x + width * 0.75, top, width * 0.25, height, mix(wall, "#0a1020", 0.3))
    if c.random.random() < 0.3:
        c.box(x + width / 2, top - c.h * 0.07, 4, c.h * 0.07, wall)
    for row in range(int(height / step) - 1):
        for column in range(int(width / step) - 1):
            tone = mix(wall, "#10203a", 0.25)
            if lights and c.random.random() < 0.4:
                tone = mix(wall, lights, c.random.uniform(0.5, 1))
            left, upper = x + step * (column + 0.6), top + step * (row + 0.6)
            c.box(left, upper, step * 0.5, step * 0.55, tone)


def houses(size: Size, random: Random, walls=PASTELS, sky=DAY) -> Image.Image:
    """A street of narrow houses with tiled roofs and shuttered windows."""
    c = Canvas(size, random, sky)
    c.clouds(c.h // 2, "white")
    street, width = c.h * 0.88, c.w / 5
    for number in range(5):
        x, top, wall = number * width, c.h * random.uniform(0.26, 0.42), walls[number % len(walls)]
        c.shape(x + width / 2, top, width, "-52,0 0,-50 52,0", "#9c4a32")
        c.box(x, top, width, street - top, wall)
        c.box(x + width * 0.94, top, width * 0.06, street - top, mix(wall, "#201828", 0.25))
        shutter, s = random.choice(("#2f6a4f", "#2a4a78", "#7a2f2a", "#c8c4b8")), width / 10
        for floor in range(4):
            y = top + (street - top) * (0.08 + 0.235 * floor)
            for middle in (x + width * 0.27, x + width * 0.7)[: 1 + (floor < 3)]:  # then the door
                c.box(middle - s * 1.9, y, s * 3.8, s * 3, shutter)
                c.box(middle - s, y - 3, s * 2, s * 3 + 6, "#fdf8ee")
                for pane in (middle - s * 0.8, middle + 3):
                    glass = mix("#34506e", sky[1], random.random() * 0.6)
                    c.box(pane, y + 3, s * 0.8 - 3, s * 2.9, glass)
        c.box(x + width * 0.58, street - s * 4, s * 2.4, s * 4, shutter)
    c.cover(round(street), ("#a89c90", "#6a6058"))
    c.texture((90, 90), 0.07, 0, 2)
    return c.picture


def flowers(
    size: Size, random: Random, petals=("#e8281c",), heart="#1a1014", count=9, leaves=5, ground=LAWN
) -> Image.Image:
    """Flowers close up in front of a blurred garden; `leaves` petals to each."""
    c = Canvas(size, random)
    c.picture.paste(ImageOps.colorize(c.noise(size, (4, 4), 2), *ground))
    for _ in range(26):
        x, y, r = random.uniform(0, c.w), random.uniform(0, c.h), c.unit * random.uniform(0.04, 0.1)
        c.glow(x, y, r, r, mix(random.choice((ground[1], *petals)), "white", 0.3), 0.6)
    spots = [(n % 3 + random.uniform(0.2, 0.8), n // 3 + random.random()) for n in range(count)]
    for column, row in sorted(spots, key=lambda spot: spot[1]):
        x, y = c.w * column / 3, c.h * (row + 0.1) / (count / 3 + 0.2)
        r, colour = c.unit * random.uniform(0.14, 0.2), random.choice(petals)
        c.box(x - r * 0.04, y, r * 0.08, c.h - y, mix(*ground, 0.4))
        start = random.uniform(0, math.tau)
        for back in (1, 0):
            for number in range(leaves):
                angle = start + (number + back / 2) * math.tau / leaves
                tone = mix(colour, "#300010", 0.15 * back)
                c.petal(x, y, angle, (r, r * min(1.0, 3.6 / leaves)), tone)
        big = leaves > 8
        c.ball(x, y, r * (0.36 if big else 0.22), heart)
        for seed in range(60 if big else 14):
            away, tone = r * 0.04 * seed**0.5, mix(heart, "#ffd860", 0.4)
            c.disc(x + away * math.cos(seed * 2.4), y + away * math.sin(seed * 2.4), 2.5, 2.5, tone)
    return c.picture


def field(size: Size, random: Random, rows=("#7a4fb0",), soil="#4a7a34", sky=DAY) -> Image.Image:
    """Rows of blossom that run to the horizon."""
    c = Canvas(size, random, (*sky, sky[-1]))
    c.clouds(c.h // 2, "white", 0.4)
    horizon = round(c.h * 0.4)
    c.land(c.ridge(horizon - c.h * 0.02, c.h * 0.03, 1.4), mix("#3f6a3c", sky[1], 0.35))
    c.cover(horizon, (mix(soil, sky[1], 0.3), soil))
    for step in range(1, 90):
        near = (step / 89) ** 2
        y, r = horizon + (c.h - horizon) * near, 1.5 + c.h * 0.024 * near
        for row in range(-9, 10):
            x = c.w * (0.55 + row * (0.018 + 0.16 * near)) + random.gauss(0, r * 0.5)
            tone = mix(
                rows[row % len(rows)], random.choice(("white", "#1a0a2a")), random.random() / 3
            )
            tone = mix(tone, sky[1], 0.25 * (1 - near))
            c.disc(x, y, r * 1.1, r, tone)
            c.disc(x + random.gauss(0, r), y - r, r * 0.5, r * 0.5, mix(tone, "white", 0.25))
    return c.picture


def tree(
    size: Size, random: Random, leaves=AUTUMN, sky=OVERCAST, grass="#6a8a3c", flat=1.0
) -> Image.Image:
    """One tree in a meadow; a `flat` crown makes it an acacia."""
    c = Canvas(size, random, sky)
    c.clouds(c.h // 2, mix(sky[-1], "white", 0.5), 0.3)
    meadow = gradient(size, (grass, grass, mix(grass, "#0a1408", 0.5)))
    c.land(c.ridge(c.h * 0.8, c.h * 0.02, 1), meadow)
    x, foot, s = c.w * random.uniform(0.42, 0.58), c.h * 0.85, c.unit
    c.glow(x, foot, s * 0.5, s * 0.07, "#101408", 0.9)
    bark = mix("#3a2818", leaves[0], 0.1)
    c.shape(x, foot, s, "-4.5,0 -2,-50 2,-50 5,0", bark)
    for lean in (-27, -13, 13, 27):
        tip = -30 - 16 * flat
        c.shape(x, foot, s, f"-1,-18 1,-22 {lean + 1},{tip} {lean - 1},{tip}", bark)
    for number in range(1300):
        angle, away = random.uniform(0, math.tau), random.random() ** 0.55
        dx, dy = math.cos(angle) * away * 0.38 / flat**0.2, math.sin(angle) * away * 0.3
        light = (0.6 - dx * 0.6 - dy * 1.1 + random.gauss(0, 0.2)) * (0.4 + number / 1900)
        tone = mix(mix(leaves[0], "#100c08", 0.3), leaves[1], min(max(light, 0), 1))
        r = s * random.uniform(0.008, 0.022)
        c.disc(x + s * dx, foot + s * (dy * flat - 0.52), r, r * 0.8, tone)
    return c.picture


def fruit(
    size: Size, random: Random, colours=("#f5861a",), tall=1.0, r=0.12, wall=("#c9d6d2", "#93a8a4")
) -> Image.Image:
    """Fruit on a wooden table, nearer ones in front."""
    c = Canvas(size, random, wall)
    table = round(c.h * 0.42)
    c.glow(c.w * 0.2, c.h * 0.1, c.w * 0.6, c.h * 0.6, "white", 0.5)
    c.cover(table, ("#8a5a34", "#b88450", "#9a6a3c"))
    c.texture((3, 50), 0.45, table, 4)
    for row, count in enumerate((5, 4, 3)):
        for number in range(count):
            s = c.unit * r * (0.85 + 0.2 * row) * random.uniform(0.9, 1.1)
            x = c.w * 0.5 + (number - (count - 1) / 2 + random.uniform(-0.15, 0.15)) * s * 2.25
            y, ripe = c.h * (0.5 + 0.15 * row), random.choice(("#ffe060", "#d02010"))
            c.glow(x + s * 0.35, y + s * tall * 0.85, s * 1.6, s * 0.6, "#1a0c04", 0.95)
            c.ball(x, y, s, mix(random.choice(colours), ripe, random.uniform(0, 0.12)), tall)
            y -= s * tall
            c.shape(x, y, s, "-2,30 4,30 13,-10 8,-12", "#4a3418")
            if random.random() < 0.6:
                angle = random.uniform(-0.8, 0.3)
                c.petal(x + s * 0.1, y, angle, (s * 0.8, s * 0.4), "#3f8a2c")
    return c.picture


def cafe(size: Size, random: Random, cloth=("#c8323a", "#fff4ea")) -> Image.Image:
    """A cup of coffee from above on a chequered cloth."""
    c = Canvas(size, random)
    step = c.unit // 9
    for column in range(c.w // step + 1):
        for row in range(c.h // step + 1):
            tone = mix(*cloth[::-1], (column % 2 + row % 2) / 2)
            c.box(column * step, row * step, step, step, tone)
    c.texture((200, 200), 0.2, 0, 1)
    x, y, s = c.w * 0.5, c.h * 0.52, c.unit
    c.glow(x + s * 0.05, y + s * 0.07, s * 0.55, s * 0.55, "#200808")
    for r, colour in ((0.36, "#e9e6e0"), (0.345, "#fbfaf6"), (0.25, "#e2ded6")):
        c.disc(x, y, s * r, s * r, colour)
    c.box(x + s * 0.18, y - s * 0.03, s * 0.15, s * 0.06, "#f4f1ea")
    c.glow(x + s * 0.03, y + s * 0.04, s * 0.3, s * 0.3, "#807468", 0.8)
    rings = ((0.205, "#fdfcf8"), (0.185, "#4a2812"), (0.175, "#7a4a22"), (0.15, "#8e5a2c"))
    for r, colour in rings:
        c.disc(x, y, s * r, s * r, colour)
    for leaf in range(-3, 4):
        angle, long = leaf * 0.33 - math.pi / 2, s * (0.2 - abs(leaf) * 0.02)
        c.petal(x, y + s * 0.09, angle, (long, s * 0.045), "#ecd2a4")
    return c.picture


def bands(size: Size, random: Random, colours=RETRO, bend=0.0) -> Image.Image:
    """Stripes across the picture, straight or bent into waves."""
    c = Canvas(size, random)
    wave = c.h * bend * np.sin(np.linspace(0, 3 * math.tau, c.w))
    for number in range(-1, 12):
        c.land(np.roll(wave, number * 60) + number * c.h / 12, colours[number % len(colours)])
    return c.picture


def checks(size: Size, random: Random, colours=("#101010", "#f6f6f6"), cut=False) -> Image.Image:
    """A chessboard, or squares cut into triangles of any of the colours."""
    c = Canvas(size, random)
    step = c.unit / 8
    for column in range(math.ceil(c.w / step)):
        for row in range(math.ceil(c.h / step)):
            tone = random.choice(colours) if cut else colours[(column + row) % len(colours)]
            c.box(column * step, row * step, step, step, tone)
            if cut:
                other = random.choice(colours)
                c.shape(column * step, row * step, step, "0,0 100,0 0,100", other)
    return c.picture


def dots(size: Size, random: Random, ground="#12355b", colours=RETRO) -> Image.Image:
    """Glossy dots in a honeycomb."""
    c = Canvas(size, random, (ground, mix(ground, "black", 0.35)))
    step = c.unit / 6
    for row in range(math.ceil(c.h / step) + 1):
        for column in range(math.ceil(c.w / step) + 1):
            x, y, r = column + row % 2 / 2, row * 0.9, random.uniform(0.26, 0.4)
            c.ball(x * step, y * step, r * step, random.choice(colours))
    return c.picture


def tiles(size: Size, random: Random, ink="#1d4f9c", paper="#f2f0e6") -> Image.Image:
    """Painted wall tiles: four petals, four stamens and a dot on each side."""
    c = Canvas(size, random, (mix(ink, paper, 0.6),))
    step = c.unit / 4
    for column in range(math.ceil(c.w / step)):
        for row in range(math.ceil(c.h / step)):
            c.box(column * step + 3, row * step + 3, step - 6, step - 6, paper)
            x, y = (column + 0.5) * step, (row + 0.5) * step
            for angle in (0, math.pi / 2, math.pi, -math.pi / 2):
                tone = mix(ink, paper, random.uniform(0, 0.15))
                c.petal(x, y, angle + math.pi / 4, (step * 0.5, step * 0.26), tone)
                c.petal(x, y, angle, (step * 0.36, step * 0.14), "#e0b040")
                dx, dy, r = step / 2 * math.cos(angle), step / 2 * math.sin(angle), step * 0.1
                c.disc(x + dx, y + dy, r, r, ink)
    c.texture((60, 60), 0.15)
    return c.picture


def monochrome(scene: Scene) -> Scene:
    """The same scene on black-and-white film."""

    def develop(size: Size, random: Random) -> Image.Image:
        return ImageOps.autocontrast(scene(size, random).convert("L"), cutoff=1).convert("RGB")

    return develop
