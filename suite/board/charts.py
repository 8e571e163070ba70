"""Charts as inline SVG: they inherit the page's font and theme variables, so dark and print cost nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

SHAPES = ("circle", "square", "diamond", "triangle", "down")
Axis = Callable[[float], float]
EDGE = 1.02  #: measured speed-ups up to here save only on paper
TICK_LETTER = 6.4  #: CSS pixels that a letter of a tick takes
MOST_NAMED = 80  #: points that a name is looked for room for, papers' methods first: of more a plane has no room
NAME_LETTER = 7.3  #: and one of a name in bold


@dataclass(frozen=True)
class Point:
    """A method in the frontier chart: measured speed-up, quality, and their 95 % intervals."""

    label: str
    x: float
    y: float
    x_interval: tuple[float, float]
    y_half: float  #: NaN: none
    mark: int = -1  #: index of colour and shape; -1: a baseline's ring; -2: the parent
    key: str = ""


@dataclass(frozen=True)
class Curve:
    """A method along the targets of a case: share that it keeps, quality, and half of the quality's 95 % interval (NaN: none)."""

    label: str
    points: Sequence[tuple[float, float, float]]
    mark: int = -1
    key: str = ""


@dataclass(frozen=True)
class Trail:
    """A method in the chart of a trade-off: its points in the order of a setting, or one alone."""

    label: str
    points: Sequence[Point]  #: each with a label of its own, for who points at it
    mark: int = -1
    settings: Sequence[str] = ()  #: of each point, where there are several
    pale: Sequence[bool] = ()  #: of each point, whether it has too few seeds


@dataclass(frozen=True)
class Dumbbell:
    """A class or group in a block of dumbbells: from the parent's value to its own."""

    label: str
    start: float
    end: float
    change: float  #: mean of the differences; `end - start` but for rounding
    half: float  #: of its 95 % interval, drawn at the end; NaN: none
    gain: float  #: the change, positive where it is for the better
    small: bool = False  #: of too few examples to be compared: drawn hollow


@dataclass(frozen=True)
class Box:
    """A rectangle that a label may not cover."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom


@dataclass(frozen=True)
class Plane:
    """The ground of a chart: where a value lies, axes, ticks and titles."""

    width: int  #: 760, 640 or 380 CSS pixels; one scaled drawing would have unreadable labels on a phone
    x: tuple[float, float]  #: ends of the axis, after `into`
    y: tuple[float, float]
    into: Axis = float  #: of x, before it is drawn
    margin: int = 16  #: right of the axis, for names
    left: int = 52
    top: int = 34

    @property
    def height(self) -> int:
        return 400 if self.width > 500 else 330

    @property
    def right(self) -> int:
        return self.width - self.margin

    @property
    def bottom(self) -> int:
        return self.height - 58

    def at_x(self, v: float) -> float:
        """What lies off the axis is put on its end, here and in `at_y`."""
        inside = min(max(self.into(v), self.x[0]), self.x[1])
        return self.left + (inside - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - self.left)

    def at_y(self, v: float) -> float:
        inside = min(max(v, self.y[0]), self.y[1])
        return self.bottom - (inside - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - self.top)

    def off(self, v: float) -> str:
        """The way to a value that lies off the y axis; empty where it lies on it."""
        return "↓" if v < self.y[0] else "↑" if v > self.y[1] else ""

    def head(self, kind: str, ident: str, title: str, words: str) -> list[str]:
        """The drawing's beginning: what it is, in one line and in words."""
        return [
            f'<svg class="{kind} w{self.width}" role="img" viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" aria-labelledby="{ident}t" aria-describedby="{ident}d">',
            f'<title id="{ident}t">{escape(title)}</title>',
            f'<desc id="{ident}d">{escape(words)}</desc>',
        ]

    def ground(
        self, ticks: Sequence[tuple[float, str]], quality: str, unit: str, up: bool, title: str, soft: str = ""
    ) -> list[str]:
        """Lines across, ticks and titles of both axes.

        Args:
            ticks: places along x, and their words; one that would touch an earlier one is left out.
            title: of x; `soft` follows it, quieter.
        """
        left, right, top, bottom = self.left, self.right, self.top, self.bottom
        out = []
        for v in even_ticks(*self.y, 6):
            out.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{self.at_y(v):.1f}" y2="{self.at_y(v):.1f}"/>')
            out.append(
                f'<text class="tick" text-anchor="end" x="{left - 8}" y="{self.at_y(v) + 4:.1f}">{f"{v:g}".replace("-", "−")}</text>'
            )
        taken: list[Box] = []
        for v, word in ticks:
            x, half = self.at_x(v), TICK_LETTER * len(word) / 2 + 4
            box = Box(x - half, bottom, x + half, bottom + 20)
            if any(box.meets(other) for other in taken):
                continue
            taken.append(box)
            out.append(f'<line class="tickmark" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
            out.append(f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{bottom + 20}">{word}</text>')
        out.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        out.append(
            f'<text class="axis-title" x="{left - 40}" y="{top - 18}">{"↑" if up else "↓"} {escape(quality)}{escape(f", {unit}" if unit else "")} <tspan class="soft">({"higher" if up else "lower"} is better)</tspan></text>'
        )
        out.append(
            f'<text class="axis-title" text-anchor="end" x="{right}" y="{self.height - 12}">{escape(title)}'
            f'{f""" <tspan class="soft">({escape(soft)})</tspan>""" if soft else ""} →</text>'
        )
        return out


def frontier(
    points: Sequence[Point],
    front: Sequence[int],
    *,
    promise: float | None,
    quality: str,
    unit: str,
    speed: str,
    width: int,
    ident: str,
    up: bool = True,
    counted: bool = True,
) -> str:
    """Quality over measured speed-up, the frontier as steps through places that somebody reached.

    Many arguments, for a drawing is a pure function of all that it says.

    Args:
        points: methods, the parent among them.
        front: indices of points that nothing beats on both axes, fastest first.
        promise: the speed-up that counted operations promise, drawn dotted.
        up: whether more quality is better.
        counted: whether the task promises speed-ups on paper at all.
        width: 760 or 380 CSS pixels; one scaled drawing would have unreadable labels on a phone.
    """
    xs = [v for p in points for v in p.x_interval] + [1.0, *([promise] if promise else [])]
    plane = Plane(width, (math.log(min(xs) * 0.94), math.log(max(xs) * 1.08)), _quality_axis(points, up), math.log)
    left, right, top, bottom, at_x = plane.left, plane.right, plane.top, plane.bottom, plane.at_x
    words = "; ".join(f"{p.label}: {p.y:.1f} {unit} at {p.x:.2f} times" for p in points)
    out = plane.head("frontier", ident, f"{quality} over measured speed-up", f"{words}. The numbers stand in the board below.")
    band = min(max(at_x(EDGE), left), right)
    taken: list[Box] = []
    if band > left:
        out.append(f'<rect class="paper" x="{left}" y="{top}" width="{band - left:.1f}" height="{bottom - top}"/>')
    if band - left > 110:
        out.append(
            f'<text class="paper-word" x="{left + 6}" y="{bottom - 8}">{"saves only on paper" if counted else "no faster in fact"}</text>'
        )
        taken.append(Box(left + 6, bottom - 20, left + 110, bottom - 4))
    ticks = _log_ticks(math.exp(plane.x[0]), math.exp(plane.x[1]), 4 if width < 500 else 7)
    title = f"measured speed-up over the parent, {speed}, log scale" if width > 500 else "measured speed-up, log scale"
    out += plane.ground([(v, f"{v:g}×") for v in ticks], quality, unit, up, title, "faster is better")
    if promise:
        out.append(f'<line class="promise" x1="{at_x(promise):.1f}" x2="{at_x(promise):.1f}" y1="{top}" y2="{bottom}"/>')
        word = f"promised on paper: {promise:.3g}×"
        side = "end" if at_x(promise) > (left + right) / 2 else "start"
        out.append(
            f'<text class="tick" text-anchor="{side}" x="{at_x(promise) + (-6 if side == "end" else 6):.1f}" y="{top + 12}">{word}</text>'
        )
        wide = TICK_LETTER * len(word)
        start = at_x(promise) - wide - 6 if side == "end" else at_x(promise) + 6
        taken.append(Box(start, top, start + wide, top + 16))
    return "".join([*out, *_marks(plane, points, front, taken, left), "</svg>"])


def over(
    points: Sequence[Point],
    front: Sequence[int],
    *,
    measure: str,
    more: bool,
    quality: str,
    unit: str,
    up: bool,
    width: int,
    ident: str,
) -> str:
    """Quality over another measure on a log scale, with the steps through places that nobody beats on both.

    Many arguments, for a drawing is a pure function of all that it says.

    Args:
        points: methods, the parent among them; their x is positive.
        front: indices of points that nothing beats on both axes, best x first.
        measure: what x is, with its unit.
        more: whether more of x is better.
    """
    xs = [v for p in points for v in p.x_interval]
    room = max(0.04, 0.06 * math.log(max(xs) / min(xs)))
    plane = Plane(width, (math.log(min(xs)) - room, math.log(max(xs)) + room), _quality_axis(points, up), math.log)
    words = "; ".join(f"{p.label}: {p.y:.2f} {unit} at {p.x:.3g}" for p in points)
    out = plane.head("over", ident, f"{quality} over {measure}", words)
    ticks = _decade_ticks(math.exp(plane.x[0]), math.exp(plane.x[1]), 4 if width < 500 else 7)
    title = f"{measure}, log scale" if width > 500 else measure
    out += plane.ground([(v, f"{v:,g}") for v in ticks], quality, unit, up, title, "more is better" if more else "less is better")
    return "".join([*out, *_marks(plane, points, front, [], plane.left if more else plane.right), "</svg>"])


def _quality_axis(points: Sequence[Point], up: bool) -> tuple[float, float]:
    low, high = near([(p.y, p.y_half) for p in points], up)
    room = max(0.1, (high - low) * 0.12)
    return low - room, high + room


def near(values: Sequence[tuple[float, float]], up: bool, least: float = 1.0) -> tuple[float, float]:
    """Ends of an axis of quality that neither a far row nor a wide interval flattens.

    It holds what lies no farther from the best than four times the distance of the middle row (`least` at least),
    and intervals (value, half width or NaN) as far as half of that range; what lies off it is drawn at its end.
    """
    ordered = sorted((v for v, _ in values), reverse=up)
    reach = 4 * max(abs(ordered[0] - ordered[len(ordered) // 2]), least)
    close = [(v, half) for v, half in values if abs(v - ordered[0]) <= reach]
    low, high = min(v for v, _ in close), max(v for v, _ in close)
    most = max(high - low, least) / 2
    return min(max(around(v, half)[0], low - most) for v, half in close), max(
        min(around(v, half)[1], high + most) for v, half in close
    )


def _marks(plane: Plane, points: Sequence[Point], front: Sequence[int], taken: list[Box], end: float) -> list[str]:
    """The steps through the front from the best x to the best quality and on to `end`, points with their intervals, and labels where there is room."""
    at_x, at_y = plane.at_x, plane.at_y
    out = []
    steps = [(at_x(points[i].x), at_y(points[i].y)) for i in front]
    if steps:
        path = (
            f"M{steps[0][0]:.1f} {plane.bottom} V{steps[0][1]:.1f} "
            + " ".join(f"H{x:.1f} V{y:.1f}" for x, y in steps[1:])
            + f" H{end}"
        )
        out.append(f'<path class="front" d="{path}"/>')
        for (x1, y1), (x2, y2) in pairwise(steps):
            taken += [Box(min(x1, x2), y1 - 2, max(x1, x2), y1 + 2), Box(x2 - 2, min(y1, y2), x2 + 2, max(y1, y2))]
    for p in points:
        x, y = at_x(p.x), at_y(p.y)
        lo, hi = (at_y(v) for v in _span(p))
        taken += [
            Box(x - 8, y - 8, x + 8, y + 8),
            Box(at_x(p.x_interval[0]), y - 2, at_x(p.x_interval[1]), y + 2),
            Box(x - 2, hi, x + 2, lo),
        ]
    ordered = sorted(points, key=lambda p: p.mark == -1)
    return out + [_point(p, plane, taken, named=i < MOST_NAMED) for i, p in enumerate(ordered)]


def _point(p: Point, plane: Plane, taken: list[Box], *, named: bool) -> str:
    at_x, at_y = plane.at_x, plane.at_y
    x, y = at_x(p.x), at_y(p.y)
    way = plane.off(p.y)
    words = f"{p.label} {way} {p.y:.1f}" if way else p.label
    bars = f'<line x1="{at_x(p.x_interval[0]):.1f}" x2="{at_x(p.x_interval[1]):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    lo, hi = (at_y(v) for v in _span(p))
    bars += f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{lo:.1f}" y2="{hi:.1f}"/>'
    words = _label(words, p.mark, x, y, taken, plane) if named else f"<title>{escape(words)}</title>"
    return f'<g class="pt {mark_class(p.mark)}" data-m="{escape(p.key)}"><g class="bars">{bars}</g>{mark(p.mark, x, y)}{words}</g>'


def _label(words: str, index: int, x: float, y: float, taken: list[Box], plane: Plane) -> str:
    """Beside its point, off all points, bars, the frontier and other labels: first place that is free of eight directions."""
    best = _free(7.0 * len(words), x, y, taken, plane)
    if best is None or (best[0] and index == -1):
        return f"<title>{escape(words)}</title>"  # no room: the row in the board lights this point
    taken.append(best[1])
    return _beside(words, x, y, best[1])


def _free(
    wide: float,
    x: float,
    y: float,
    taken: Sequence[Box],
    plane: Plane,
    distances: Sequence[int] = (9, 14, 20, 28, 40, 56),
    names: Sequence[Box] = (),
) -> tuple[int, Box] | None:
    """The box beside a point that meets fewest of those taken, the nearest of these, and how many; None where none is in the frame.

    A hairline from the point to the box meets none of `names`, either.
    """
    frame = Box(plane.left, plane.top - 8, plane.right, plane.bottom)
    high = 14.0
    best: tuple[int, Box] | None = None
    for distance in distances:
        for dx, dy in ((1, 0), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1), (0, -1), (0, 1)):
            left = x + dx * distance - (wide if dx < 0 else wide / 2 if dx == 0 else 0)
            middle = y + dy * distance * 0.9
            box = Box(left, middle - high / 2, left + wide, middle + high / 2)
            if box.left < frame.left or box.right > frame.right or box.top < frame.top or box.bottom > frame.bottom:
                continue
            clashes = sum(box.meets(t) for t in taken)
            if names and not clashes:
                hair = _along(x, y, min(max(x, box.left), box.right), middle)
                clashes = sum(bit.meets(name) for name in names for bit in hair)
            if best is None or clashes < best[0]:
                best = (clashes, box)
        if best is not None and best[0] == 0:
            break
    return best


def _along(x1: float, y1: float, x2: float, y2: float, half: float = 1.0) -> list[Box]:
    """Small boxes along a line, as one around all of it would take too much room."""
    bits = max(1, round(math.hypot(x2 - x1, y2 - y1) / 6))
    middles = [(x1 + (x2 - x1) * k / bits, y1 + (y2 - y1) * k / bits) for k in range(bits + 1)]
    return [Box(x - half, y - half, x + half, y + half) for x, y in middles]


def _beside(words: str, x: float, y: float, box: Box) -> str:
    """A label in its box, with a hairline to its point where that is far."""
    middle = (box.top + box.bottom) / 2
    nearest = min(max(x, box.left), box.right)
    far = math.hypot(nearest - x, middle - y) > 16
    leader = f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{nearest:.1f}" y2="{middle:.1f}"/>' if far else ""
    return f'{leader}<text class="label" x="{box.left:.1f}" y="{middle + 4.5:.1f}">{escape(words)}</text>'


def mark_class(index: int) -> str:
    """Colours come in the order of the papers' methods; where there are more of these, again with other shapes, dashed."""
    if index < 0:
        return "parent" if index == -2 else "base"
    return f"s{index % len(SHAPES)}{' again' if index >= len(SHAPES) else ''}"


def mark(index: int, x: float, y: float) -> str:
    """The sign of a method: filled and coloured for papers' methods, a grey ring for baselines, a black square for the parent."""
    if index == -1:
        return f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    shape = "square" if index == -2 else SHAPES[(index + index // len(SHAPES)) % len(SHAPES)]
    if shape == "circle":
        return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'
    if shape == "square":
        return f'<rect class="dot" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
    corners = {
        "diamond": ((0, -6.5), (6.5, 0), (0, 6.5), (-6.5, 0)),
        "triangle": ((0, -6.5), (6, 5), (-6, 5)),
        "down": ((0, 6.5), (6, -5), (-6, -5)),
    }[shape]
    return f'<polygon class="dot" points="{" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)}"/>'


def sign(index: int) -> str:
    """A method's mark on its own, for tables and headings."""
    return f'<svg class="sign {mark_class(index)}" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">{mark(index, 8, 8)}</svg>'


def interval_bar(value: float, half: float, low: float, high: float, parent: float | None) -> str:
    """A value and its interval on a column's common axis; the parent is a hairline; what lies off it gets an arrow."""
    width, y = 110, 9

    def at(v: float) -> float:
        return 4 + (min(max(v, low), high) - low) / max(high - low, 1e-9) * (width - 8)

    out = [
        f'<svg class="interval" viewBox="0 0 {width} 18" width="{width}" height="18" aria-hidden="true"><line class="grid" x1="2" x2="{width - 2}" y1="{y}" y2="{y}"/>'
    ]
    if parent is not None:
        out.append(f'<line class="hair" x1="{at(parent):.1f}" x2="{at(parent):.1f}" y1="1" y2="17"/>')
    if not low <= value <= high:
        tip, back = (2, 9) if value < low else (width - 2, width - 9)
        out.append(f'<polygon class="dotfill" points="{tip},{y} {back},{y - 4} {back},{y + 4}"/>')
    else:
        if math.isfinite(half):
            out.append(f'<line class="bar" x1="{at(value - half):.1f}" x2="{at(value + half):.1f}" y1="{y}" y2="{y}"/>')
        out.append(f'<circle class="dotfill" cx="{at(value):.1f}" cy="{y}" r="3.4"/>')
    return "".join([*out, "</svg>"])


def claim_bar(value: float | None, low: float | None, high: float | None, least: float | None) -> str:
    """A claim's number with its interval, and the bound it is held to as a hairline; nothing where one of them is missing."""
    if value is None or low is None or high is None or least is None:
        return ""
    first, last = min(low, least), max(high, least)
    room = max(0.08 * (last - first), 1e-6)
    return interval_bar(value, (high - low) / 2, first - room, last + room, least)


def saving_bar(promise: float | None, fact: float | None, index: int, most: float) -> str:
    """Dashed box: what counting operations promises; solid bar: what the clock found.  Both from 1×."""
    width = 96
    scale = (width - 4) / max(most - 1, 0.2)
    out = [f'<svg class="saving {mark_class(index)}" viewBox="0 0 {width} 16" width="{width}" height="16" aria-hidden="true">']
    if promise and promise > 1:
        out.append(f'<rect class="box" x="1" y="2" width="{(promise - 1) * scale:.1f}" height="12"/>')
    if fact and fact > 1:
        out.append(f'<rect class="fill" x="1" y="5" width="{max(1.0, (fact - 1) * scale):.1f}" height="6"/>')
    out.append('<line class="hair" x1="1" x2="1" y1="0" y2="16"/></svg>')
    return "".join(out)


def along_targets(
    curves: Sequence[Curve],
    parent: tuple[str, float] | None,
    *,
    kept: str,
    quality: str,
    unit: str,
    up: bool,
    width: int,
    ident: str,
) -> str:
    """Quality over the share that a target keeps, from all to little, with bands of 95 %; the parent is a hairline.

    Args:
        curves: methods with two points or more; shares lie in (0, 1].
        kept: what the share is of.
    """
    points = [p for c in curves for p in c.points]
    if not points:
        return ""
    ys = [v for _, y, half in points for v in around(y, half)] + ([parent[1]] if parent else [])
    room = max(0.1, (max(ys) - min(ys)) * 0.08)
    shares = sorted({x for x, _, _ in points}, reverse=True)
    plane = Plane(
        width,
        (-math.log(shares[0]) - 0.12, -math.log(shares[-1]) + 0.12),
        (min(ys) - room, max(ys) + room),
        lambda v: -math.log(v),
        names_room([*(c.label for c in curves), *(parent[:1] if parent else ())], width),
    )
    left, right, at_x, at_y = plane.left, plane.right, plane.at_x, plane.at_y
    words = "; ".join(f"{c.label}: " + ", ".join(f"{y:.1f} at {100 * x:g} %" for x, y, _ in c.points) for c in curves)
    out = plane.head("along", ident, f"{quality} along the targets", words)
    often = Counter(x for x, _, _ in points)
    ticks = [(v, f"{100 * v:.3g} %") for v in sorted(shares, key=lambda v: -often[v])]  # where most methods were run, first
    out += plane.ground(ticks, quality, unit, up, f"{kept} kept, log scale")
    ends: list[tuple[float, float, str, str]] = []  # place of the last point, label, class
    if parent:
        y = at_y(parent[1])
        out.append(f'<line class="hair" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        ends.append((y, right, parent[0], "parent"))
    for c in sorted(curves, key=lambda c: c.mark == -1, reverse=True):
        places = [(at_x(x), at_y(y), [at_y(v) for v in around(y, half)]) for x, y, half in c.points]
        band = [f"{x:.1f},{low:.1f}" for x, _, (low, _) in places] + [f"{x:.1f},{high:.1f}" for x, _, (_, high) in places[::-1]]
        out.append(f'<g class="pt {mark_class(c.mark)}" data-m="{escape(c.key)}">')
        out.append(f'<polygon class="band" points="{" ".join(band)}"/>')
        out.append(f'<polyline class="run" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)}"/>')
        out += [
            f'<g class="bars"><line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/></g>{mark(c.mark, x, y)}'
            for x, y, (low, high) in places
        ]
        out.append("</g>")
        ends.append((places[-1][1], places[-1][0], c.label, mark_class(c.mark)))
    out += end_labels(ends, right + 10, plane.top, plane.bottom)
    out.append("</svg>")
    return "".join(out)


def along_rows(
    curves: Sequence[Curve],
    *,
    along: str,
    value: str,
    unit: str,
    up: bool,
    width: int,
    ident: str,
    zero: str = "",
) -> str:
    """A value of each evidence row, one line a method; papers' methods in colour over the grey of the others.

    Args:
        curves: methods with two rows or more, rows in rising order.
        along: what counts the rows.
        zero: what the hairline at zero stands for, where values are differences from it; it has no line of its own.
    """
    points = [p for c in curves for p in c.points]
    if not points:
        return ""
    xs, ys = [x for x, *_ in points], [y for _, y, _ in points] + ([0.0] if zero else [])
    room = max(0.02, (max(ys) - min(ys)) * 0.06)
    margin = names_room([c.label for c in curves], width)
    plane = Plane(width, (min(xs), max(max(xs), min(xs) + 1)), (min(ys) - room, max(ys) + room), margin=margin)
    means = "; ".join(f"{c.label}: {sum(y for _, y, _ in c.points) / len(c.points):.2f}" for c in curves)
    kind = f"{value}, difference from {zero}" if zero else value
    out = plane.head("rows", ident, f"{kind} along {along}s", f"Means: {means}")
    ticks = [(v, f"{v:,g}") for v in even_ticks(*plane.x, 4 if width < 500 else 7) if v == int(v)]
    out += plane.ground(ticks, kind, unit, up, along)
    ends: list[tuple[float, float, str, str]] = []
    if zero:
        y = plane.at_y(0)
        out.append(f'<line class="hair" x1="{plane.left}" x2="{plane.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        ends.append((y, plane.right, zero, "parent"))
    for c in sorted(curves, key=lambda c: (c.mark != -1, c.mark == -2)):
        places = [(plane.at_x(x), plane.at_y(y)) for x, y, _ in c.points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(
            f'<g class="pt {mark_class(c.mark)}" data-m="{escape(c.key)}"><polyline class="run" points="{line}"><title>{escape(c.label)}</title></polyline>{mark(c.mark, *places[-1])}</g>'
        )
        ends.append((places[-1][1], places[-1][0], c.label, mark_class(c.mark)))
    return "".join([*out, *end_labels(ends, plane.right + 14, plane.top, plane.bottom), "</svg>"])


def end_labels(ends: Sequence[tuple[float, float, str, str]], x: float, top: float, bottom: float) -> list[str]:
    """Names beside the ends of curves, in their order from top to bottom, moved apart where they would touch."""
    high = 15.0
    ordered = sorted(ends)
    places: list[float] = []
    for y, *_ in ordered:
        places.append(max(y, places[-1] + high) if places else max(y, top))
    over = places[-1] - bottom
    if over > 0:  # push back up from the bottom
        places[-1] = bottom
        for i in range(len(places) - 2, -1, -1):
            places[i] = min(places[i], places[i + 1] - high)
    return [
        f'<g class="{cls}"><line class="leader" x1="{from_x + 7:.1f}" y1="{y:.1f}" x2="{x - 3:.1f}" y2="{at:.1f}"/><text class="label" x="{x:.1f}" y="{at + 4:.1f}">{escape(label)}</text></g>'
        for (y, from_x, label, cls), at in zip(ordered, places, strict=True)
    ]


def thinned(count: int, most: int) -> np.ndarray:
    """Indices of at most so many points of a line of `count`, evenly spread, its ends among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


def names_room(labels: Sequence[str], width: int) -> int:
    """What names beside curves or rows take of a chart's width, half of it at most."""
    longest = max((len(label) for label in labels), default=0)
    return min(width // 2, max(150 if width > 500 else 118, round(NAME_LETTER * longest) + 16))


def around(value: float, half: float) -> tuple[float, float]:
    """Ends of an interval; without a half width the value itself."""
    half = half if math.isfinite(half) else 0.0
    return value - half, value + half


def tradeoff(
    trails: Sequence[Trail],
    front: Sequence[tuple[float, float]],
    *,
    quality: str,
    unit: str,
    up: bool,
    cost: str,
    cost_unit: str,
    width: int,
    ident: str,
) -> str:
    """Quality over what it costs: a line a method through the values of its setting, and the steps that nobody beats on both.

    Many arguments, for a drawing is a pure function of all that it says.

    Args:
        trails: methods, the parent among them.
        front: cost and quality of what nothing beats on both, least cost first.
        cost: what x is, of which less is better.
    """
    points = [p for t in trails for p in t.points]
    if not points:
        return ""
    xs = near([(p.x, (p.x_interval[1] - p.x_interval[0]) / 2) for p in points], up=False, least=_spread([p.x for p in points]))
    room = 0.05 * (xs[1] - xs[0]) or 1.0
    plane = Plane(width, (max(0.0, xs[0] - room) if min(xs) >= 0 else xs[0] - room, xs[1] + room), _quality_axis(points, up))
    words = "; ".join(f"{p.label}: {p.y:.1f} {unit} at {p.x:.3g} {cost_unit}".rstrip() for p in points)
    out = plane.head("over trade", ident, f"{quality} over {cost}", words)
    ticks = [(v, f"{v:g}") for v in even_ticks(*plane.x, 4 if width < 500 else 8)]
    head = f"{cost}, {cost_unit}" if cost_unit else cost
    out += plane.ground(ticks, quality, unit, up, head, "less is better")
    taken: list[Box] = []
    steps = [(plane.at_x(x), plane.at_y(y)) for x, y in front]
    if steps:
        path = f"M{steps[0][0]:.1f} {plane.bottom}V{steps[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in steps[1:])
        out.append(f'<path class="front" d="{path}H{plane.right}"/>')
        for (x1, y1), (x2, y2) in pairwise([(steps[0][0], float(plane.bottom)), *steps, (float(plane.right), steps[-1][1])]):
            taken += [Box(min(x1, x2), y1 - 2, max(x1, x2), y1 + 2), Box(x2 - 2, min(y1, y2), x2 + 2, max(y1, y2))]
    for t in trails:
        places = [(plane.at_x(p.x), plane.at_y(p.y)) for p in t.points]
        for p, (x, y) in zip(t.points, places, strict=True):
            taken += [Box(x - 7, y - 7, x + 7, y + 7), *_whiskers(p, plane)]
        for (x1, y1), (x2, y2) in pairwise(places):
            taken += _along(x1, y1, x2, y2, 2)
    ordered = sorted(trails, key=lambda t: (t.mark != -1, t.mark == -2))  # papers' methods over the grey of the others
    out += [_trail(t, plane) for t in ordered]
    names: list[Box] = []
    for t in sorted(trails, key=lambda t: t.mark == -1):
        out.append(f'<g class="{mark_class(t.mark)}">{_named(t, plane, taken, names)}</g>')
    for t in sorted(trails, key=lambda t: t.mark == -1):
        out += _ends(t, plane, taken)
    return "".join([*out, "</svg>"])


def _spread(values: Sequence[float]) -> float:
    """A twentieth of what values span: the least distance between two of them that tells anything."""
    return (max(values) - min(values)) / 20 or max(abs(values[0]) / 20, 1e-9)


def _whiskers(p: Point, plane: Plane) -> tuple[Box, Box]:
    """Both intervals of a point as far as they lie within the frame."""
    (left, right), (low, high) = (plane.at_x(v) for v in p.x_interval), (plane.at_y(v) for v in _span(p))
    x, y = plane.at_x(p.x), plane.at_y(p.y)
    return Box(left, y - 2, right, y + 2), Box(x - 2, high, x + 2, low)


def _trail(t: Trail, plane: Plane) -> str:
    """A method's line, points and intervals, each point with its words for who points at it."""
    places = [(plane.at_x(p.x), plane.at_y(p.y)) for p in t.points]
    out = [f'<g class="{mark_class(t.mark)}">']
    if len(places) > 1:
        out.append(f'<polyline class="run" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>')
    for i, (p, (x, y)) in enumerate(zip(t.points, places, strict=True)):
        across, along = _whiskers(p, plane)
        bars = (
            f'<path class="whisker" d="M{across.left:.1f} {y:.1f}H{across.right:.1f}M{x:.1f} {along.top:.1f}V{along.bottom:.1f}"/>'
        )
        pale = " pale" if i < len(t.pale) and t.pale[i] else ""
        told = f"<title>{escape(p.label)}: {p.y:.1f} at {p.x:.3g}</title>"
        out.append(f'<g class="pt {mark_class(t.mark)}{pale}" data-m="{escape(p.key)}">{bars}{mark(t.mark, x, y)}{told}</g>')
    return "".join([*out, "</g>"])


def _named(t: Trail, plane: Plane, taken: list[Box], names: list[Box]) -> str:
    """A method's name beside the point of its line that has room; none where no point has."""
    # points on both axes first, of these the last one: there the setting pulls hardest
    for _, p in sorted(enumerate(t.points), key=lambda found: (_off(found[1], plane) != "", -found[0])):
        x, y, words = plane.at_x(p.x), plane.at_y(p.y), f"{t.label}{_off(p, plane)}"
        found = _free(7.0 * len(words), x, y, taken, plane, (9, 14, 20, 28, 40, 56, 76), names)
        if found and not found[0]:
            names.append(found[1])
            taken += [found[1], *_along(x, y, min(max(x, found[1].left), found[1].right), (found[1].top + found[1].bottom) / 2)]
            return _beside(words, x, y, found[1])
    return ""


def _off(p: Point, plane: Plane) -> str:
    """Where a point lies that is off an axis, as its label says it; empty where it is on both."""
    up = plane.off(p.y)
    aside = "→" if p.x > plane.x[1] else "←" if p.x < plane.x[0] else ""
    return (f" {up} {p.y:.1f}" if up else "") + (f" {aside} {p.x:.3g}" if aside else "")


def _ends(t: Trail, plane: Plane, taken: list[Box]) -> list[str]:
    """The first and the last value of a line's setting, small, where there is room close by."""
    out = []
    for i in (0, len(t.settings) - 1) if t.settings else ():
        x, y = plane.at_x(t.points[i].x), plane.at_y(t.points[i].y)
        found = _free(6.0 * len(t.settings[i]), x, y, taken, plane, (8, 11, 14))
        if found and not found[0]:
            taken.append(found[1])
            out.append(f'<text class="tiny" x="{found[1].left:.1f}" y="{found[1].bottom - 3:.1f}">{escape(t.settings[i])}</text>')
    return out


BLOCK = 380  #: CSS pixels that a block of dumbbells is wide, on a phone and at a desk: there several stand side by side
PARTS = 8  #: as many dumbbells a block is read at a glance


def dumbbells(blocks: Sequence[tuple[str, int, Sequence[Dumbbell]]], unit: str, *, part: str, parent: str) -> list[str]:
    """A block a method: for each class or group a line from the parent's value to its own, all on one axis.

    Values beyond Tukey's outer fence lie at the axis's end, so that one collapsed network flattens none of the others; their
    numbers stand beside them.

    Args:
        blocks: label, mark, and classes or groups.
        unit: of the values.
        part: the word for a class or group; `parent`: that method's name.
    """
    every = [d for *_, bells in blocks for d in bells]
    if not every:
        return []
    low, high = _fence([v for d in every for v in (d.start, d.end)])
    wide = max(len(_short(d.label)) for d in every)
    left, right = min(150.0, 10 + 6.2 * wide), BLOCK - 52.0

    def at(v: float) -> float:
        return left + (min(max(v, low), high) - low) / (high - low) * (right - left)

    return [_block(label, index, bells, at, (low, high), unit, part, parent) for label, index, bells in blocks]


def _fence(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis that holds all values within three quartile distances of the quartiles, with some room."""
    ordered = sorted(values)
    first, third = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    far = 3 * max(third - first, 1.0)
    close = [v for v in ordered if first - far <= v <= third + far]
    room = max(0.5, 0.06 * (close[-1] - close[0]))
    return close[0] - room, close[-1] + room


def _block(
    label: str,
    index: int,
    bells: Sequence[Dumbbell],
    at: Axis,
    axis: tuple[float, float],
    unit: str,
    part: str,
    parent: str,
) -> str:
    """One method's dumbbells; what is drawn alike is one path, as a page has hundreds of them."""
    step, top = 17, 26
    bottom = top + step * len(bells)
    told = "; ".join(f"{d.label} {d.start:.1f} to {d.end:.1f}" for d in bells)
    out = [
        f'<svg class="bells" role="img" viewBox="0 0 {BLOCK} {bottom + 18}" width="{BLOCK}" height="{bottom + 18}">'
        f"<title>Change of each {escape(part)} from the {escape(parent)} parent, in {escape(unit)}: {escape(label)}</title><desc>{escape(told)}</desc>"
    ]
    ticks = even_ticks(*axis, 4)
    out.append(f'<path class="grid" d="{"".join(f"M{at(v):.0f} {top - 4}V{bottom}" for v in ticks)}"/>')
    out += [
        f'<text class="tick" text-anchor="middle" x="{at(v):.0f}" y="{bottom + 14}">{f"{v:g}".replace("-", "−")}</text>'
        for v in ticks
    ]
    out.append(f'<g class="{mark_class(index)}"><text class="label" x="2" y="14">{escape(label)}</text></g>')
    compared = [d.gain for d in bells if not d.small]
    most = min(compared, default=0.0)
    lines: dict[str, list[str]] = {}
    for i, d in enumerate(bells):
        y = top + step * i + 8
        x, away = at(d.end), at(d.start)
        certain = math.isfinite(d.half) and d.half < abs(d.change)
        kind = ("worse" if d.gain < 0 else "better") + ("" if certain else " faint")
        worst = " most" if not d.small and d.gain == most < 0 else ""
        out.append(f'<text class="tick{worst}" x="2" y="{y + 4}">{escape(_short(d.label))}</text>')
        out.append(f'<text class="tick{worst}" text-anchor="end" x="{BLOCK - 4}" y="{y + 4}">{_change(d)}</text>')
        lines.setdefault("was", []).append(f"M{away:.0f} {y - 5}v10")
        if round(x) != round(away):
            lines.setdefault(f"line {kind}", []).append(f"M{away:.0f} {y}H{x:.0f}")
        if math.isfinite(d.half):
            lines.setdefault(f"range {kind}", []).append(f"M{at(d.end - d.half):.0f} {y}H{at(d.end + d.half):.0f}")
        beyond = -1 if d.end < axis[0] else 1 if d.end > axis[1] else 0
        if beyond:  # an arrow's head: its number stands beside it
            lines.setdefault(f"tip {kind}", []).append(f"M{x + 5 * beyond:.0f} {y}l{-8 * beyond} -5v10z")
            continue
        lines.setdefault(f"end {kind}", []).append(f"M{x:.0f} {y}h0")
        if d.small:
            lines.setdefault("hollow", []).append(f"M{x:.0f} {y}h0")
    order = ("range", "line", "was", "tip", "end", "hollow")
    out += [
        f'<path class="{kind}" d="{"".join(parts)}"/>'
        for kind, parts in sorted(lines.items(), key=lambda item: order.index(item[0].split()[0]))
    ]
    return "".join([*out, "</svg>"])


def _change(d: Dumbbell) -> str:
    """A change to one digit; what rounds to zero has no sign."""
    text = f"{abs(d.change):.1f}"
    return text if not float(text) else f"{'−' if d.change < 0 else '+'}{text}"


def _short(name: str, most: int = 23) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def who_pays(
    rows: Sequence[tuple[str, int, Sequence[tuple[str, float]]]], unit: str, width: int = 760, *, part: str, parent: str
) -> str:
    """One line a method, a dot a class or group: change from the parent in points; the one that pays most is named.

    Args:
        rows: label, mark, and (class, change) pairs.
        part: the word for a class or group; `parent`: that method's name.
    """
    if not rows:
        return ""
    values = [v for _, _, changes in rows for _, v in changes] + [0.0]
    low, high = min(values) - 0.5, max(values) + 0.5
    left, right, step, top = names_room([label for label, _, _ in rows], width), width - 20, 34, 12
    height = top + step * len(rows) + 34

    def at(v: float) -> float:
        return left + (v - low) / (high - low) * (right - left)

    told = "; ".join(
        f"{label}: " + ", ".join(f"{name} {_signed(round(v, 1))}" for name, v in sorted(changes, key=lambda c: c[1]))
        for label, _, changes in rows
    )
    out = [
        f'<svg class="pays w{width}" role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<title>Change of each {escape(part)} from the {escape(parent)} parent, in {unit}</title><desc>{escape(told)}</desc>"
    ]
    for v in even_ticks(low, high, 4 if width < 500 else 8):
        out.append(f'<line class="grid" x1="{at(v):.1f}" x2="{at(v):.1f}" y1="{top}" y2="{height - 30}"/>')
        out.append(f'<text class="tick" text-anchor="middle" x="{at(v):.1f}" y="{height - 12}">{_signed(v)}</text>')
    out.append(f'<line class="hair" x1="{at(0):.1f}" x2="{at(0):.1f}" y1="{top}" y2="{height - 30}"/>')
    for i, (label, index, changes) in enumerate(rows):
        y = top + step * i + step / 2 + 4
        shown = _short(label, int((left - 10) / NAME_LETTER))
        whole = f"<title>{escape(label)}</title>" if shown != label else ""
        out.append(
            f'<g class="{mark_class(index)}"><text class="label" text-anchor="end" x="{left - 10}" y="{y + 4:.1f}">{whole}{escape(shown)}</text>'
        )
        worst = min(changes, key=lambda c: c[1], default=None)
        for name, v in changes:
            big = worst is not None and name == worst[0]
            out.append(
                f'<circle class="{"dot" if big else "faint"}" cx="{at(v):.1f}" cy="{y:.1f}" r="{5 if big else 3}"><title>{escape(name)} {_signed(v)}</title></circle>'
            )
        if worst is not None:
            near_edge = at(worst[1]) + 7 * len(worst[0]) > right
            anchor, shift = ("end", 0) if near_edge else ("start", 0)
            out.append(
                f'<text class="tiny" text-anchor="{anchor}" x="{at(worst[1]) + shift:.1f}" y="{y - 9:.1f}">{escape(worst[0])}</text>'
            )
        out.append("</g>")
    return "".join([*out, "</svg>"])


def _span(p: Point) -> tuple[float, float]:
    return around(p.y, p.y_half)


def even_ticks(low: float, high: float, count: int) -> list[float]:
    raw = (high - low) / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw)
    first = math.ceil(low / step)
    return [round(i * step, 6) for i in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    for step in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0):
        ticks = [round(i * step, 3) for i in range(math.ceil(low / step), math.floor(high / step) + 1) if i * step > 0]
        if len(ticks) <= count:
            return ticks
    return [1.0]


def _decade_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers for a log axis: 1, 2, 5 of each decade, thinned; even steps where that leaves fewer than two."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [round(d * 10.0**e, 9) for e in decades for d in digits if low <= d * 10.0**e <= high]
        if len(ticks) <= count:
            return ticks if len(ticks) > 1 else even_ticks(low, high, count)
    return ticks[:: math.ceil(len(ticks) / count)]


def _signed(v: float) -> str:
    return f"{'−' if v < 0 else '+' if v > 0 else ''}{abs(v):g}"
