"""The guided start's questions about an OPC UA server: where it is, how it is secured, and which node is what.

Decides what is proposed: the strongest security that the server offers, and nodes by their names, with live values.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.x509 import Certificate

from agent.certificates import CERTIFICATE_FILE, FOLDER, fingerprint, read_certificate
from agent.commissioning.answers import none_for_nothing
from agent.commissioning.ask import Asker, Wrong
from agent.commissioning.guess import guesses
from agent.commissioning.peers import CONNECT_S, Unreachable, opcua_peer, opcua_source
from agent.commissioning.plan import Plan
from agent.commissioning.tree import Node, Space, quoted
from agent.config_opcua import OpcuaSource
from agent.sources.opcua_client import LINK_ERRORS, ReadOnlyClient, asked
from agent.sources.opcua_security import POLICY_CLASSES, read_password
from agent.sources.opcua_words import link_words
from agent.trust import TrustStore
from protocols.errors import ConfigurationError

_STRENGTH: Final = ("Aes256Sha256RsaPss", "Aes128Sha256RsaOaep", "Basic256Sha256", "None")
_SHOWN: Final = 8
ROLES: Final = {
    "state": "the machine's state",
    "running": "whether it runs (a bit)",
    "total": "pieces, counted up: all that were made",
    "reject": "pieces that were rejected, counted up",
    "product": "which product is made (a number or a name)",
    "fault": "a fault word (not 0 while a fault is on)",
    "reason": "the code of why it stands",
    "order": "whether there is an order (without it there always is one)",
}
_WHY_ENDPOINT: Final = "The address of the PLC's OPC UA server, as its maker or its settings name it."
_WHY_USER: Final = "Of the OPC UA server, where it wants one; a user that may only read is best. None for none."
_WHY_FILE: Final = "Its first line is the password. Make it first: (umask 077; cat > plc.password)"
_WHY_AGAIN: Final = "Mend what it says, here or at the server. Without it no node can be named: n ends it here."
_WHY_SECURITY: Final = "How the connection is protected. The strongest that the server offers is proposed."


def ask_opcua(asker: Asker, plan: Plan, folder: Path) -> Space:
    """Asks and tries until the server answers; its nodes. Raises ConfigurationError when it is given up."""
    state_folder = folder / plan.state_folder
    asker.heading("The PLC's OPC UA server")
    default: str | None = "opc.tcp://192.168.0.10:4840"
    user, secret = "", "plc.password"
    while True:
        source = asker.ask("endpoint", "Endpoint", _WHY_ENDPOINT, default, _endpoint)
        default = source.endpoint
        asker.say(f"  asking {source.endpoint} …", "dim")
        try:
            offers = asyncio.run(_offers(source))
            policy = asker.choose(
                "security", "Security", _WHY_SECURITY,
                [(name, _security_words(name)) for name in offers], offers[0],
            )  # fmt: skip
            user = asker.ask("username", "User name", _WHY_USER, user, none_for_nothing)
            if user:
                secret = asker.ask("password-file", "File with the password", _WHY_FILE, secret, _secret(folder))
            source = opcua_source(source.endpoint, policy, username=user or None,
                                  password_file=folder / secret if user else None)  # fmt: skip
            plan.source = {"protocol": '"opcua"', "endpoint": quoted(source.endpoint)}
            if policy != "None":
                plan.source |= {"security_policy": quoted(policy), "security_mode": '"SignAndEncrypt"'}
            if user:
                plan.source |= {"username": quoted(user), "password_file": quoted(secret)}
            return _walk(asker, source, state_folder, plan.gateway_id)
        except Unreachable as error:
            asker.say(f"  {error}", "yellow")
            own = state_folder / FOLDER / CERTIFICATE_FILE
            if "this gateway's certificate" in str(error) and own.exists():
                asker.say(
                    f"  This gateway's certificate: {own}, fingerprint {_groups(read_certificate(own))}", "yellow"
                )
        if not asker.interactive or not asker.yes("again", "Try again", _WHY_AGAIN, True):
            mend = "begin again when the server can be reached, or write the tags by hand from a template (linetally-"
            mend += "agent templates)"
            raise ConfigurationError("without the server its nodes cannot be named; nothing was written", mend=mend)


def _endpoint(text: str) -> OpcuaSource:
    try:
        return opcua_source(text if "://" in text else f"opc.tcp://{text}")
    except ConfigurationError as error:
        raise Wrong(error.mend) from None


def _secret(folder: Path) -> Callable[[str], str]:
    def read(text: str) -> str:
        try:
            read_password(folder / text)
        except ConfigurationError as error:
            raise Wrong(f"{error.what}; {error.mend}") from None
        return text

    return read


def _security_words(name: str) -> str:
    return "nobody can read or alter it" if name != "None" else "unprotected: anybody on the network could alter it"


async def _offers(source: OpcuaSource) -> list[str]:
    """The policies that the server offers with encryption, the strongest first. Raises Unreachable."""
    client = ReadOnlyClient(source.endpoint, source.timeout_ms / 1000)
    try:
        async with asyncio.timeout(CONNECT_S):
            endpoints = await asked(client.connect_and_get_server_endpoints())
    except LINK_ERRORS as error:
        raise Unreachable(f"{source.endpoint}: {link_words(error)}") from error
    finally:
        await client.end()
    offered = {
        name
        for name, policy in POLICY_CLASSES.items()
        for endpoint in endpoints
        if endpoint.SecurityPolicyUri == policy.URI and endpoint.SecurityMode.name in ("None_", "SignAndEncrypt")
    }
    return [name for name in _STRENGTH if name in offered] or ["None"]


def _walk(asker: Asker, source: OpcuaSource, state_folder: Path, gateway_id: str) -> Space:
    store = TrustStore(state_folder)
    while True:
        try:
            space = asyncio.run(_read(source, state_folder, gateway_id))
        except Unreachable as error:
            known = {fingerprint(certificate): certificate for _, certificate in store.rejected()}
            shown = next((each for each in known if each[:8] in str(error)), None)
            if shown is None or not asker.interactive:
                raise
            asker.say(f"  The server shows a certificate with the fingerprint\n  {_groups(known[shown])}", "yellow")
            why = "Look at the server's own display or settings. Only if the two are the same is it your PLC."
            if not asker.yes("trust", "Is it the same", why, default=False):
                raise
            store.accept(shown)
            continue
        variables = [node for node in space.all() if node.is_variable]
        asker.say(f"  connected: {len(variables):,} variables, each read once", "green")
        if space.is_cut:
            asker.say("  it has more; those that lie deeper: linetally-agent browse, when the file is there", "yellow")
        return space


def _groups(certificate: Certificate) -> str:
    """The fingerprint, to be compared by eye."""
    digits = fingerprint(certificate)
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))


async def _read(source: OpcuaSource, state_folder: Path, gateway_id: str) -> Space:
    async with opcua_peer(source, state_folder, gateway_id) as client:
        space = await Space.of(client)
        await space.walk(10)
        return space


def ask_nodes(asker: Asker, plan: Plan, space: Space, needed: list[str], wanted: list[str]) -> dict[str, Node]:
    """A node for each role; those of `wanted` may be left out. Fills the plan's tags."""
    nodes = space.all()
    likely = guesses(nodes)
    picked: dict[str, Node] = {}
    for role in [*needed, *wanted]:
        offered = [node for node in likely.get(role, []) if node not in picked.values()][:_SHOWN]
        default = offered[0].path if offered else ("none" if role in wanted else None)
        if asker.interactive:
            asker.console.print()
            for number, node in enumerate(offered, 1):
                asker.say(f"  {number}  {node.path} = {node.value or node.trouble}")

        def read(text: str, offered: list[Node] = offered, role: str = role) -> Node | None:
            if text == "none" and role in wanted:
                return None
            if text.isdecimal() and 1 <= int(text) <= len(offered):
                return offered[int(text) - 1]
            if text.lower().startswith("find "):
                fitting = [n for n in nodes if n.is_variable and text[5:].strip().lower() in n.path.lower()][:20]
                raise Wrong("\n  ".join(f"{n.path} = {n.value}" for n in fitting) or "nothing fits")
            exact = [node for node in nodes if node.is_variable and node.path == text.strip("/")]
            if not exact:
                raise Wrong("a number of the list, a path such as Line/Admin/Count, or: find TEXT")
            return exact[0]

        why = f"{ROLES[role][0].upper()}{ROLES[role][1:]}. A number, a path, “find TEXT”"
        why += ", or none." if role in wanted else "."
        chosen = asker.ask(f"tag {role}", f"Which node is “{role}”", why, default, read)
        if chosen is not None:
            picked[role] = chosen
            plan.tags[role] = space.tag(chosen, role)
    return picked
