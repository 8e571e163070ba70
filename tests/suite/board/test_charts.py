"""Charts as text: well-formed, all points in them, labels off points, colours left to the page."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.board import charts, statistics
from suite.board.charts import Box, Curve, Dumbbell, Point, Trail

point = st.builds(
    lambda x, y, w, h, mark: Point(f"m<{mark}>&", x, y, (x * (1 - w), x * (1 + w)), h, mark, "k"),
    st.integers(60, 600).map(lambda v: v / 100),
    st.integers(0, 1000).map(lambda v: v / 10),
    st.integers(0, 20).map(lambda v: v / 100),
    st.one_of(st.integers(0, 30).map(lambda v: v / 10), st.just(math.nan)),
    st.integers(-2, 4),
)


def draw(points: list[Point], width: int = 760, promise: float | None = 2.0) -> ElementTree.Element:
    front = statistics.front([(p.x, p.y) for p in points])
    return ElementTree.fromstring(
        charts.frontier(points, front, promise=promise, quality="top1", unit="%", speed="infer@64", width=width, ident="x")
    )


@settings(max_examples=40)
@given(st.lists(point, min_size=1, max_size=12), st.sampled_from([760, 380]), st.sampled_from([None, 2.0]))
def test_the_frontier_holds_every_point_within_its_frame(points: list[Point], width: int, promise: float | None) -> None:
    svg = draw(points, width, promise)
    groups = [g for g in svg.iter("g") if "pt" in g.get("class", "").split()]
    assert len(groups) == len(points)
    marks = [e for g in groups for e in g if e.tag in ("circle", "rect", "polygon")]
    assert len(marks) == len(points)
    for circle in (m for m in marks if m.tag == "circle"):
        assert 0 <= float(circle.get("cx", "nan")) <= width
    for text in (t for g in groups for t in g.iter("text")):
        assert 0 <= float(text.get("x", "nan")) <= width
    assert svg.get("role") == "img"
    assert all(p.label in (svg.findtext("desc") or "") for p in points)


def test_charts_carry_no_colour_font_or_link_of_their_own() -> None:
    points = [Point("a", 1.4, 90, (1.3, 1.5), 0.3, 0), Point("b", 1.0, 92, (0.99, 1.01), 0.3, -2)]
    text = ElementTree.tostring(draw(points), encoding="unicode")
    text += charts.saving_bar(2, 1.4, 0, 2) + charts.interval_bar(90, 0.3, 88, 93, 92) + charts.sign(3)
    text += charts.who_pays([("a", 0, [("shirt", -2.0), ("bag", 0.1)])], "points", part="class", parent="dense")
    text += "".join(charts.dumbbells([("a", 0, [Dumbbell("b", 80, 78, -2, 0.5, -2)])], "%", part="class", parent="dense"))
    text += trade([Trail("a", points, 0, ["1", "2"])])
    assert not re.search(r"fill=|stroke=|style=|font-|href|url\(|#[0-9a-f]{3}", text)


def trade(trails: list[Trail], width: int = 760) -> str:
    spots = [(p.x, p.y) for t in trails for p in t.points]
    front = [spots[i] for i in statistics.front([(-x, y) for x, y in spots])]
    return charts.tradeoff(trails, front, quality="top1", unit="%", up=True, cost="gap", cost_unit="points", width=width, ident="x")


CURVES = [Curve(f"m{i}<&", [(0.5, 80 - i / 9, 0.4), (0.25, 76 - i / 9, math.nan), (0.1, 60.0, 1.0)], i % 5 - 1) for i in range(12)]


@pytest.mark.parametrize("width", [760, 380])
def test_curves_along_the_targets_fall_to_the_right_and_names_do_not_touch(width: int) -> None:
    text = charts.along_targets(
        CURVES, ("dense", 81.0), kept="edges", quality="accuracy", unit="%", up=True, width=width, ident="x"
    )
    svg = ElementTree.fromstring(text)
    runs = [e.get("points", "").split() for e in svg.iter("polyline")]
    assert len(runs) == len(CURVES)
    for run in runs:
        xs, ys = zip(*(map(float, p.split(",")) for p in run), strict=True)
        assert list(xs) == sorted(xs)  # less is further right
        assert list(ys) == sorted(ys)  # and quality falls: y grows downwards
    names = [t for t in svg.iter("text") if t.get("class") == "label"]
    assert {t.text for t in names} == {c.label for c in CURVES} | {"dense"}
    heights = sorted(float(t.get("y", "nan")) for t in names)
    assert all(b - a >= 14.9 for a, b in pairwise(heights))
    assert not re.search(r"fill=|stroke=|style=|font-|href|url\(", text)


@pytest.mark.parametrize("width", [760, 380])
def test_of_two_ticks_that_would_touch_the_one_stays_at_which_more_methods_were_run(width: int) -> None:
    rungs = [0.8**k for k in range(1, 11)]
    ladder = [Curve(f"ladder {i}", [(x, 70.0, 1.0) for x in sorted([*rungs, 0.5, 0.25, 0.1], reverse=True)], i) for i in range(2)]
    named = [Curve(f"m{i}", [(x, 60.0, 1.0) for x in (0.5, 0.25, 0.1)], -1) for i in range(3)]
    text = charts.along_targets([*ladder, *named], None, kept="edges", quality="q", unit="%", up=True, width=width, ident="x")
    ticks = [t for t in ElementTree.fromstring(text).iter("text") if (t.text or "").endswith(" %") and t.get("class") == "tick"]
    places = sorted((float(t.get("x", "nan")), t.text or "") for t in ticks)
    assert {"50 %", "25 %", "10 %"} <= {word for _, word in places}
    assert len(places) > 3  # rungs that have room are named too
    for (a, left), (b, right) in pairwise(places):
        assert b - a >= 3 * (len(left) + len(right))


def test_no_curves_no_chart() -> None:
    assert charts.along_targets([], ("dense", 81.0), kept="edges", quality="q", unit="%", up=True, width=760, ident="x") == ""


def test_labels_touch_no_other_point() -> None:
    points = [Point(f"method_{i}", 1.2 + 0.15 * i, 90 + (i % 3), (1.19 + 0.15 * i, 1.21 + 0.15 * i), 0.2, i % 5) for i in range(6)]
    svg = draw(points)
    spots = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for g in svg.iter("g") for c in g if c.tag == "circle"]
    for text in (t for t in svg.iter("text") if t.get("class") == "label"):
        x, y, wide = float(text.get("x", 0)), float(text.get("y", 0)), 7 * len(text.text or "")
        assert not any(x < cx < x + wide and y - 12 < cy < y for cx, cy in spots)


def test_the_promise_and_the_band_are_drawn_where_they_are() -> None:
    points = [Point("a", 1.4, 90, (1.3, 1.5), 0.3, 0), Point("dense", 1.0, 92, (0.99, 1.01), 0.3, -2)]
    svg = draw(points)
    promise = next(e for e in svg.iter("line") if e.get("class") == "promise")
    band = next(e for e in svg.iter("rect") if e.get("class") == "paper")
    dot = next(c for g in svg.iter("g") for c in g if c.tag == "circle")
    parent = next(c for g in svg.iter("g") for c in g if c.tag == "rect")
    edge = float(band.get("x", 0)) + float(band.get("width", 0))
    assert float(parent.get("x", 0)) + 5 < edge < float(dot.get("cx", 0)) < float(promise.get("x1", 0))
    assert not [e for e in draw(points, promise=None).iter("line") if e.get("class") == "promise"]


def test_bars_grow_from_one() -> None:
    def width(svg: str, name: str) -> float:
        found = [e for e in ElementTree.fromstring(svg).iter("rect") if e.get("class") == name]
        return float(found[0].get("width", 0)) if found else 0.0

    assert width(charts.saving_bar(2, 1.5, 0, 2), "fill") * 2 == pytest.approx(
        width(charts.saving_bar(2, 1.5, 0, 2), "box"), abs=0.2
    )
    assert width(charts.saving_bar(2, 0.9, 0, 2), "fill") == 0
    assert width(charts.saving_bar(None, None, -1, 2), "box") == 0


def test_a_far_row_is_clipped_with_an_arrow_and_flattens_nothing() -> None:
    assert "polygon" in charts.interval_bar(10, 0.3, 88, 93, 92)
    assert "polygon" in charts.interval_bar(110, 0.3, 88, 93, 92)
    assert "polygon" not in charts.interval_bar(90, 0.3, 88, 93, 92)


def test_a_far_row_and_a_wide_interval_do_not_flatten_the_frontier() -> None:
    near = [Point(f"m{i}", 1.2 + i / 10, 87 + i / 10, (1.1, 1.3), 0.5, 1) for i in range(8)]
    wild = Point("wild", 1.25, 87.2, (1.2, 1.3), 30.0, 1)
    far = Point("far", 1.1, 42.0, (1.0, 1.2), 9.0, 0)

    def apart(points: list[Point]) -> float:
        squares = {g.get("data-m"): float(r.get("y", 0)) for g in draw(points).iter("g") for r in g if r.tag == "rect"}
        return squares["m0"] - squares["m7"]

    near, wild, far = [replace(p, key=p.label) for p in near], replace(wild, key="wild"), replace(far, key="far")
    assert apart([*near, wild, far]) > 0.5 * apart(near)
    svg = draw([*near, wild, far])
    assert "far ↓ 42.0" in [t.text for t in svg.iter("text")]  # drawn at the end of the axis, with its number
    height = float(svg.get("height", 0))
    assert all(0 <= float(line.get(k, 0)) <= height for line in svg.iter("line") for k in ("y1", "y2"))
    best_is_low = charts.near([(1.0, 0.1), (1.2, 0.1), (1.4, 0.1), (80.0, 2.0)], up=False)
    assert best_is_low[0] == pytest.approx(0.9)
    assert best_is_low[1] < 2


def test_who_pays_names_the_class_that_pays_most() -> None:
    svg = ElementTree.fromstring(
        charts.who_pays([("chex", 0, [("shirt", -3.0), ("bag", 0.2), ("boot", -1.0)])], "points", part="class", parent="bce")
    )
    dots = list(svg.iter("circle"))
    assert len(dots) == 3
    assert [c.findtext("title") for c in dots if c.get("class") == "dot"] == ["shirt −3"]
    assert "shirt" in [t.text for t in svg.iter("text")]
    assert charts.who_pays([], "points", part="class", parent="bce") == ""


bell = st.builds(
    lambda start, change, half, small: Dumbbell("a part & more", start, start + change, change, half, change, small),
    st.integers(0, 100),
    st.integers(-60, 20),
    st.one_of(st.integers(0, 90), st.just(math.nan)),
    st.booleans(),
)


def numbers(svg: ElementTree.Element) -> list[tuple[float, float]]:
    """Ends of all that a drawing's paths, lines and polylines draw."""
    out: list[tuple[float, float]] = []
    for path in svg.iter("path"):
        x = y = 0.0
        for letter, text in re.findall(r"([MHVhvlz])([^MHVhvlz]*)", path.get("d", "")):
            n = [float(v) for v in re.findall(r"-?[0-9.]+", text)]
            if letter == "z":
                continue
            x = n[0] if letter in "MH" else x + n[0] if letter in "hl" else x
            y = n[-1] if letter in "MV" else y + n[-1] if letter in "vl" else y
            out.append((x, y))
    for e in svg.iter("line"):
        out += [(float(e.get(f"x{k}", "nan")), float(e.get(f"y{k}", "nan"))) for k in (1, 2)]
    out += [(float(x), float(y)) for e in svg.iter("polyline") for x, y in (p.split(",") for p in e.get("points", "").split())]
    return out


@settings(max_examples=60)
@given(st.lists(st.lists(bell, min_size=1, max_size=8), min_size=1, max_size=4))
def test_every_block_of_dumbbells_lies_within_its_frame_and_no_two_of_its_words_touch(blocks: list[list[Dumbbell]]) -> None:
    drawn = charts.dumbbells([(f"m{i}<", i - 1, bells) for i, bells in enumerate(blocks)], "%", part="group", parent="dense")
    axes = set()
    for text, bells in zip(drawn, blocks, strict=True):
        svg = ElementTree.fromstring(text)
        height = float(svg.get("height", 0))
        assert all(0 <= x <= charts.BLOCK and 0 <= y <= height for x, y in numbers(svg))
        ticks = [t for t in svg.iter("text") if t.get("text-anchor") == "middle"]
        axes.add(tuple((t.text, t.get("x")) for t in ticks))
        names = [t for t in svg.iter("text") if t.get("class", "").startswith("tick") and t not in ticks]
        assert len(names) == 2 * len(bells)
        heights = sorted({float(t.get("y", "nan")) for t in names})
        assert all(b - a >= 15 for a, b in pairwise(heights))
        assert heights[-1] < height - 8
        hollow = [p.get("d", "") for p in svg.iter("path") if p.get("class") == "hollow"]
        ends = sum(p.get("d", "").count("h0") for p in svg.iter("path") if p.get("class", "").startswith("end"))
        tips = sum(p.get("d", "").count("M") for p in svg.iter("path") if p.get("class", "").startswith("tip"))
        assert ends + tips == len(bells)
        assert sum(h.count("M") for h in hollow) <= sum(b.small for b in bells)
        assert svg.get("role") == "img"
        assert all(b.label in (svg.findtext("desc") or "") for b in bells)
    assert len(axes) == 1  # one axis for all


def test_a_dumbbell_says_which_way_it_goes_and_whether_that_is_certain() -> None:
    bells = [
        Dumbbell("lost", 80, 74, -6, 2, -6),
        Dumbbell("won", 80, 83, 3, 2, 3),
        Dumbbell("perhaps", 80, 77, -3, 4, -3),
        Dumbbell("unknown", 80, 78, -2, math.nan, -2),
        Dumbbell("tiny", 80, 72, -8, 1, -8, small=True),
        Dumbbell("same", 80, 80, 0.01, 0.2, 0.01),
    ]
    (text,) = charts.dumbbells([("chex", 0, bells)], "%", part="group", parent="dense")
    svg = ElementTree.fromstring(text)
    counts = {p.get("class", ""): p.get("d", "").count("M") for p in svg.iter("path")}
    assert (counts["end worse"], counts["end better"], counts["end worse faint"], counts["end better faint"]) == (2, 1, 2, 1)
    assert (counts["hollow"], counts["was"]) == (1, 6)
    assert sum(n for kind, n in counts.items() if kind.startswith("range")) == 5  # no interval where there is none
    bold = [t.text for t in svg.iter("text") if "most" in t.get("class", "")]
    assert bold == ["lost", "−6.0"]  # the tiny one is not compared
    assert "0.0" in [t.text for t in svg.iter("text")]
    assert charts.dumbbells([], "%", part="group", parent="dense") == []


def test_a_collapsed_network_is_clipped_with_an_arrow_and_flattens_no_other() -> None:
    calm = [("m", 0, [Dumbbell(f"g{i}", 80 + i, 78 + i, -2, 0.5, -2) for i in range(6)])]
    wild = [*calm, ("wild", 1, [Dumbbell("g0", 80, 9, -71, 1, -71)])]
    first, second = charts.dumbbells(wild, "%", part="group", parent="dense")
    assert first == charts.dumbbells(calm, "%", part="group", parent="dense")[0]
    assert "−71.0" in second
    assert 'class="tip worse"' in second


trail = st.builds(
    lambda spots, mark, label: Trail(
        label,
        [Point(f"{label} {i}", x, y, (x - w, x + w), h, mark, "k") for i, (x, y, w, h) in enumerate(spots)],
        mark,
        [f"{i / 10:g}" for i in range(len(spots))] if len(spots) > 1 else [],
        [i % 2 == 1 for i in range(len(spots))],
    ),
    st.lists(
        st.tuples(
            st.integers(0, 300).map(lambda v: v / 10),
            st.integers(500, 900).map(lambda v: v / 10),
            st.integers(0, 20).map(lambda v: v / 10),
            st.one_of(st.integers(0, 30).map(lambda v: v / 10), st.just(math.nan)),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(-2, 6),
    st.sampled_from(["bifp", "a_longer_name", "x<&"]),
)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(trail, min_size=1, max_size=7), st.sampled_from([760, 380]))
def test_a_trade_off_stays_in_its_frame_and_no_two_labels_touch(trails: list[Trail], width: int) -> None:
    svg = ElementTree.fromstring(trade(trails, width))
    height = float(svg.get("height", 0))
    assert all(0 <= x <= width and 0 <= y <= height for x, y in numbers(svg))
    assert len([g for g in svg.iter("g") if "pt" in g.get("class", "").split()]) == sum(len(t.points) for t in trails)
    assert len(list(svg.iter("polyline"))) == sum(len(t.points) > 1 for t in trails)
    boxes = []
    for text in svg.iter("text"):
        kind, x, y = text.get("class"), float(text.get("x", "nan")), float(text.get("y", "nan"))
        if kind in ("label", "tiny"):
            wide = (7.0 if kind == "label" else 6.0) * len(text.text or "")
            boxes.append(Box(x + 0.1, y - 11, x + wide - 0.1, y + 2))
    assert all(b.left >= 0 and b.right <= width for b in boxes)
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.meets(b)]
    assert "nan" not in "".join(svg.itertext()) + ElementTree.tostring(svg, encoding="unicode")
    assert all(p.label in (svg.findtext("desc") or "") for t in trails for p in t.points)


def test_the_steps_of_a_trade_off_go_from_the_least_cost_to_the_best_quality() -> None:
    spots = [Point(f"m{i}", x, y, (x, x), 0.1, 0, "k") for i, (x, y) in enumerate([(4.0, 80.0), (6.0, 84.0), (9.0, 83.0)])]
    svg = ElementTree.fromstring(trade([Trail("m", spots, 0, ["1", "2", "3"])]))
    (front,) = (p.get("d", "") for p in svg.iter("path") if p.get("class") == "front")
    at = {g.get("data-m"): g for g in svg.iter("g") if "pt" in g.get("class", "").split()}
    assert at
    moves = re.findall(r"[MHV][^MHV]+", front)
    assert [m[0] for m in moves] == ["M", "V", "H", "V", "H"]  # from the foot up, across and up, and on to the frame
    assert float(moves[-1][1:]) == 760 - 16


@pytest.mark.parametrize("width", [380, 760])
def test_a_long_name_beside_a_curve_stays_within_the_drawing(width: int) -> None:
    curves = [charts.Curve("exponentiated_gradient", [(0.5, 80.0, 1.0), (0.1, 70.0, 1.0)], 0)]
    drawn = charts.along_targets(curves, None, kept="weights", quality="q", unit="%", up=True, width=width, ident="a")
    (x,) = [float(v) for v in re.findall(r'class="label" x="([\d.]+)"', drawn)]
    assert x + charts.NAME_LETTER * len(curves[0].label) <= width


@pytest.mark.parametrize("width", [760, 380])
def test_no_name_in_who_pays_begins_outside_its_chart(width: int) -> None:
    names = ["chex", "tri_level_evit (attention=1.0,examples=1.0)", "a" * 90]
    svg = ElementTree.fromstring(
        charts.who_pays([(n, 0, [("shirt", -3.0)]) for n in names], "points", width, part="class", parent="dense")
    )
    texts = [t for t in svg.iter() if t.tag.endswith("text") and t.get("class") == "label"]
    assert len(texts) == 3
    for text in texts:
        shown = [*text.itertext()][-1]
        assert float(text.get("x", 0)) - charts.NAME_LETTER * len(shown) >= 0, shown
    assert names[2] in {title.text for title in svg.iter() if title.tag.endswith("title")}  # in full under a pointer
