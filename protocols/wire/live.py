"""The bounds of a live message, which agent and hub must share. Its fields are in docs/formats.md.

Decides nothing else: the agent writes it (`agent.live_message`), the hub reads it (`hub.live_wire`).
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 1
MAX_BYTES: Final = 65_535
"""A gateway with more lines than go into one message sends several, each complete in itself."""
MAX_INTERVAL_S: Final = 60
"""The longest time between two messages of a gateway."""
