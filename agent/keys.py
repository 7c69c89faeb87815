"""The gateway's signing key: made on the device, kept in one file that nobody else may read.

Decides where the key lives and what is refused. The file is PKCS #8 PEM, mode 0600, written once.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from protocols.errors import ConfigurationError

KEY_FILE: Final = "gateway.key"
NEXT_KEY_FILE: Final = "gateway.key.next"
LOG_KEY_FILE: Final = "log.vkey"


def make_state_folder(folder: Path) -> None:
    """The folder of key and spool, for this user only. Raises ConfigurationError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        mend = "create it and give it to the user that runs the agent, or change gateway.state_folder"
        if isinstance(error, PermissionError) and (owner := owner_of(folder)) != "root":
            mend = f"run it as the agent's user: sudo -u {owner} linetally-agent …"
        raise ConfigurationError(
            f"the state folder cannot be made: {error.strerror}", file=str(folder), mend=mend
        ) from error


def owner_of(path: Path) -> str:
    """The user whose file it is, or whose folder it is in, as far as this user may look: `Path.exists` would raise."""
    found = next(each for each in (path, *path.absolute().parents) if os.access(each, os.F_OK)).stat()
    try:
        return pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        return str(found.st_uid)


def load_key(folder: Path, name: str = KEY_FILE) -> Ed25519PrivateKey:
    """The key in a state folder.

    Raises ConfigurationError when there is none, it cannot be read, or others could read it.
    """
    path = folder / name
    try:
        # fstat of the open file: the mode that is checked is that of the bytes that are read.
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read()
    except FileNotFoundError:
        mend = "enrol this gateway first: linetally-agent enrol --hub URL --token TOKEN --config FILE"
        raise ConfigurationError("there is no key yet", file=str(path), mend=mend) from None
    except OSError as error:
        mend = f"it must belong to the user that runs the agent: chown $USER {path}"
        raise ConfigurationError(f"the key cannot be read: {error.strerror}", file=str(path), mend=mend) from error
    if mode & 0o077:
        mend = f"run: chmod 600 {path}. Whoever may have copied it can sign as this gateway; if in doubt enrol again"
        raise ConfigurationError(f"others may read the key (mode {mode:04o})", file=str(path), mend=mend)
    mend = "put back the saved copy, or move it away and enrol again"
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError("this is not a key", file=str(path), mend=mend) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError("this is not an Ed25519 key", file=str(path), mend=mend)
    return key


def load_or_make_key(folder: Path) -> Ed25519PrivateKey:
    """The key in a state folder, made there when there is none. Durable before it is used."""
    make_state_folder(folder)
    path = folder / KEY_FILE
    if path.exists():
        return load_key(folder)
    return make_key(folder, KEY_FILE)


def make_key(folder: Path, name: str) -> Ed25519PrivateKey:
    """A new key in a file of a state folder that has none of this name. Durable when it returns."""
    assert not (folder / name).exists(), "a key is never overwritten"
    key = Ed25519PrivateKey.generate()
    write_private(folder / name, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def take_next_key(folder: Path) -> None:
    """The new key takes the old one's place, durably. The old one is gone: the hub takes nothing of it any more."""
    (folder / NEXT_KEY_FILE).replace(folder / KEY_FILE)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """Writes a file that only this user may read: written, synced, renamed, the folder synced."""
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        mend = "check the free space and the rights of the folder"
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=str(path), mend=mend) from error


def load_log_key(folder: Path) -> str | None:
    """The log's vkey that enrolment stored, or None."""
    path = folder / LOG_KEY_FILE
    try:
        return path.read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the log's key cannot be read: {error}", file=str(path), mend="enrol again"
        ) from error
