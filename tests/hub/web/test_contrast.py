"""Every text of the palette stands out 4.5:1 from its ground, light and dark (WCAG 2.2, 1.4.3)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

LOOK = (Path(__file__).resolve().parents[3] / "hub" / "web" / "static" / "look.css").read_text()
CATEGORIES = (
    "producing", "setup", "failure", "minor-stop", "restraint", "held", "unassigned", "no-order", "planned-down",
    "unknown", "speed", "rejects", "startup",
)  # fmt: skip
PAIRS = [
    *(("ink", ground) for ground in ("ground", "panel", "sunk")),
    *(("ink-2", ground) for ground in ("ground", "panel", "sunk")),
    *(("accent", ground) for ground in ("ground", "panel")),
    ("on-accent", "accent"), ("warn-ink", "warn-ground"), ("bad-ink", "bad-ground"), ("good-ink", "panel"),
    ("poor-ink", "panel"), *((f"on-{name}", name) for name in CATEGORIES),
]  # fmt: skip


def palette(dark: bool) -> dict[str, str]:
    first, second = re.findall(r":root \{(.*?)\n ?\s*\}", LOOK, re.DOTALL)[:2]
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", first + (second if dark else "")))


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_the_formula_gives_the_standards_extremes() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#777777") == 1


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out(dark: bool) -> None:
    colours = palette(dark)
    weak = {(ink, on): round(contrast(colours[ink], colours[on]), 2) for ink, on in PAIRS}
    assert not {pair: ratio for pair, ratio in weak.items() if ratio < 4.5}


@pytest.mark.parametrize("dark", [False, True])
def test_bars_stand_out_from_their_panel(dark: bool) -> None:
    colours = palette(dark)
    for shape in ("bar", "accent", "hatch"):
        assert contrast(colours[shape], colours["panel"]) >= 3, shape


def test_colour_is_never_set_beside_the_palette() -> None:
    rest = re.sub(r":root \{.*?\n ?\s*\}", "", LOOK, flags=re.DOTALL)
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[;\s])", rest)
