"""What `linetally-agent doctor` looks at on this machine: clock, folders, keys, disk, certificates.

Decides when each is a warning or a failure. What the agent has measured and sent is looked at in `doctor_spool`, what
answers over the network in `doctor_peers`.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.certificates import (
    CERTIFICATE_FILE,
    EXPIRY_WARNING,
    FOLDER,
    application_uri,
    fingerprint,
    read_certificate,
    uris,
)
from agent.clock import SystemClock
from agent.commissioning.doctor_spool import spool_findings
from agent.commissioning.finding import Finding, fail, failed, ok, warn
from agent.commissioning.plan import SERVICE_FOLDER, is_of_service
from agent.config import AgentConfiguration
from agent.config_opcua import OpcuaSource
from agent.keys import KEY_FILE, load_key, load_log_key, owner_of
from agent.spool_file import SPOOL_FILE
from protocols.errors import ConfigurationError, Malformed, Refused
from protocols.evidence.note import VerifierKey
from protocols.measurement.kernels import kept

_LEAST_FREE: Final = 200_000_000
_WARN_FREE: Final = 1_000_000_000
_BUILT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_CLOCK_ERROR_MS: Final = 2000


def local_findings(configuration: AgentConfiguration) -> Iterator[Finding]:
    """All that can be seen without the network."""
    yield clock_finding(configuration)
    yield from folder_findings(configuration)
    yield disk_finding(configuration)
    yield kernels_finding(configuration)
    yield from broker_file_findings(configuration)
    folder = configuration.state_folder
    if os.access(folder, os.F_OK) and not os.access(folder, os.R_OK | os.X_OK):
        return  # what is in it this user cannot see, and that is said
    yield from key_findings(configuration)
    if any(isinstance(line.source, OpcuaSource) for line in configuration.lines):
        yield certificate_finding(configuration)
    yield from spool_findings(configuration)


def clock_finding(configuration: AgentConfiguration) -> Finding:
    """Is the time of this machine kept?"""
    if configuration.simulation is not None:
        return warn("clock", "the simulator's clock is used", "leave [clock] out of the file on a real gateway")
    now = datetime.now(UTC)
    state = SystemClock().sync()
    shown = now.astimezone().isoformat(" ", "seconds")
    mend = "run: sudo timedatectl set-ntp true; then: timedatectl timesync-status"
    if now < _BUILT:
        return fail("clock", f"it shows {shown}, which cannot be", f"set the time. {mend}")
    if state.source == "none":
        return warn("clock", f"{shown}, but nothing keeps it right: every record will say so", mend)
    if state.error_ms > _CLOCK_ERROR_MS:
        return warn("clock", f"{shown}, but it may be {state.error_ms / 1000:.1f} s off", mend)
    return ok("clock", f"{shown}, kept by NTP to within {state.error_ms} ms")


def folder_findings(configuration: AgentConfiguration) -> Iterator[Finding]:
    """May this user keep its files, and nobody else read them?"""
    folder = configuration.state_folder
    if is_of_service(configuration.file) and not folder.is_relative_to(SERVICE_FOLDER):
        mend = f'write in [gateway]: state_folder = "{SERVICE_FOLDER}"'
        yield fail("state folder", f"the service may not write to {folder}, only to {SERVICE_FOLDER}", mend)
        return
    if not os.access(folder, os.F_OK):
        if os.access(_nearest(folder), os.W_OK):
            yield ok("state folder", f"{folder} is not there yet; enrol or run makes it")
        else:
            mend = f"run: sudo install -d -m 700 -o $USER {folder}"
            yield fail("state folder", f"{folder} is not there, and this user may not make it", mend)
        return
    found = folder.stat()
    may = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    if found.st_uid != os.geteuid():
        mend = f"run doctor as the agent's user: sudo -u {owner_of(folder)} linetally-agent doctor --config FILE"
        words = f"{folder} belongs to {owner_of(folder)}, and another user asks"
        yield (
            warn("state folder", words, mend) if may else fail("state folder", f"{words}: it cannot look into it", mend)
        )
        if not may:
            return
    if not may:
        yield fail("state folder", f"this user may not write to {folder}", f"run: sudo chown -R $USER {folder}")
    elif mode := stat.S_IMODE(found.st_mode) & 0o077:
        yield warn("state folder", f"others may look into {folder} (mode {mode:04o} too much)", f"chmod 700 {folder}")
    else:
        yield ok("state folder", f"{folder}, for this user only")


def _nearest(folder: Path) -> Path:
    """It, or what there is of the way to it, as far as this user may look: `Path.exists` raises where that ends."""
    return next(each for each in (folder, *folder.parents) if os.access(each, os.F_OK))


def key_findings(configuration: AgentConfiguration) -> Iterator[Finding]:
    """Is this gateway enrolled?"""
    folder = configuration.state_folder
    mend = f"linetally-agent enrol --hub URL --token TOKEN --config {configuration.file}"
    if not (folder / KEY_FILE).exists():
        yield fail("signing key", "this gateway has no key: it is not enrolled yet", f"run: {mend}")
        return
    try:
        load_key(folder)
        yield ok("signing key", "there, and for this user only")
        log_key = configuration.log_key or load_log_key(folder)
        if log_key is None:
            yield fail("log's key", "not known: the agent does not start", f"set hub.log_key, or run: {mend}")
        else:
            VerifierKey.parse(log_key)
    except (Malformed, Refused) as error:
        yield fail(
            "log's key",
            f"is not one: {error}; the agent does not start",
            f"take it from the hub's page, or run: {mend}",
        )
    except ConfigurationError as error:
        yield failed("signing key", error)


def disk_finding(configuration: AgentConfiguration) -> Finding:
    """Is there room for what is measured?"""
    folder = _nearest(configuration.state_folder)
    try:
        free = shutil.disk_usage(folder).free
        inodes = os.statvfs(folder)
    except OSError as error:
        return fail("disk", f"cannot be asked: {error.strerror}", "is the card or disk mounted?")
    words = f"{free / 1e9:.1f} GB free"
    mend = "delete what is not needed (journalctl --vacuum-size=100M), or lower raw.max_megabytes"
    if inodes.f_flag & os.ST_RDONLY:
        return fail("disk", "is read-only", "check the card (dmesg), then remount or replace it")
    if inodes.f_files and inodes.f_favail < 1000:
        return fail("disk", f"{words}, but hardly any file more can be made", mend)
    if free < _LEAST_FREE:
        return fail("disk", words, mend)
    spool = configuration.state_folder / SPOOL_FILE
    used = spool.stat().st_size if os.access(spool, os.F_OK) else 0
    wanted = configuration.raw.max_bytes - used if configuration.raw.keep_days else 0
    if free < _WARN_FREE or free < wanted:
        return warn("disk", f"{words}; raw samples may take {max(wanted, 0) / 1e9:.1f} GB more", mend)
    return ok("disk", words)


def kernels_finding(configuration: AgentConfiguration) -> Finding:
    """Can compiled kernels be kept?"""
    if not configuration.jit or os.environ.get("LINETALLY_JIT") == "off":
        return ok("kernels", "not compiled (kernel.jit): the same integers, somewhat slower")
    folder = kept.folder()
    mend = "set LINETALLY_CACHE to a folder of the agent's user, or kernel.jit to off"
    there = _nearest(folder)
    if not os.access(there, os.W_OK):
        return warn("kernels", f"{there} cannot be written: each start takes seconds more", mend)
    return ok("kernels", f"compiled ones are kept in {folder}")


def certificate_finding(configuration: AgentConfiguration) -> Finding:
    """The certificate that this gateway shows to OPC UA servers."""
    path = configuration.state_folder / FOLDER / CERTIFICATE_FILE
    secured = any(isinstance(line.source, OpcuaSource) and line.source.policy != "None" for line in configuration.lines)
    if not path.exists():
        return ok("OPC UA certificate", "none yet; " + ("made when it connects" if secured else "none is needed"))
    try:
        certificate = read_certificate(path)
    except ConfigurationError as error:
        return failed("OPC UA certificate", error)
    return judge_certificate("OPC UA certificate", certificate, application_uri(configuration.gateway_id))


def judge_certificate(about: str, certificate: Any, uri: str) -> Finding:
    """Name and time of the gateway's own certificate."""
    renew = "run: linetally-agent certificates --config FILE --renew, then accept the new one on each server"
    if uri not in uris(certificate):
        told = ", ".join(uris(certificate)) or "no ApplicationUri"
        return fail(about, f"it is made out to {told}, but this gateway says it is {uri}: servers refuse it", renew)
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    if left.total_seconds() < 0:
        return fail(about, f"expired on {certificate.not_valid_after_utc:%F}", renew)
    if certificate.not_valid_before_utc > datetime.now(UTC):
        words = f"valid only from {certificate.not_valid_before_utc:%F %H:%M} UTC"
        return fail(about, words, "is this machine's clock right? See clock, above")
    if left < EXPIRY_WARNING:
        return warn(about, f"expires in {left.days} days, on {certificate.not_valid_after_utc:%F}", renew)
    return ok(about, f"valid until {certificate.not_valid_after_utc:%F}, fingerprint {fingerprint(certificate)[:8]} …")


def broker_file_findings(configuration: AgentConfiguration) -> Iterator[Finding]:
    """The files that the broker's TLS needs."""
    tls = configuration.broker.tls
    if tls is None:
        host = configuration.broker.host
        if host not in ("127.0.0.1", "::1", "localhost"):
            mend = "add [broker.tls] with ca_file (and certificate_file, key_file)"
            yield warn("broker TLS", f"{host} is spoken to without encryption", mend)
        return
    for path in (tls.ca_file, tls.certificate_file):
        if path is None:
            continue
        try:
            left = read_certificate(path).not_valid_after_utc - datetime.now(UTC)
        except ConfigurationError as error:
            yield failed("broker TLS", error)
            continue
        mend = "get a new one from whoever runs the broker"
        if left.total_seconds() < 0:
            yield fail("broker TLS", f"{path.name} has expired", mend)
        elif left < EXPIRY_WARNING:
            yield warn("broker TLS", f"{path.name} expires in {left.days} days", mend)
        else:
            yield ok("broker TLS", f"{path.name} is valid for {left.days:,} days more")
    if tls.key_file is not None and not _private(tls.key_file):
        mend = f"run: chmod 600 {tls.key_file}; it must belong to the agent's user"
        yield fail("broker TLS", f"{tls.key_file.name} cannot be read, or others may read it too", mend)


def _private(path: Path) -> bool:
    return os.access(path, os.R_OK) and not stat.S_IMODE(path.stat().st_mode) & 0o077
