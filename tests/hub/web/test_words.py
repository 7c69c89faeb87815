"""Both languages are complete, and every key that a page uses is there."""

from __future__ import annotations

import re
from pathlib import Path

from hub.api.access import Role
from hub.api.figures import Standing, Undefined
from hub.api.pages import OF_A_LINE, OF_ALL, OF_LINES
from hub.api.reading import MIXED, MIXED_TIMES, Wanted
from hub.api.rollup_models import titles
from hub.live import Loss
from hub.registry import GatewayState
from hub.web.words import LANGUAGES, TABLES, language_of
from protocols.measurement.account import Category
from protocols.measurement.excess import Excess
from protocols.measurement.loss_tree import BigLoss
from protocols.measurement.ratios import FIGURES
from protocols.plc.packml import State

WEB = Path(__file__).resolve().parents[3] / "hub" / "web"
MAY_BE_EMPTY = ("shift", "day", "product", "order", "area", "site", "project", "scheme")
SAME_IN_BOTH = {"product", "undefined", "standing_firm", "oee_short"}


def test_no_language_lacks_a_word() -> None:
    english, chinese = TABLES["en"], TABLES["zh-Hant"]
    assert list(TABLES) == list(LANGUAGES) and english.keys() == chinese.keys()
    for key in english.keys() - SAME_IN_BOTH:
        assert english[key] and chinese[key] != english[key], key
        assert re.search(r"[\u4e00-\u9fff]|、", chinese[key]), key
        assert sorted(re.findall(r"\{\w+\}", english[key])) == sorted(re.findall(r"\{\w+\}", chinese[key])), key


def test_every_word_that_pages_use_exists() -> None:
    used: set[str] = set()
    for script in (WEB / "static").glob("*.js"):
        used |= set(re.findall(r'\bt\("([\w-]+)"', script.read_text()))
    for template in (WEB / "templates").glob("*.html"):
        used |= set(re.findall(r"\bw\.(\w+)", template.read_text()))
    assert len(used) > 60
    used |= {f"category_{category.name}" for category in Category} | {f"state_{state.name}" for state in State}
    used |= {f"standing_{word.value}" for word in Standing} | {word.value for word in Undefined}
    used |= {"standing_told"} | {f"gone_{loss.value}" for loss in (Loss.GATEWAY, Loss.PLC)}
    used |= {f"health_{state.value}" for state in GatewayState} | {f"role_{role.value}" for role in Role}
    used |= {"verdict_improved", "verdict_not_shown", "verdict_worsened", "verdict_insufficient"}
    used |= {f"by_{name}" for name in (*OF_A_LINE, *OF_LINES, *OF_ALL)} | {f"without_{name}" for name in MAY_BE_EMPTY}
    used |= {f"read_{name.value}" for name in Wanted} | {f"note_{name}" for name in (MIXED, MIXED_TIMES)}
    used |= {f"part_{name}" for name in titles()} | {f"figure_{name}" for name in FIGURES}
    used |= {f"big_{name.value}" for name in BigLoss} | {"big_fully-productive"}
    notes = (WEB.parents[1] / "protocols" / "measurement" / "notes.py").read_text()
    used |= {f"note_{code}" for code in re.findall(r'Note\(\s*"([\w-]+)"', notes)}
    pages = (WEB.parent / "api" / "__init__.py").read_text()
    used |= set(re.findall(r'pages\.problem\(.*"(\w+)"\)', pages))
    used |= {word for why in Excess for word in (why.value, f"note_{why.value}")}
    assert used <= TABLES["en"].keys(), used - TABLES["en"].keys()


def test_every_reason_of_the_method_has_its_words() -> None:
    source = (WEB.parents[1] / "protocols" / "measurement" / "finding.py").read_text()
    codes = set(re.findall(r'Reason\("([\w-]+)"', source))
    assert codes and {f"reason_{code}" for code in codes} <= TABLES["en"].keys()


def test_language_of_a_request() -> None:
    assert language_of("zh-Hant", "en", "en") == "zh-Hant"
    assert language_of("xx", "zh-Hant", "en") == "zh-Hant"
    assert language_of(None, None, "zh-HK,zh;q=0.9,en;q=0.8") == "zh-Hant"
    assert language_of(None, "<script>", "fr, en;q=0.5") == "en"
    assert language_of(None, None, None) == "en"
