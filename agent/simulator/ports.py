"""Ports that the simulator listens on: found to be in use before a server tries, so that it can be said plainly."""

from __future__ import annotations

import errno
import socket

from protocols.errors import ConfigurationError


def free_port(host: str, port: int, option: str) -> int:
    """`port` when it can be listened on, or a free one for 0.

    Raises ConfigurationError that names the option which changes it. Another process may still take the port
    before the server does; the server's own error then says so, less plainly.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As asyncio's servers do: connections of an earlier run that linger do not count as in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return int(probe.getsockname()[1])
        except OSError as error:
            raise cannot_listen(error, host, port, option) from error


def cannot_listen(error: OSError, host: str, port: int, option: str) -> ConfigurationError:
    """What to tell the user about an error of bind or listen."""
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(f"port {port} on {host} is in use", mend=f"choose another: {option} {port + 10}")
    if error.errno == errno.EACCES:
        mend = f"choose one above 1023: {option} {port + 10_000 if port < 1024 else port}"
        return ConfigurationError(f"port {port} on {host} is not allowed for this user", mend=mend)
    return ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}", mend="choose another --host")
