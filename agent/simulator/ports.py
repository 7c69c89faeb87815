"""Ports that the simulator listens on: found to be in use before a server tries, so that it can be said plainly."""

from __future__ import annotations

import errno
import socket

from protocols.errors import ConfigurationError


def check_free(host: str, port: int, option: str) -> None:
    """Raise ConfigurationError, naming the option that changes it, when nothing can listen on host:port."""
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As asyncio's servers do: connections of an earlier run that linger do not count as in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _said(error, host, port, option) from error


def _said(error: OSError, host: str, port: int, option: str) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(f"port {port} on {host} is in use", mend=f"choose another: {option} {port + 10}")
    if error.errno == errno.EACCES:
        mend = f"choose one above 1023: {option} {port + 10_000 if port < 1024 else port}"
        return ConfigurationError(f"port {port} on {host} is not allowed for this user", mend=mend)
    return ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}", mend="choose another --host")
