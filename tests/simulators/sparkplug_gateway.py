"""A gateway as a process of its own, with the agent's own Sparkplug and publisher: to be killed.

`python -m tests.simulators.sparkplug_gateway FOLDER PORT live|quiet`: two lines that are read, told at the broker on
127.0.0.1:PORT ten times a second, until it is killed. "live": also by the agent's live message.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agent.clock import ManualClock
from agent.line import Line
from agent.live_message import LineText, messages
from agent.publisher import Publisher
from agent.raw_meter import RawMeter
from agent.sparkplug import Sparkplug
from agent.spool import Spool
from protocols.plc.roles import SignalRole
from tests.agent import factory
from tests.simulators.receipt_hub import ReceiptHub

START_MS = 1_767_225_600_000
GROUP = "Tai Po"


async def serve(folder: Path, port: int, with_live: bool) -> None:
    clock = ManualClock(START_MS, b"\1" * 16)
    configuration = factory.configuration(folder, broker_port=port)
    lines = [Line(each, RawMeter(each.configuration, START_MS), clock) for each in configuration.lines]
    texts = [LineText(line.settings.configuration) for line in lines]
    node = Sparkplug(GROUP, configuration.gateway_id, clock.now_ms)
    with Spool.open(folder) as spool:
        key = ReceiptHub(port).signer.verifier
        publisher = Publisher(configuration, spool, b"\1" * 8, key, clock.now_ms, lambda _: None, node)
        running = asyncio.create_task(publisher.run())
        for line in lines:
            line.connected("there")
        for tick in range(1_000_000):
            clock.advance_to(START_MS + 1000 * tick)
            for line in lines:
                line.put(SignalRole.STATE, 6, None)
                line.put(SignalRole.TOTAL, tick, None)
                line.alive()
                line.close_windows(clock.now_ms())
            seen = [(line, line.meter.live(clock.now_ms())) for line in lines]
            if with_live:
                parts = [(text, text.write(live, 0, whole=True)) for text, (_, live) in zip(texts, seen, strict=True)]
                now_ms = clock.now_ms()
                for message in messages(
                    parts, time_ms=now_ms, interval_s=1, simulated=True, receipt=None, spool_depth=0
                ):
                    publisher.publish_live(message)
            node.send(seen, 0)
            await asyncio.sleep(0.1)
        running.cancel()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "live"))
