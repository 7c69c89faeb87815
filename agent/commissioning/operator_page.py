"""The operator's page as HTML, without a script: the last stops, each with a form for its reason; late rejects.

Decides what is shown and how. Every text that comes from outside is escaped here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Something that was said of [from_ms, to_ms): a reason, or so many bad pieces. `zone`: IANA name.

    `state` is waiting, signed or refused.
    """

    line_id: str
    zone: str
    from_ms: int
    to_ms: int
    reason: str
    bad_pieces: int | None
    who: str
    state: str
    words: str


@dataclass(frozen=True, slots=True)
class Forms:
    """What all forms of a page hold. `token`: proves that they came from it; `id`: of this page, so that what is sent
    from it twice is one. `typed`: what was sent and not taken, with the form's name as `form`, to be shown again."""

    token: str
    id: str
    typed: Mapping[str, str]

    def value(self, name: str, form: Mapping[str, str], default: str = "") -> str:
        """An attribute: what was typed into this field, where it was typed into this form."""
        return f'value="{escape(self.typed.get(name, default) if self.is_typed(form) else default)}"'

    def is_typed(self, form: Mapping[str, str]) -> bool:
        return bool(self.typed) and all(self.typed.get(key) == value for key, value in form.items())


def page(
    lines: Sequence[LineView], sent: Sequence[SentView], reasons: Sequence[str], forms: Forms, language: str,
    good: str = "", bad: str = "",
) -> str:  # fmt: skip
    """The whole page. `reasons`: offered for choice."""
    say = words(language)
    body = [_message("good", good), _message("bad", bad)]
    options = "".join(f'<option value="{escape(reason)}">' for reason in reasons)
    body.append(f'<datalist id="reasons">{options}</datalist>')
    for line in lines:
        body += _line(line, forms, language)
    body.append(f"<h2>{say['sent']}</h2>")
    rows = [
        f"<li>{_sent(each, language)} <span class=soft>{escape(each.who)} · {say[each.state]}</span>"
        + (f"<br><span class=soft>{escape(each.words)}</span>" if each.words else "") + "</li>"
        for each in sent
    ]  # fmt: skip
    body.append(f"<ul>{''.join(rows)}</ul>" if rows else f"<p class=soft>{say['nothing']}</p>")
    body.append(f"<p class=soft>{say['note']}</p>")
    return _document("".join(body), language)


def note(text: str) -> str:
    """A page that only says something."""
    return _document(_message("bad", text), "en")


def login(language: str, bad: str = "") -> str:
    """Asks for the PIN."""
    say = words(language)
    field = "<input name=pin type=password inputmode=numeric autocomplete=current-password required autofocus>"
    return _document(
        f"{_message('bad', bad)}<form method=post action=/pin><label>{say['pin']}{field}</label>"
        f"<button>{say['enter']}</button></form>",
        language,
    )


def _sent(sent: SentView, language: str) -> str:
    begin, end = (_local(at_ms, ZoneInfo(sent.zone)) for at_ms in (sent.from_ms, sent.to_ms))
    if sent.bad_pieces is None:
        return f"{escape(sent.line_id)}, {begin:%m-%d %H:%M:%S}: {escape(sent.reason)}"
    return (
        f"{escape(sent.line_id)}, {begin:%m-%d %H:%M} – {end:%m-%d %H:%M}: {words(language)['count']} {sent.bad_pieces}"
    )


def _local(at_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)


def _line(line: LineView, forms: Forms, language: str) -> list[str]:
    say, zone = words(language), ZoneInfo(line.zone)
    out = [f"<h2>{escape(line.name)}: {say['stops']}</h2><p class=soft>{say['zone']} {escape(line.zone)}</p>"]

    def said_by(form: Mapping[str, str]) -> str:
        hidden = {"token": forms.token, "id": forms.id, "line": line.line_id}
        return (
            "".join(f'<input type=hidden name={name} value="{escape(value)}">' for name, value in hidden.items())
            + f"<label>{say['who']}<input name=who autocomplete=name maxlength=100 required"
            f" {forms.value('who', form)}></label>"
            f"<label>{say['why']}<input name=why maxlength=200 required"
            f" {forms.value('why', form, say['by_operator'])}></label>"
        )

    rows = []
    for stop, reason in line.stops:
        form = {"form": "/reason", "line": line.line_id, "stop": str(stop.start_ms)}
        began = _local(stop.start_ms, zone)
        seconds = (stop.end_ms - stop.start_ms) // 1000
        length = f"{seconds // 60} {say['min']}" if seconds >= 60 else f"{seconds} {say['s']}"
        shown = escape(reason) if reason else f"<i>{say['no_reason']}</i>"
        rows.append(
            f"<li><details{' open' if forms.is_typed(form) else ''}>"
            f"<summary><b>{began:%m-%d %H:%M:%S}</b><span>{length}</span>"
            f"<span class=soft>{escape(category(stop.category.name, language))} · {shown}</span>"
            f"<a>{say['change'] if reason else say['give']}</a></summary>"
            f"<form method=post action=/reason><input type=hidden name=stop value={stop.start_ms}>"
            f"<label>{say['reason']}<input name=reason list=reasons maxlength=200 required autocomplete=off"
            f" {forms.value('reason', form)}></label>"
            f"{said_by(form)}<button>{say['send']}</button></form></details></li>"
        )
    out.append(f"<ul>{''.join(rows)}</ul>" if rows else f"<p class=soft>{say['no_stops']}</p>")
    form = {"form": "/rejects", "line": line.line_id}
    out.append(
        f"<details{' open' if forms.is_typed(form) else ''}><summary><a>{say['rejects']}</a></summary>"
        "<form method=post action=/rejects>"
        f"<div class=row><label>{say['from']}<input type=datetime-local name=from required"
        f" {forms.value('from', form)}></label>"
        f"<label>{say['to']}<input type=datetime-local name=to required {forms.value('to', form)}></label></div>"
        f"<label>{say['count']}<input type=number name=count min=1 inputmode=numeric required"
        f" {forms.value('count', form)}></label>"
        f"{said_by(form)}<button>{say['send']}</button></form></details>"
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
