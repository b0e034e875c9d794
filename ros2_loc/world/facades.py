"""Pictures of walls: material, windows, doors, shops, posters, weather. Lower left corner is (0, 0) m."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ros2_loc.world.canvas import Canvas, Image, Rgb, courses, foliage, mottled, noise, shaded
from ros2_loc.world.house import ACCENTS, House

SHOP = 252  # number of the panes of shops

Side = Literal["front", "side", "back"]

_POSTERS = ("JAZZ", "CIRCUS", "SALE", "VOTE", "OPERA", "MARKET", "1 EUR", "FESTIVAL", "ROCK", "DANCE", "EXPO", "CHESS")


def paint_wall(house: House, side: Side, width_m: float, height_m: float, px_per_m: float, rng: np.random.Generator) -> Canvas:
    """One wall of a house, gable included, with its panes."""
    canvas = Canvas(width_m, height_m, px_per_m)
    canvas.image[:] = _material(house, canvas.image.shape[:2], px_per_m, rng)
    if house.wall == "timber":
        _timber(canvas, house, width_m, height_m, rng)
    _plinth(canvas, width_m, rng)
    if house.bands:
        for floor in range(house.floors):
            y = house.ground_m + floor * house.floor_m
            canvas.rect(0, y - 0.25, width_m, y - 0.08, _tone(house.color, 1.12))
    if side == "front":
        _front(canvas, house, width_m, rng)
    else:
        _plain(canvas, house, width_m, 0.75 if side == "back" else 0.5, rng)
    if height_m > house.eaves_m + 1.5:
        _window(canvas, width_m / 2, house.eaves_m + 0.3, 0.8, 1.0, house, rng)
    _weather(canvas, width_m, height_m, rng)
    return canvas


def _material(house: House, shape: tuple[int, int], px_per_m: float, rng: np.random.Generator) -> Image:
    if house.wall == "brick":
        return courses(shape, (0.27 * px_per_m, 0.105 * px_per_m), house.color, _tone(house.color, 1.35), 0.13, rng)
    if house.wall == "stone":
        return courses(shape, (0.75 * px_per_m, 0.38 * px_per_m), house.color, _tone(house.color, 0.7), 0.09, rng)
    return mottled(shape, house.color, (1, 2, 6, 0.4 * px_per_m, 2 * px_per_m), 0.055, rng)


def _timber(canvas: Canvas, house: House, width_m: float, height_m: float, rng: np.random.Generator) -> None:
    beam = (74, 52, 38)
    posts = np.linspace(0.09, width_m - 0.09, max(4, round(width_m / 1.5)))
    levels = np.arange(house.ground_m, height_m, house.floor_m / 2)
    for y in (*levels, 0.7):
        canvas.lines([[0, y], [width_m, y]], beam, 0.16)
    for x in posts:
        canvas.lines([[x, 0.5], [x, height_m]], beam, 0.15)
    for low in levels[:-1]:
        for left, right in zip(posts[:-1], posts[1:], strict=True):
            if rng.random() < 0.3:
                ends = [[left, low], [right, low + house.floor_m / 2]]
                canvas.lines(ends if rng.random() < 0.5 else [[left, ends[1][1]], [right, low]], beam, 0.13)


def _plinth(canvas: Canvas, width_m: float, rng: np.random.Generator) -> None:
    part = canvas.region(0, 0, width_m, rng.uniform(0.35, 0.7))
    grey = int(rng.integers(95, 140))
    part[:] = courses(part.shape[:2], (0.6 * canvas.px_per_m, 0.3 * canvas.px_per_m), (grey, grey, grey - 6), (80, 80, 78), 0.1, rng)


def _front(canvas: Canvas, house: House, width_m: float, rng: np.random.Generator) -> None:
    centres = (np.arange(house.bays) + 0.5) * width_m / house.bays
    w, h = house.window_m
    for floor in range(1, house.floors):
        for x in centres:
            _window(canvas, x, house.ground_m + (floor - 1) * house.floor_m + 0.75, w, h, house, rng)
    door = int(rng.integers(house.bays))
    _door(canvas, centres[door], house, rng)
    if house.shop:
        left, right = (0.3, centres[door] - 0.9) if centres[door] > width_m / 2 else (centres[door] + 0.9, width_m - 0.3)
        _shop(canvas, left, right, house, rng)
    for k, x in enumerate(centres):
        if k != door and not house.shop:
            _window(canvas, x, 1.05, w, h, house, rng)
    _sign(canvas, centres[door] + 0.85, 2.0, rng)


def _plain(canvas: Canvas, house: House, width_m: float, density: float, rng: np.random.Generator) -> None:
    """A wall beside or behind: fewer windows, now and then posters or ivy."""
    w, h = house.window_m
    bays = max(2, round(width_m / 3.2))
    for floor in range(house.floors):
        bottom = 1.05 if floor == 0 else house.ground_m + (floor - 1) * house.floor_m + 0.75
        for k in range(bays):
            if rng.random() < density:
                _window(canvas, (k + 0.5) * width_m / bays, bottom, w * 0.85, h * 0.9, house, rng)
    if rng.random() < 0.45:
        _ivy(canvas, rng.uniform(0.5, width_m - 2.5), rng)
    for x in np.arange(0.6, width_m - 1.2, 1.1):
        if rng.random() < 0.18:
            _poster(canvas, x, rng.uniform(0.9, 1.4), rng)


def _window(canvas: Canvas, x: float, bottom: float, w: float, h: float, house: House, rng: np.random.Generator) -> None:
    left, right, top = x - w / 2, x + w / 2, bottom + h
    canvas.rect(left - 0.14, bottom - 0.12, right + 0.14, top + 0.14, _tone(house.color, 1.2 if house.wall != "timber" else 0.9))
    canvas.rect(left - 0.07, bottom - 0.05, right + 0.07, top + 0.07, house.frame)
    glass = canvas.region(left, bottom, right, top)
    shade = np.linspace(rng.uniform(0.2, 0.6), -0.35, len(glass))[:, None] + 0.25 * noise(glass.shape[:2], (0.35 * canvas.px_per_m,), rng)
    glass[:] = shaded(np.array((72, 86, 98), np.float32), shade.astype(np.float32))
    curtain = rng.random()
    if curtain < 0.5:
        cloth = _tone((226, 220, 206), rng.uniform(0.6, 1.0))
        for a, b in ((left, left + w * 0.26), (right - w * 0.26, right)):
            canvas.rect(a, bottom, b, top, cloth)
    elif curtain < 0.65:
        canvas.rect(left, top - h * rng.uniform(0.25, 0.8), right, top, _tone((196, 190, 176), rng.uniform(0.7, 1.0)))
    canvas.pane(left, bottom, right, top)
    canvas.rect(x - 0.035, bottom, x + 0.035, top, house.frame)
    canvas.rect(left, bottom + h * 0.62, right, bottom + h * 0.62 + 0.06, house.frame)
    if house.arched:
        canvas.polygon([[left - 0.1, top + 0.1], [x, top + 0.42], [right + 0.1, top + 0.1]], _tone(house.color, 0.72))
    canvas.rect(left - 0.18, bottom - 0.17, right + 0.18, bottom - 0.08, _tone(house.color, 0.6))
    if house.shutters:
        for a, b in ((left - 0.5, left - 0.09), (right + 0.09, right + 0.5)):
            _shutter(canvas, a, b, bottom, top, house.accent)
    if rng.random() < 0.2:
        box = canvas.region(left, bottom - 0.1, right, bottom + 0.22)
        box[:] = foliage(box.shape[:2], (86, 116, 56), 3, rng)
        for fx in rng.uniform(left + 0.06, right - 0.06, 7):
            petals = ACCENTS[rng.integers(len(ACCENTS))] if rng.random() < 0.4 else (214, 60, 66)
            canvas.disc(fx, bottom + rng.uniform(0.02, 0.2), 0.05, petals)


def _shutter(canvas: Canvas, a: float, b: float, bottom: float, top: float, color: Rgb) -> None:
    canvas.rect(a, bottom, b, top, color)
    for y in np.arange(bottom + 0.1, top - 0.05, 0.13):
        canvas.rect(a + 0.05, y, b - 0.05, y + 0.05, _tone(color, 0.65))


def _door(canvas: Canvas, x: float, house: House, rng: np.random.Generator) -> None:
    w, h = rng.uniform(0.95, 1.25), rng.uniform(2.1, 2.4)
    canvas.rect(x - w / 2 - 0.2, 0, x + w / 2 + 0.2, h + 0.22, _tone(house.color, 1.22))
    canvas.rect(x - w / 2, 0.15, x + w / 2, h, house.accent)
    canvas.rect(x - w / 2, h - 0.42, x + w / 2, h - 0.05, (96, 112, 120))
    for row in range(3):
        for a in (x - w / 2 + 0.1, x + 0.06):
            canvas.rect(a, 0.32 + row * 0.5, a + w / 2 - 0.16, 0.7 + row * 0.5, _tone(house.accent, 0.72))
    canvas.disc(x + w / 2 - 0.12, 1.1, 0.05, (220, 190, 90))
    canvas.rect(x - w / 2 - 0.35, 0, x + w / 2 + 0.35, 0.15, (150, 148, 142))
    canvas.text(x - w / 2 - 0.45, 1.9, 0.22, str(rng.integers(1, 99)), (30, 40, 110))


def _shop(canvas: Canvas, left: float, right: float, house: House, rng: np.random.Generator) -> None:
    if right - left < 1.5:
        return
    canvas.rect(left, 0.45, right, 2.45, _tone(house.accent, 0.8))
    glass = canvas.region(left + 0.12, 0.6, right - 0.12, 2.35)
    glass[:] = mottled(glass.shape[:2], (74, 78, 80), (0.3 * canvas.px_per_m, canvas.px_per_m), 0.3, rng)
    canvas.pane(left + 0.12, 0.6, right - 0.12, 2.35, SHOP)
    for x in np.arange(left + 0.3, right - 0.5, 0.42):
        canvas.rect(x, 0.62, x + rng.uniform(0.15, 0.38), 0.75 + rng.uniform(0.1, 0.9), _random_rgb(50, 230, rng))
    for x in np.linspace(left + 0.12, right - 0.12, max(2, round((right - left) / 1.6)) + 1):
        canvas.rect(x - 0.04, 0.5, x + 0.04, 2.45, house.frame)
    for k, x in enumerate(np.arange(left, right - 0.01, 0.3)):
        canvas.rect(x, 2.3, min(x + 0.3, right), 2.62, house.accent if k % 2 else (238, 234, 224))
    canvas.rect(left, 2.66, right, house.ground_m - 0.15, _tone(house.accent, 0.6))
    height = min(0.32, 1.25 * (right - left) / len(house.shop) * 0.9)
    canvas.text((left + right) / 2, (2.66 + house.ground_m - 0.15) / 2, height, house.shop, (246, 232, 190))


def _sign(canvas: Canvas, x: float, y: float, rng: np.random.Generator) -> None:
    canvas.rect(x, y, x + 0.3, y + 0.22, (236, 236, 228))
    canvas.lines(np.column_stack([rng.uniform(x + 0.03, x + 0.27, 6), rng.uniform(y + 0.03, y + 0.2, 6)]), (40, 50, 90), 0.03)


def _poster(canvas: Canvas, x: float, y: float, rng: np.random.Generator) -> None:
    back, ink = _random_rgb(90, 250, rng), _random_rgb(0, 110, rng)
    canvas.rect(x, y, x + 0.84, y + 1.18, back)
    for _ in range(4):
        canvas.disc(x + rng.uniform(0.15, 0.7), y + rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.14), _random_rgb(20, 250, rng))
    canvas.polygon(np.column_stack([x + rng.uniform(0.05, 0.8, 3), y + rng.uniform(0.1, 0.9, 3)]), ink)
    canvas.text(x + 0.42, y + 1.02, 0.16, str(rng.choice(_POSTERS)), ink)


def _ivy(canvas: Canvas, x: float, rng: np.random.Generator) -> None:
    top = rng.uniform(2.0, 5.0)
    side = round(2.0 * canvas.px_per_m)
    leaves = foliage((side, side), (64, 96, 48), 0.09 * canvas.px_per_m, rng)
    for _ in range(14):
        cx, cy, r = x + rng.normal(0.8, 0.5), rng.uniform(0, top), rng.uniform(0.3, 0.6)
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        reach = r * rng.uniform(0.7, 1.2, 12)
        canvas.paint(np.column_stack([cx + reach * np.cos(angles), cy + reach * np.sin(angles)]), leaves)


def _weather(canvas: Canvas, width_m: float, height_m: float, rng: np.random.Generator) -> None:
    """Stains under the eaves and above the ground, a drainpipe, grain over everything."""
    rows, columns = canvas.image.shape[:2]
    height = np.linspace(height_m, 0, rows, dtype=np.float32)[:, None]
    streaks = np.abs(noise((1, columns), (0.15 * canvas.px_per_m, 0.6 * canvas.px_per_m), rng))
    change = -0.10 * np.exp(-height / 0.5) - 0.05 * streaks * (height / height_m) + 0.02 * noise((rows, columns), (1,), rng)
    canvas.image[:] = shaded(canvas.image.astype(np.float32), change)
    x = float(rng.choice([0.12, width_m - 0.2]))
    canvas.rect(x, 0.1, x + 0.09, height_m, (104, 108, 108))
    canvas.rect(x + 0.02, 0.1, x + 0.04, height_m, (150, 154, 154))


def _random_rgb(low: int, high: int, rng: np.random.Generator) -> Rgb:
    r, g, b = rng.integers(low, high, 3).tolist()
    return r, g, b


def _tone(rgb: Rgb, factor: float) -> Rgb:
    r, g, b = (int(min(c * factor, 250)) for c in rgb)
    return r, g, b
