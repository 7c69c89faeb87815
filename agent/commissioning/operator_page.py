"""The operator's page as HTML, without a script: the last stops, each with a form for its reason; late rejects.

Decides what is shown and how. Every text that comes from outside is escaped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from zoneinfo import ZoneInfo

from agent.commissioning.operator_words import category, words
from protocols.measurement.timeline import Stop


@dataclass(frozen=True, slots=True)
class LineView:
    """A line: its stops, the newest first, each with the reason that stands. `zone`: IANA name."""

    line_id: str
    name: str
    zone: str
    stops: Sequence[tuple[Stop, str]]


@dataclass(frozen=True, slots=True)
class SentView:
    """Something that was said: `state` is waiting, signed or refused."""

    what: str
    who: str
    state: str
    words: str


def page(
    lines: Sequence[LineView], sent: Sequence[SentView], reasons: Sequence[str], token: str, language: str,
    good: str = "", bad: str = "",
) -> str:  # fmt: skip
    """The whole page. `token`: proves that a form came from it. `reasons`: offered for choice."""
    say = words(language)
    body = [_message("good", good), _message("bad", bad)]
    options = "".join(f'<option value="{escape(reason)}">' for reason in reasons)
    body.append(f'<datalist id="reasons">{options}</datalist>')
    for line in lines:
        body += _line(line, token, language)
    body.append(f"<h2>{say['sent']}</h2>")
    rows = [
        f"<li>{escape(each.what)} <span class=soft>{escape(each.who)} · {say[each.state]}</span>"
        + (f"<br><span class=soft>{escape(each.words)}</span>" if each.words else "") + "</li>"
        for each in sent
    ]  # fmt: skip
    body.append(f"<ul>{''.join(rows)}</ul>" if rows else f"<p class=soft>{say['nothing']}</p>")
    body.append(f"<p class=soft>{say['note']}</p>")
    return _document("".join(body), language)


def login(language: str, bad: str = "") -> str:
    """Asks for the PIN."""
    say = words(language)
    field = "<input name=pin type=password inputmode=numeric autocomplete=current-password required autofocus>"
    return _document(
        f"{_message('bad', bad)}<form method=post action=/pin><label>{say['pin']}{field}</label>"
        f"<button>{say['enter']}</button></form>",
        language,
    )


def _line(line: LineView, token: str, language: str) -> list[str]:
    say, zone = words(language), ZoneInfo(line.zone)
    out = [f"<h2>{escape(line.name)}: {say['stops']}</h2><p class=soft>{say['zone']} {escape(line.zone)}</p>"]
    who = f"<label>{say['who']}<input name=who autocomplete=name maxlength=100 required></label>"
    why = f'<label>{say["why"]}<input name=why maxlength=200 value="{escape(say["by_operator"])}" required></label>'
    hidden = f'<input type=hidden name=token value="{escape(token)}">'
    hidden += f'<input type=hidden name=line value="{escape(line.line_id)}">'
    rows = []
    for stop, reason in line.stops:
        began = datetime.fromtimestamp(stop.start_ms / 1000, UTC).astimezone(zone)
        seconds = (stop.end_ms - stop.start_ms) // 1000
        length = f"{seconds // 60} {say['min']}" if seconds >= 60 else f"{seconds} {say['s']}"
        shown = escape(reason) if reason else f"<i>{say['no_reason']}</i>"
        rows.append(
            f"<li><details><summary><b>{began:%m-%d %H:%M:%S}</b><span>{length}</span>"
            f"<span class=soft>{escape(category(stop.category.name, language))} · {shown}</span>"
            f"<a>{say['change'] if reason else say['give']}</a></summary>"
            f"<form method=post action=/reason>{hidden}<input type=hidden name=stop value={stop.start_ms}>"
            f"<label>{say['reason']}<input name=reason list=reasons maxlength=200 required autocomplete=off></label>"
            f"{who}{why}<button>{say['send']}</button></form></details></li>"
        )
    out.append(f"<ul>{''.join(rows)}</ul>" if rows else f"<p class=soft>{say['no_stops']}</p>")
    out.append(
        f"<details><summary><a>{say['rejects']}</a></summary><form method=post action=/rejects>{hidden}"
        f"<div class=row><label>{say['from']}<input type=datetime-local name=from required></label>"
        f"<label>{say['to']}<input type=datetime-local name=to required></label></div>"
        f"<label>{say['count']}<input type=number name=count min=1 inputmode=numeric required></label>"
        f"{who}{why}<button>{say['send']}</button></form></details>"
    )
    return out


def _message(kind: str, text: str) -> str:
    mark = "✓" if kind == "good" else "!"
    return f"<p class={kind} role=status>{mark} {escape(text)}</p>" if text else ""


def _document(body: str, language: str) -> str:
    say = words(language)
    other = "en" if language == "zh" else "zh"
    code = "zh-Hant-HK" if language == "zh" else "en"
    return (
        f"<!doctype html><html lang={code}><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{say['title']}</title><link rel=stylesheet href=/style.css>"
        f'<header><h1>{say["title"]}</h1><a href="/?lang={other}">{say["other"]}</a></header>{body}</html>'
    )
