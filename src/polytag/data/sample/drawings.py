"""Draw ten objects: motorcycle, truck, boat, bus, cycle, sitar, ektara, flutes, tabla and harmonium.

A drawing is a function of a `Pen` and a random generator. It uses object coordinates from about -1 to 1, with x to the
right and y down. It chooses its own colours, proportions and variants; for example, a bus may be a double-decker, and a
truck may carry a tank. `render` chooses the pose and turns a drawing into an image with smooth edges.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

Colour: TypeAlias = tuple[int, int, int]
Points: TypeAlias = NDArray[np.float64]
Drawing: TypeAlias = Callable[["Pen", Generator], None]

BLACK, RUBBER, STEEL, IVORY, GLASS = (22, 22, 24), (38, 38, 42), (172, 176, 182), (246, 240, 222), (176, 208, 226)
CHROME, LAMP, RED, GOLD = (208, 210, 214), (255, 236, 160), (196, 32, 32), (206, 164, 72)
WOOD, BAMBOO = ((104, 54, 26), (190, 122, 62)), ((180, 126, 60), (232, 196, 122))
SUPERSAMPLING = 3


def oval(x: float, y: float, rx: float, ry: float | None = None, start: float = 0, stop: float = 360) -> Points:
    """Return points on an ellipse, clockwise from ``start`` to ``stop`` degrees (0 is right, 90 is down)."""
    angle = np.radians(np.linspace(start, stop, 41))
    return np.stack([x + rx * np.cos(angle), y + (rx if ry is None else ry) * np.sin(angle)], axis=1)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return the corners of an upright rectangle, clockwise from the top left."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=float)


def smooth(*points: ArrayLike, closed: bool = True) -> Points:
    """Round the corners of a polygon, or of an open line with fixed ends, using Chaikin's algorithm."""
    path = np.asarray(points, dtype=float)
    for _ in range(3):
        start, end = (path, np.roll(path, -1, axis=0)) if closed else (path[:-1], path[1:])
        cut = np.stack([0.75 * start + 0.25 * end, 0.25 * start + 0.75 * end], axis=1).reshape(-1, 2)
        path = cut if closed else np.concatenate([path[:1], cut, path[-1:]])
    return path


def rotation(degrees: float) -> Points:
    """Return the matrix that rotates points clockwise on the screen."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([(cos, -sin), (sin, cos)])


def colour_of(channels: ArrayLike) -> Colour:
    """Clip three numbers to a valid colour."""
    red, green, blue = (int(channel) for channel in np.asarray(channels).clip(0, 255))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Darken a colour (factor below 1) or mix it with white (factor 1 to 2)."""
    channels = np.asarray(colour)
    return colour_of(channels * factor if factor < 1 else channels + (255 - channels) * (factor - 1))


def pick(rng: Generator, first: Colour, last: Colour) -> Colour:
    """Choose a colour near the line between two colours."""
    return colour_of(first + np.subtract(last, first) * rng.random() + rng.normal(0, 6, 3))


def paint(rng: Generator) -> Colour:
    """Choose a paint colour of any hue, usually strong, sometimes almost grey."""
    strength = rng.uniform(0.4, 0.9) if rng.random() < 0.85 else 0.08
    waves = 0.5 + 0.5 * np.cos(2 * np.pi * (rng.random() + np.array([0, 1 / 3, 2 / 3])))
    return colour_of(255 * rng.uniform(0.4, 0.95) * (1 - strength * waves))


class Pen:
    """A pen that applies an affine transformation and draws opaque shapes on an image.

    ``pose`` (2 x 2) and ``origin`` (2) map object coordinates to pixels. Stroke widths are also in object units.
    """

    def __init__(self, image: Image.Image, pose: Points, origin: ArrayLike = (0.0, 0.0)) -> None:
        self._image, self._draw = image, ImageDraw.Draw(image)
        self._pose, self._origin = pose, np.asarray(origin, dtype=float)
        self._scale = float(np.sqrt(abs(np.linalg.det(pose))))

    def moved(self, x: float, y: float, degrees: float = 0.0) -> "Pen":
        """Return a pen with its origin at (x, y), rotated clockwise, for a part with its own coordinates."""
        return Pen(self._image, self._pose @ rotation(degrees), self._pose @ (x, y) + self._origin)

    def fill(self, colour: Colour, *shapes: ArrayLike) -> None:
        """Fill polygons."""
        for shape in shapes:
            self._draw.polygon(self._pixels(shape), fill=colour)

    def solid(self, colour: Colour, *shapes: ArrayLike) -> None:
        """Fill roughly convex polygons with shading: dark edges and light from the upper left."""
        for shape in shapes:
            path = np.asarray(shape, dtype=float)
            highlight = path.min(axis=0) + np.ptp(path, axis=0) * (0.36, 0.34)
            for step in range(6):
                self.fill(shade(colour, 0.68 + 0.1 * step), highlight + (path - highlight) * (1 - 0.16 * step))

    def stroke(self, colour: Colour, width: float, *lines: ArrayLike) -> None:
        """Draw open lines with round joins and ends."""
        thickness = max(1, round(width * self._scale))
        for pixels in map(self._pixels, lines):
            self._draw.line(pixels, fill=colour, width=thickness, joint="curve")
            for end in (pixels[:2], pixels[-2:]) if thickness > 3 else ():
                self._draw.circle(end, thickness / 2, fill=colour)

    def ring(self, colour: Colour, width: float, x: float, y: float, radius: float) -> None:
        """Draw a ring that extends inwards by ``width`` from ``radius``. The area inside it stays visible."""
        self.fill(colour, np.concatenate([oval(x, y, radius), oval(x, y, radius - width)[::-1]]))

    def _pixels(self, points: ArrayLike) -> list[float]:
        pixels: list[float] = (np.asarray(points, dtype=float) @ self._pose.T + self._origin).ravel().tolist()
        return pixels


def render(drawing: Drawing, length: int, rng: Generator, tilt: float = 0.0) -> Image.Image:
    """Draw one object as an RGBA image, cropped to the object. The longer side has ``length`` pixels.

    The object is rotated by up to ``tilt`` degrees in either direction, mirrored in half of the cases, and slightly
    stretched and sheared.
    """
    side = round(length * SUPERSAMPLING * 1.5)
    layer = Image.new("RGBA", (side, side))
    form = np.array([(rng.uniform(0.9, 1.1), rng.uniform(-0.1, 0.1)), (rng.uniform(-0.04, 0.04), 1.0)])
    pose = rotation(rng.uniform(-tilt, tilt)) @ np.diag((rng.choice([-1, 1]), 1)) @ form
    drawing(Pen(layer, pose * side / 3.1, (side / 2, side / 2)), rng)
    layer = layer.crop(layer.getbbox())
    width, height = (max(1, round(edge * length / max(layer.size))) for edge in layer.size)
    return layer.resize((width, height), Image.Resampling.BOX)


def draw_wheel(pen: Pen, x: float, y: float, radius: float, tyre: float, spokes: int, rim: Colour = STEEL) -> None:
    """Draw a wheel with a tyre of thickness ``tyre``. Gaps between spokes are open. Without spokes, it is a disc."""
    if spokes == 0:
        pen.fill(BLACK, oval(x, y, radius * 1.25, None, 180, 360))
        pen.solid(rim, oval(x, y, radius))
    angles = np.linspace(0, 2 * np.pi, spokes, endpoint=False)
    ends = (x, y) + (radius - tyre) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    pen.stroke(shade(rim, 0.75), 0.09 * tyre + 0.006, *([(x, y), end] for end in ends))
    pen.ring(rim, tyre * 0.4, x, y, radius - tyre * 0.9)
    pen.ring(RUBBER, tyre, x, y, radius)
    pen.fill(shade(rim, 0.55), oval(x, y, radius * 0.16))


def draw_drum(pen: Pen, widths: Sequence[float], depth: float, view: float, colour: Colour, straps: int = 0) -> None:
    """Draw a drum with its upper rim at the origin, seen from above. ``view`` is the height of the rim over its width.

    ``widths`` are half widths from the rim down to ``depth``. ``straps`` zigzag between the rim and the base.
    """
    down = np.linspace(0, 1, 13)
    half = np.interp(down, np.linspace(0, 1, len(widths)), widths)
    right = np.stack([half, down * depth], axis=1)
    pen.solid(colour, smooth(*right, *oval(0, depth, half[-1], half[-1] * view, 0, 180), *right[::-1] * (-1, 1)))
    ends = np.radians(np.linspace(4, 176, 2 * straps + 1))
    for strap in range(2 * straps):
        upper, lower = ends[strap : strap + 2][:: 1 if strap % 2 == 0 else -1]
        turn = np.linspace(upper, lower, down.size)
        lace = np.stack([half * np.cos(turn), down * depth + half * view * np.sin(turn)], axis=1)
        pen.stroke(shade(IVORY, 0.85), 0.022, lace[:-1])


def draw_motorcycle(pen: Pen, rng: Generator) -> None:
    """Draw two fat tyres, engine, tank, seat, fork, handlebar, exhaust and headlight."""
    body, radius, rise, front = paint(rng), rng.uniform(0.32, 0.37), rng.uniform(0, 0.16), rng.uniform(0.64, 0.76)
    for x in (-0.62, front):
        draw_wheel(pen, x, 0.34, radius, 0.12, 7)
    pen.stroke(shade(STEEL, 0.6), 0.07, [(-0.62, 0.34), (-0.1, 0.28)])
    pen.fill((58, 60, 64), smooth((-0.3, -0.1), (0.34, -0.16), (0.3, 0.36), (-0.22, 0.42)))
    pen.solid(shade(STEEL, 0.8), oval(0, 0.28, 0.19, 0.16))
    pen.stroke(STEEL, 0.022, *([(-0.12, y), (0.26, y - 0.03)] for y in np.linspace(-0.06, 0.14, 5)))
    pen.stroke(STEEL, 0.05, smooth((0.24, 0.12), (0.34, 0.36), (0.05, 0.47), (-0.4, 0.44), closed=False))
    pen.solid(CHROME, smooth((-0.36, 0.36), (-1.02, 0.28), (-1.06, 0.4), (-0.36, 0.52)))
    pen.stroke(CHROME, 0.065, [(front, 0.34), (front - 0.3, -0.34)])
    pen.stroke(body, 0.06, oval(front, 0.34, radius + 0.05, None, 195, 320))
    pen.solid(body, smooth((-0.5, -0.12), (-1, -0.26), (-0.96, -0.08), (-0.66, 0.12), (-0.2, 0.14), (-0.1, -0.1)))
    pen.solid(BLACK, smooth((0, -0.12), (-0.24, -0.22), (-0.6, -0.2), (-0.9, -0.34), (-0.92, -0.2), (-0.4, -0.06)))
    pen.fill(RED, oval(-1, -0.2, 0.05))
    pen.solid(body, smooth((-0.16, -0.04), (-0.1, -0.3), (0.14, -0.42), (0.4, -0.34), (0.42, -0.1), (0.1, -0.02)))
    steer, x, y = front - 0.32, front - 0.54, -0.46 - rise
    pen.stroke(shade(STEEL, 0.7), 0.045, smooth((steer, -0.34), (steer - 0.02, y - 0.02), (x, y), closed=False))
    pen.stroke(BLACK, 0.075, [(x, y), (x + 0.1, y - 0.01)])
    pen.solid(STEEL, oval(steer + 0.16, -0.3, 0.1))
    pen.fill(LAMP, oval(steer + 0.2, -0.3, 0.065, 0.085))


def draw_truck(pen: Pen, rng: Generator) -> None:
    """Draw a cab with windscreen and door, and a box, tank or flatbed with crates behind it, on two or three axles."""
    cab, load, cargo = paint(rng), paint(rng), rng.choice(["box", "box", "tank", "crates"])
    roof, rear, front = rng.uniform(-0.42, -0.28), -1.1, 0.92 + rng.choice([0.0, 0.16])
    pen.fill((46, 46, 50), box(rear, 0.2, 0.92, 0.3))
    if cargo == "box":
        top = rng.uniform(-0.66, -0.5)
        pen.fill(load, box(rear, top, 0.3, 0.22))
        pen.fill(shade(load, 1.4), box(rear, top, 0.3, top + 0.05))
        pen.stroke(shade(load, 0.8), 0.014, *([(x, top + 0.07), (x, 0.2)] for x in np.linspace(rear + 0.2, 0.1, 6)))
    elif cargo == "tank":
        pen.solid(load, smooth((rear, -0.4), (0.3, -0.4), (0.36, -0.1), (0.3, 0.22), (rear, 0.22), (rear - 0.05, -0.1)))
    else:
        pen.fill(shade(load, 0.7), box(rear, 0.1, 0.32, 0.22))
        for x in np.arange(rear + 0.04, 0.1, 0.33):
            top, colour = -rng.uniform(0.1, 0.36), pick(rng, *WOOD)
            pen.fill(colour, box(x, top, x + 0.3, 0.1))
            pen.stroke(shade(colour, 0.7), 0.03, [(x, 0.1), (x + 0.3, top)])
    pen.fill(cab, [(0.38, roof), (0.76, roof), (0.92, -0.08), (front, -0.06), (front + 0.02, 0.28), (0.38, 0.28)])
    pen.fill(GLASS, [(0.66, roof + 0.07), (0.75, roof + 0.07), (0.88, -0.07), (0.66, -0.07)])
    pen.fill(shade(GLASS, 0.85), box(0.44, roof + 0.07, 0.62, -0.07))
    pen.stroke(shade(cab, 0.65), 0.014, box(0.43, -0.04, 0.64, 0.22)[[3, 0, 1, 2]])
    pen.fill(LAMP, box(front - 0.05, 0.02, front + 0.02, 0.1))
    pen.fill(shade(STEEL, 0.8), box(front - 0.16, 0.22, front + 0.06, 0.32))
    for x in (-0.86, 0.68) if rng.random() < 0.4 else (-0.9, -0.52, 0.68):
        draw_wheel(pen, x, 0.34, 0.17, 0.07, 0)


def draw_boat(pen: Pen, rng: Generator) -> None:
    """Draw a hull with a waterline under sails or a cabin, often on its own patch of water."""
    hull, trim, timber, deck = paint(rng), paint(rng), pick(rng, *WOOD), rng.uniform(0.16, 0.24)
    if rng.random() < 0.6:
        mast, peak, cloth = -0.05, rng.uniform(-1.15, -0.8), shade(paint(rng), rng.uniform(1.5, 1.95))
        pen.fill(cloth, [(mast - 0.06, peak + 0.08), (mast - 0.06, 0.04), (mast - rng.uniform(0.6, 0.8), 0.06)])
        if rng.random() < 0.75:
            pen.fill(shade(cloth, 0.86), [(mast + 0.06, peak), (mast + 0.06, 0.08), (rng.uniform(0.55, 0.8), 0.1)])
        pen.stroke(timber, 0.04, [(mast, peak - 0.05), (mast, deck)], [(mast, 0.09), (mast - 0.7, 0.1)])
    else:
        top = rng.uniform(-0.32, -0.2)
        pen.fill((236, 236, 230), [(-0.5, top), (0.22, top), (0.34, deck), (-0.52, deck)])
        pen.fill(trim, box(-0.58, top - 0.07, 0.3, top))
        pen.fill(shade(GLASS, 0.6), *(box(x, top + 0.08, x + 0.12, top + 0.24) for x in np.linspace(-0.42, 0.06, 4)))
        pen.solid(hull, box(-0.34, top - 0.36, -0.14, top - 0.07))
    bow = smooth((0.8, deck), (1.12, deck - 0.12), (0.95, 0.3), (0.7, 0.56), closed=False)
    stern = smooth((-0.7, 0.56), (-0.92, 0.42), (-1.0, deck - 0.05), (-0.8, deck), closed=False)
    pen.solid(hull, [*bow, *stern])
    pen.stroke(trim, 0.06, [(-0.97, deck + 0.01), (0.8, deck + 0.02), (1.08, deck - 0.1)])
    pen.fill(shade(trim, 0.7), [(0.84, 0.42), (0.7, 0.56), (-0.7, 0.56), (-0.88, 0.42)])
    if rng.random() < 0.7:
        sea, reach = pick(rng, (30, 84, 130), (70, 150, 170)), np.linspace(-1.2, 1.2, 60)
        swell = 0.5 + 0.025 * np.sin(reach * rng.uniform(9, 14) + rng.uniform(0, 6))
        pen.fill(sea, [*np.stack([reach, swell], axis=1), *oval(0, 0.5, 1.2, rng.uniform(0.2, 0.34), 0, 180)])
        for x, y in rng.uniform((-0.9, 0.56), (0.7, 0.68), (6, 2)):
            pen.stroke(shade(sea, 1.45), 0.022, smooth((x, y), (x + 0.1, y - 0.03), (x + 0.25, y), closed=False))


def draw_bus(pen: Pen, rng: Generator) -> None:
    """Draw a long body with one or two rows of windows, a door at the front, a stripe and two wheels."""
    body, stripe, glass = paint(rng), shade(paint(rng), rng.choice([0.7, 1.7])), pick(rng, (60, 80, 100), GLASS)
    roof, rows = (-0.72, (-0.66, -0.26)) if rng.random() < 0.25 else (-0.4, (-0.29,))
    shell = [(-1.1, roof), (0.95, roof), (1.1, roof + 0.2), (1.12, 0.32), (-1.12, 0.32)]
    pen.fill(body, smooth(*np.repeat(shell, 3, axis=0)))
    pen.fill(stripe, box(-1.12, 0.08, 1.12, 0.08 + rng.uniform(0.05, 0.1)))
    panes, pitch = np.linspace(-1.04, 0.58, int(rng.integers(5, 9)), endpoint=False, retstep=True)
    for top in rows:
        pen.fill(shade(body, 0.55), box(-1.07, top - 0.02, 0.6, top + 0.29))
        pen.fill(glass, *(box(x, top, x + pitch - 0.03, top + 0.27) for x in panes))
        pen.fill(shade(glass, 1.3), *([(x, top), (x + 0.1, top), (x, top + 0.2)] for x in panes))
    pen.fill(shade(body, 0.5), box(0.64, -0.27, 0.88, 0.3))
    pen.fill(shade(glass, 1.15), box(0.66, -0.25, 0.75, 0.24), box(0.77, -0.25, 0.86, 0.24))
    pen.fill(shade(glass, 1.2), [(0.94, -0.27), (1.08, -0.2), (1.11, 0.06), (0.94, 0.06)])
    pen.fill(BLACK, box(0.62, roof + 0.02, 0.95, roof + 0.1))
    pen.stroke((255, 190, 60), 0.03, [(0.68, roof + 0.06), (0.88, roof + 0.06)])
    pen.fill(LAMP, oval(1.08, 0.22, 0.035, 0.045))
    for x in (-0.66, rng.uniform(0.38, 0.46)):
        draw_wheel(pen, x, 0.33, 0.165, 0.06, 0)


def draw_cycle(pen: Pen, rng: Generator) -> None:
    """Draw thin spoked wheels, a diamond frame, saddle, handlebar, crank, pedals and chain."""
    colour, tube, radius = paint(rng), rng.uniform(0.04, 0.055), rng.uniform(0.38, 0.43)
    rear, front, crank, saddle, head = np.array([(-0.6, 0.3), (0.62, 0.3), (-0.1, 0.33), (-0.24, -0.2), (0.4, -0.24)])
    for x, y in (rear, front):
        draw_wheel(pen, x, y, radius, 0.038, int(rng.integers(12, 18)), pick(rng, STEEL, CHROME))
    pen.stroke(shade(STEEL, 0.5), 0.016, [rear, crank - (0, 0.07)], [rear, crank - (0, -0.08)])
    pen.stroke(colour, tube, [rear, crank], [rear, saddle], [crank, saddle], [crank, (0.43, -0.13)])
    fork = smooth((0.36, -0.36), head, (0.5, 0.06), front, closed=False)
    pen.stroke(colour, tube, [saddle - (-0.03, rng.choice([0, -0.16])), head], fork)
    pen.stroke(STEEL, 0.035, [saddle, (-0.28, -0.36)], [head, (0.33, -0.46)])
    pen.solid(BLACK, smooth((-0.48, -0.44), (-0.3, -0.44), (-0.08, -0.4), (-0.1, -0.36), (-0.3, -0.34), (-0.46, -0.34)))
    upright = [(0.42, -0.56), (0.26, -0.58), (0.1, -0.48)]
    bar = upright if rng.random() < 0.6 else [(0.5, -0.5), (0.58, -0.4), (0.5, -0.28), (0.42, -0.3)]
    pen.stroke(BLACK, 0.042, smooth((0.33, -0.46), *bar, closed=False))
    pen.ring(shade(STEEL, 0.7), 0.03, crank[0], crank[1], 0.1)
    arm = rotation(rng.uniform(0, 180)) @ (0.19, 0)
    pen.stroke(shade(STEEL, 0.6), 0.03, [crank - arm, crank + arm])
    pen.stroke(BLACK, 0.04, *([end - (0.06, 0), end - (-0.06, 0)] for end in (crank - arm, crank + arm)))


def draw_sitar(pen: Pen, rng: Generator) -> None:
    """Draw a large gourd, a long fretted neck with pegs and strings, and, in half of the cases, a small gourd."""
    timber, plate = pick(rng, *WOOD), pick(rng, (196, 140, 74), (226, 184, 120))
    swell, neck = rng.uniform(0.32, 0.4), rng.uniform(0.07, 0.085)
    if rng.random() < 0.5:
        pen.solid(shade(timber, 0.9), oval(0.1, -0.66, 0.17, 0.19))
    for y in (-0.98, -0.86, *np.linspace(-0.5, 0.02, 4)):
        side = 1 if y == -0.86 else -1
        pen.stroke(shade(timber, 0.6), 0.03, [(0, y), (side * 0.2, y - 0.02)])
        pen.fill(shade(timber, 0.7), oval(side * 0.22, y - 0.02, 0.05, 0.04))
    half = np.array([(neck, 0.1), (0.14, 0.26), (swell, 0.46), (swell, 0.86), (0.15, 1.04)])
    pear = smooth(*half, *half[::-1] * (-1, 1))
    pen.solid(timber, pear)
    pen.fill(plate, (0, 0.62) + (pear - (0, 0.62)) * 0.85)
    half = np.array([(neck, 0.36), (neck, -0.9), (0.5 * neck, -1.1)])
    pen.solid(timber, smooth(*half, *half[::-1] * (-1, 1)))
    pen.fill(shade(timber, 0.62), box(-neck, -0.92, neck, 0.3))
    frets = -0.84 + 1.08 * np.linspace(0, 1, 15) ** 0.9
    pen.stroke((232, 206, 130), 0.018, *(oval(0, y + 0.02, neck + 0.025, 0.035, 190, 350) for y in frets))
    pen.fill(IVORY, box(-0.13, 0.72, 0.13, 0.78), oval(0, 1.0, 0.045, 0.03))
    pen.stroke(IVORY, 0.009, *([(x, -0.94), (x * 1.2, 0.74), (x / 2, 1.0)] for x in np.linspace(-0.7, 0.7, 4) * neck))


def draw_ektara(pen: Pen, rng: Generator) -> None:
    """Draw a small drum between two bamboo strips that meet at the top, with one string from drum to peg."""
    bamboo, cloth, shell = pick(rng, *BAMBOO), paint(rng), paint(rng) if rng.random() < 0.5 else pick(rng, *WOOD)
    half, view, drum = rng.uniform(0.26, 0.33), rng.uniform(0.2, 0.34), pen.moved(0, 0.5)
    pen.stroke(shade(bamboo, 0.5), 0.06, [(-0.04, -0.84), (0.27, -0.86)])
    pen.solid(shade(bamboo, 0.55), oval(0.29, -0.86, 0.07, 0.055))
    widths = (half, half * 1.06, half * 1.02, half * rng.uniform(0.5, 0.95))
    draw_drum(drum, widths, rng.uniform(0.36, 0.46), view, shell)
    drum.fill(shade(shell, 0.5), oval(0, 0, half, half * view))
    drum.fill(IVORY, oval(0, 0, half * 0.9, half * view * 0.86))
    for side in (-1, 1):
        foot, knee = (side * (half + 0.01), 0.8), (side * (half + 0.03), 0.3)
        strip = smooth(foot, knee, (side * half * 0.72, -0.2), (side * 0.05, -0.74), closed=False)
        pen.stroke(shade(bamboo, 0.72), 0.085, strip)
        pen.stroke(bamboo, 0.05, strip)
    pen.stroke(cloth, 0.06, [(-half - 0.03, 0.72), (half + 0.03, 0.72)])
    pen.stroke((250, 246, 230), 0.018, [(0, -0.84), (0, 0.5)])
    pen.solid(bamboo, box(-0.095, -1.08, 0.095, -0.62))
    pen.stroke(cloth, 0.05, [(-0.095, -1), (0.095, -1)], [(-0.095, -0.7), (0.095, -0.7)])


def draw_flutes(pen: Pen, rng: Generator) -> None:
    """Draw one to three bamboo flutes side by side, with blow hole, finger holes, thread bindings and an open end."""
    count, fan = int(rng.integers(1, 4)), rng.uniform(-4, 14)
    for place in np.arange(count) - (count - 1) / 2:
        flute, width = pen.moved(0.25 * place, rng.uniform(-0.1, 0.1), fan * place), rng.uniform(0.075, 0.1)
        bamboo, cloth = pick(rng, *BAMBOO), paint(rng)
        top, bottom = rng.uniform(-1.1, -0.9), rng.uniform(0.85, 1.1)
        flute.fill(shade(bamboo, 0.62), oval(0, top, width, width / 2), box(-width, top, width, bottom))
        flute.fill(bamboo, box(-width * 0.85, top, width * 0.7, bottom))
        flute.fill(shade(bamboo, 1.35), box(-width * 0.6, top, -width * 0.15, bottom))
        flute.fill(shade(bamboo, 0.7), oval(0, bottom, width, width / 2))
        flute.fill(BLACK, oval(0, bottom, width * 0.7, width * 0.34), oval(0, top + 0.29, width * 0.5, width * 0.62))
        for y in (top + 0.1, top + 0.48, bottom - 0.1):
            flute.fill(cloth, box(-width, y - 0.055, width, y + 0.055))
            flute.stroke(shade(cloth, 0.7), 0.012, *([(-width, y + dy), (width, y + dy)] for dy in (-0.02, 0.02)))
        flute.fill(BLACK, *(oval(0, y, width * 0.45) for y in np.linspace(top + 0.68, bottom - 0.28, 6)))


def draw_tabla(pen: Pen, rng: Generator) -> None:
    """Draw two drums seen from above, the slim wooden dayan and the wide metal bayan, each with a black disc."""
    view, metal = rng.uniform(0.38, 0.6), pick(rng, (190, 120, 64), (214, 214, 218))
    dayan = (pen.moved(-0.55, -0.12), (0.35, 0.41, 0.43, 0.41), rng.uniform(0.52, 0.66), pick(rng, *WOOD), 0.0)
    bayan = (pen.moved(0.45, -0.1), (0.48, 0.55, 0.5, 0.32), rng.uniform(0.5, 0.58), metal, -0.1)
    for drum, widths, depth, shell, shift in (dayan, bayan):
        rim, cushion, base = widths[0], paint(rng), depth + 0.05
        drum.solid(cushion, oval(0, base + 0.03, 0.48, 0.48 * view), oval(0, base, 0.45, 0.45 * view))
        draw_drum(drum, widths, depth, view, shell, straps=int(rng.integers(6, 9)))
        if drum is dayan[0]:  # the wooden blocks that tune it
            blocks = oval(0, depth / 2, 0.42, 0.42 * view, 35, 145)[::10]
            drum.solid((214, 178, 128), *(box(x - 0.045, y - 0.09, x + 0.045, y + 0.09) for x, y in blocks))
        drum.fill((92, 60, 38), oval(0, 0.045, rim + 0.03, (rim + 0.03) * view))
        for size, colour in ((1.05, (178, 132, 84)), (0.9, shade(IVORY, 0.86)), (0.76, IVORY)):
            drum.fill(colour, oval(0, 0, size * rim, size * rim * view))
        drum.solid(BLACK, oval(shift, shift * view / 2, rim * 0.44, rim * 0.44 * view))


def draw_harmonium(pen: Pen, rng: Generator) -> None:
    """Draw a wooden box with stop knobs, a keyboard of white and black keys on top, and pleated bellows behind."""
    timber, cloth = pick(rng, *WOOD), pick(rng, (120, 20, 30), (40, 40, 70)) if rng.random() < 0.6 else paint(rng)
    front, lid = rng.uniform(0.5, 0.62), rng.uniform(-0.22, -0.14)
    left, right = (np.linspace(lid, lid - rng.uniform(0.36, 0.62), 13) for _ in range(2))  # both sides of the bellows
    for fold in range(12):
        lower, upper = (0.74, 0.82) if fold % 2 == 0 else (0.82, 0.74)
        sides = [(-lower, left[fold]), (lower, right[fold]), (upper, right[fold + 1]), (-upper, left[fold + 1])]
        pen.fill(shade(cloth, (0.55, 1.25)[fold % 2]), sides)
    pen.fill(timber, [(-0.8, left[-1]), (0.8, right[-1]), (0.76, right[-1] - 0.1), (-0.76, left[-1] - 0.1)])
    pen.fill(shade(timber, 0.8), [(-0.86, lid), (0.86, lid), (1, 0.17), (-1, 0.17)])
    count, far = int(rng.integers(12, 18)), lid + 0.05
    pen.fill(IVORY, [(-0.76, far), (0.76, far), (0.86, 0.12), (-0.86, 0.12)])
    for number, turn in enumerate(np.linspace(-1, 1, count + 1)[1:-1]):
        back, tip, fore = (np.array([turn * (0.76 + 0.1 * t), far + t * (0.12 - far)]) for t in (0, 0.6, 1))
        pen.stroke((120, 112, 100), 0.01, [back, fore])
        if number % 7 not in (2, 6):
            pen.fill(BLACK, [back - (0.03, 0), back - (-0.03, 0), tip - (-0.033, 0), tip - (0.033, 0)])
    pen.fill(timber, box(-1, 0.17, 1, front))
    pen.fill(shade(timber, 0.72), box(-0.9, 0.28, 0.9, front - 0.07))
    for x in np.linspace(-0.7, 0.7, int(rng.integers(4, 7))):
        pen.stroke(shade(GOLD, 0.6), 0.04, [(x, 0.37), (x, 0.43)])
        pen.solid(IVORY, oval(x, 0.37, 0.06))


DRAWINGS: dict[str, Drawing] = {
    "motorcycle": draw_motorcycle, "truck": draw_truck, "boat": draw_boat, "bus": draw_bus, "cycle": draw_cycle,
    "sitar": draw_sitar, "ektara": draw_ektara, "flutes": draw_flutes, "tabla": draw_tabla,
    "harmonium": draw_harmonium,
}  # fmt: skip
