"""What was answered in a guided start, and the configuration file that comes of it.

Decides the file's form: every key with a comment that says what it is, in the order of docs/agent.md. What the answers
may be is decided in `answers`, and whether the file is right by reading it as the agent does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.commissioning.tree import quoted

SERVICE_FOLDER: Final = "/var/lib/linetally-agent"
"""The only folder that the service may write to (deploy/systemd/linetally-agent.service)."""
_OPTIONAL: Final = ("reject", "product", "reason", "order")
_NEEDED: Final = {"packml": ["state", "total"], "values": ["state", "total"], "running": ["running", "total"],
                  "pieces": ["total"]}  # fmt: skip


def needed(machine: str) -> list[str]:
    """The roles that a machine of this kind must have tags for."""
    return _NEEDED[machine]


def roles(machine: str) -> list[str]:
    """All roles that are asked for."""
    return [*needed(machine), *(["fault"] if machine in ("running", "pieces") else []), *_OPTIONAL]


def is_of_service(file: Path) -> bool:
    """Whether a configuration is the installed service's, as deploy/install-agent sets it up."""
    return file.resolve().is_relative_to("/etc/linetally")


@dataclass(slots=True)
class Plan:
    """The answers. `source`: keys of [line.source]; `tags`: role -> inline table; `states`: value -> PackML state;
    `shifts`: (name, start, end); `products`: (code, name, ideal cycle in seconds or "")."""

    gateway_id: str
    site: str
    hub_url: str
    broker_host: str
    broker_port: int
    broker_tls: bool
    line_id: str
    line_name: str
    timezone: str
    state_folder: str = "state"
    source: dict[str, str] = field(default_factory=dict)
    machine: str = "packml"
    tags: dict[str, str] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    products: list[tuple[int, str, str]] = field(default_factory=list)
    max_pieces_per_hour: int = 0
    shifts: list[tuple[str, str, str]] = field(default_factory=list)

    def text(self, file: str) -> str:
        """The whole file."""
        out = [
            "# Made by: linetally-agent init. Change it as you like; every key is explained in docs/agent.md.",
            f"# After a change:  linetally-agent check --config {file}",
            f"#                  linetally-agent doctor --config {file}",
            "", "[gateway]",
            _key("id", quoted(self.gateway_id), "the name that the hub knows this gateway by"),
            _key("site", quoted(self.site), "stands in every record"),
            _key("state_folder", quoted(self.state_folder), "keys and spool; beside this file unless it begins with /"),
            "",
        ]  # fmt: skip
        if self.hub_url:
            out += ["[hub]", _key("url", quoted(self.hub_url), "where to enrol"), ""]
        out += [
            "[broker]",
            _key("host", quoted(self.broker_host), "where records are sent"),
            _key("port", str(self.broker_port), "8883 with TLS, 1883 without"),
        ]
        if self.broker_tls:
            keys = f"{self.state_folder}/" if self.state_folder == SERVICE_FOLDER else ""
            out += [
                "", "[broker.tls]                    # the three files come from whoever runs the broker",
                _key("ca_file", quoted(f"{keys}ca.crt"), ""),
                _key("certificate_file", quoted(f"{keys}gateway-{self.gateway_id}.crt"), ""),
                _key("key_file", quoted(f"{keys}gateway-{self.gateway_id}.key"), "chmod 600"),
            ]  # fmt: skip
        out += ["", "[statement]", _key("window_s", "60", "a row each minute"),
                _key("interval_s", "900", "a signed statement each quarter of an hour"), ""]  # fmt: skip
        return "\n".join([*out, *self._line()]) + "\n"

    def _line(self) -> list[str]:
        out = ["[[line]]", _key("id", quoted(self.line_id), "short; stands in topics and records"),
               _key("name", quoted(self.line_name), "as people call it"),
               _key("timezone", quoted(self.timezone), "shifts are in it")]  # fmt: skip
        if self.max_pieces_per_hour:
            words = "the physical limit: tells a counter's roll-over from a reset"
            out.append(_key("max_pieces_per_hour", str(self.max_pieces_per_hour), words))
        out += [_key("staleness_s", "10", "a value without news for longer is unknown, never \"still running\""),
                _key("definition", '"iso-22400-2"', "what OEE means: linetally-agent definition"),
                "", "[line.source]                   # only ever read"]  # fmt: skip
        out += [_key(key, value, "") for key, value in self.source.items()]
        if self.machine not in ("packml", "values"):
            out += ["", "[line.mapping]                  # how it is told that the machine runs",
                    _key("kind", quoted(self.machine), "")]  # fmt: skip
        out += ["", "[line.tags]"]
        out += [_key(role, tag, "") for role, tag in self.tags.items()]
        if self.states:
            out += ["", "[line.states]                   # the tag's value = the PackML state that it means"]
            out += [f"{value} = {quoted(state)}" for value, state in sorted(self.states.items())]
        for code, name, cycle in self.products:
            words = "the product tag's number" if "product" in self.tags else ""
            out += ["", "[[line.product]]", _key("code", str(code), words),
                    _key("name", quoted(name), "")]  # fmt: skip
            out.append(
                _key("ideal_cycle_s", quoted(cycle), "seconds for a piece at best, as the maker or your record says")
                if cycle
                else '# ideal_cycle_s = "1.2"         # without it Effectiveness (and OEE) stay undefined'
            )
        for name, start, end in self.shifts:
            out += ["", "[[line.shift]]", _key("name", quoted(name), ""), _key("start", quoted(start), ""),
                    _key("end", quoted(end), "")]  # fmt: skip
        if not self.shifts:
            out += ["", "# Without shifts all time is planned. One would be:",
                    '# [[line.shift]]', '# name = "A"', '# start = "06:00"', '# end = "14:00"']  # fmt: skip
        return out


def _key(name: str, value: str, words: str) -> str:
    text = f"{name} = {value}"
    return f"{text:<31} # {words}" if words else text
