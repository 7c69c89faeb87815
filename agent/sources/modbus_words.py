"""What is wrong with a Modbus link, for a person. Pure.

Decides the words for what the operating system, the TLS library and the serial port's driver say. What the devices'
answers say is `modbus_frames`'.
"""

from __future__ import annotations

import errno
import socket
import ssl
import termios
from typing import Final

NOT_OPENED: Final = (OSError, ValueError, termios.error)
"""All that opening a link may raise. Names that cannot be one are a ValueError; so is a rate that a port does not take,
or a termios.error, which is neither of the others."""
_PORT_WORDS: Final = {
    errno.ENOENT: "there is no such port; is the adapter plugged in?",
    errno.EACCES: "this user may not use the port; add it to the group dialout",
    errno.EAGAIN: "another program holds the port",
    errno.EBUSY: "another program holds the port",
}
_NO_NAME: Final = 'this name is not known here; write the address itself, as host = "192.168.0.11"'


def link_words(error: BaseException, device: str = "") -> str:
    """Why there is no connection, or none any more. `device`: of a serial line."""
    if device:
        return _port(error)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return _NO_NAME
    if isinstance(error, ConnectionRefusedError):
        return "nothing answers there; is the PLC on?"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the PLC's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ConnectionError):
        return error.strerror or str(error) or "the connection broke"
    return system_words(error)


def _port(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in _PORT_WORDS:
        return _PORT_WORDS[error.errno]
    if isinstance(error, OSError) and isinstance(error.__context__, termios.error):
        return "this is no serial port, or there is no hardware behind it"
    if isinstance(error, (ValueError, termios.error)):
        return "the port does not take this baud_rate, parity or stop_bits"
    return system_words(error)


def system_words(error: BaseException) -> str:
    """What the operating system says."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
