"""A line's life: which state it is in from when to when, and how fast it makes pieces meanwhile.

Decides the order of events by PackML's table: shifts, orders and set-ups, minor stops, blocked and starved,
failures, an upgrade. Knows nothing of counters' widths, of protocols, or of rejects beyond their rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from agent.simulator.hours import working_intervals
from agent.simulator.spec import LineSpec, StopSpec
from agent.simulator.streams import Stream
from protocols.plc.packml import Mode, State

TRANSIENT_MS: Final = 700
"""The median length of an acting state (ours: a PLC's sequence of a few scans and a drive's ramp)."""

_SHORTEST_STOP_MS: Final = 300


class Cause(IntEnum):
    """Why a line is in its state, where the state alone does not say it. Only vendor codes show it."""

    NONE = 0
    STARVED = 1
    BLOCKED = 2


class Row(NamedTuple):
    """One stay in one state: [start_ms, end_ms).

    total: pieces completed before or at start_ms · phase_us: time already spent on the piece under way ·
    cycle_us: time for a piece, 0 when none are made · startup: how many of the next pieces are start-up pieces ·
    upgraded: 1 after the upgrade · order: 1 = an order is active.
    """

    start_ms: int
    end_ms: int
    state: int
    cause: int
    mode: int
    product: int
    order: int
    total: int
    phase_us: int
    cycle_us: int
    startup: int
    upgraded: int


class _Countdown:
    """Running time until the next stop of one kind, in units of its mean, so that an upgrade stretches it."""

    def __init__(self, spec: StopSpec, seed: int, kind: str) -> None:
        self._mean_ms = spec.every_minutes * 60_000
        self._gaps = Stream(seed, f"{kind}.gap")
        self._lengths = Stream(seed, f"{kind}.length")
        self._kinds = Stream(seed, f"{kind}.kind")
        self._spec = spec
        self._left = self._gaps.exponential()

    def left_ms(self, factor: float) -> int:
        return max(math.ceil(self._left * self._mean_ms / factor), 1)

    def ran(self, ms: int, factor: float) -> None:
        self._left = max(self._left - ms * factor / self._mean_ms, 0.0)

    def strike(self) -> tuple[int, bool]:
        """A stop begins: its length, and whether it is of the shared kind. Sets the next one."""
        self._left = self._gaps.exponential()
        length = self._lengths.lognormal(self._spec.seconds * 1000, self._spec.spread)
        return max(round(length), _SHORTEST_STOP_MS), self._kinds.uniform() < self._spec.share


class Walk:
    """The endless walk of one line through its states; `rows` may be consumed once."""

    def __init__(self, spec: LineSpec, start_ms: int) -> None:
        self._spec = spec
        self._t = start_ms
        self._hours = working_intervals(spec, start_ms)
        self._next = next(self._hours)
        self._deadline = start_ms
        self._rows: list[Row] = []
        self._state = State.STOPPED
        self._cause = Cause.NONE
        self._total = 0
        self._phase_us = 0
        self._cycle_us = 0
        self._startup = 0
        seed = spec.seed
        self._sizes = Stream(seed, "order.size")
        self._choice = Stream(seed, "order.product")
        self._demand = Stream(seed, "order.none")
        self._setups = Stream(seed, "setup.length")
        self._speeds = Stream(seed, "speed")
        self._transients = Stream(seed, "transient")
        self._minor = _Countdown(spec.minor_stops, seed, "minor")
        self._failure = _Countdown(spec.failures, seed, "failure")
        self._restraint = _Countdown(spec.restraint, seed, "restraint")
        self._product = spec.products[0]
        self._left_pieces = 0
        self._order = False
        self._new_order()

    def rows(self) -> Iterator[Row]:
        """Contiguous rows from the start on; each begins where the one before ends."""
        while True:
            self._off_until(self._next[0])
            self._deadline = self._next[1]
            self._next = next(self._hours)
            self._order = True
            on = self._start_up(self._spec.startup_seconds * 1000)
            while on:
                yield from self._flush()
                on = self._run()
            self._order = False
            self._shut_down()
            yield from self._flush()

    def _flush(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows

    # Staying in states

    def _limit(self, until_ms: int) -> int:
        """`until_ms`, or the end of manned time if that comes first; a handover between shifts is no end."""
        while self._deadline < until_ms and self._next[0] == self._deadline:
            self._deadline = self._next[1]
            self._next = next(self._hours)
        return min(until_ms, self._deadline)

    def _emit(self, state: State, until_ms: int, mode: Mode = Mode.PRODUCTION) -> None:
        if until_ms <= self._t:
            return
        cycle_us = self._cycle_us if state is State.EXECUTE else 0
        self._rows.append(
            Row(
                self._t, until_ms, state, self._cause, mode, self._product.code, int(self._order),
                self._total, self._phase_us, cycle_us, self._startup, int(self._upgraded()),
            )
        )  # fmt: skip
        self._t = until_ms
        self._state = state

    def _stay(self, state: State, length_ms: float) -> bool:
        """Be in `state` for so long; False when manned time ended first."""
        until = self._t + max(round(length_ms), 1)
        limit = self._limit(until)
        self._emit(state, limit)
        return limit == until

    def _transient_ms(self) -> int:
        return max(round(self._transients.lognormal(TRANSIENT_MS, 0.3)), 1)

    def _through(self, *states: State) -> bool:
        """Pass acting states one after the other."""
        return all(self._stay(state, self._transient_ms()) for state in states)

    # Shifts

    def _off_until(self, until_ms: int) -> None:
        upgrade = self._spec.upgrade
        if upgrade is not None and upgrade.install_ms:
            self._emit(State.STOPPED, min(until_ms, upgrade.at_ms))
            installed_ms = upgrade.at_ms + upgrade.install_ms
            self._emit(State.STOPPED, min(until_ms, installed_ms), Mode.MAINTENANCE)
        # However short the gap between two shifts, PackML's table wants a STOPPED before the next RESETTING.
        self._emit(State.STOPPED, until_ms if self._state is State.STOPPED else max(until_ms, self._t + 1))

    def _start_up(self, length_ms: float) -> bool:
        return (
            self._stay(State.RESETTING, length_ms) and self._through(State.IDLE, State.STARTING) and self._set_startup()
        )

    def _set_startup(self) -> bool:
        self._startup = self._spec.startup_pieces
        return True

    def _shut_down(self) -> None:
        """Nobody is there any more: come to STOPPED by legal steps, a little after manned time if need be."""
        self._cause = Cause.NONE
        match self._state:
            case State.STOPPED:
                return
            case State.ABORTING:
                self._emit(State.ABORTED, self._t + self._transient_ms())
                self._emit(State.CLEARING, self._t + self._transient_ms())
            case State.ABORTED:
                self._emit(State.CLEARING, self._t + self._transient_ms())
            case State.CLEARING:
                pass
            case _:
                self._emit(State.STOPPING, self._t + self._transient_ms())

    # Production

    def _upgraded(self) -> bool:
        upgrade = self._spec.upgrade
        return upgrade is not None and self._t >= upgrade.at_ms + upgrade.install_ms

    def _run(self) -> bool:
        """Execute until something ends it, then let that happen. False when manned time ended."""
        upgrade = self._spec.upgrade if self._upgraded() else None
        failing = upgrade.failure_factor if upgrade else 1.0
        jamming = upgrade.minor_stop_factor if upgrade else 1.0
        loss = self._speeds.lognormal(self._spec.speed_loss, 0.6) if self._spec.speed_loss else 0.0
        best_us = self._product.cycle_ms * 1000 * (upgrade.cycle_factor if upgrade else 1.0)
        cycle_us = round(best_us * (1 + loss))
        if self._cycle_us:
            self._phase_us = self._phase_us * cycle_us // self._cycle_us
        self._cycle_us = cycle_us

        order_ms = math.ceil((self._left_pieces * cycle_us - self._phase_us) / 1000)
        ends = {
            self._at_order_end: max(order_ms, 1),
            self._at_failure: self._failure.left_ms(failing),
            self._at_restraint: self._restraint.left_ms(1.0),
            self._at_minor_stop: self._minor.left_ms(jamming),
        }
        event = min(ends, key=lambda each: ends[each])
        began = self._t
        on = self._stay(State.EXECUTE, ends[event])
        ran = self._t - began
        pieces, self._phase_us = divmod(self._phase_us + ran * 1000, cycle_us)
        self._total += pieces
        self._left_pieces -= pieces
        self._startup = max(self._startup - pieces, 0)
        self._failure.ran(ran, failing)
        self._restraint.ran(ran, 1.0)
        self._minor.ran(ran, jamming)
        return on and event()

    def _at_minor_stop(self) -> bool:
        length_ms, held = self._minor.strike()
        if held:
            return self._hold(length_ms)
        return self._suspend(length_ms, Cause.BLOCKED)

    def _at_restraint(self) -> bool:
        length_ms, starved = self._restraint.strike()
        return self._suspend(length_ms, Cause.STARVED if starved else Cause.BLOCKED)

    def _hold(self, length_ms: int) -> bool:
        return self._through(State.HOLDING) and self._stay(State.HELD, length_ms) and self._through(State.UNHOLDING)

    def _suspend(self, length_ms: int, cause: Cause) -> bool:
        self._cause = cause
        on = (
            self._through(State.SUSPENDING)
            and self._stay(State.SUSPENDED, length_ms)
            and self._through(State.UNSUSPENDING)
        )
        self._cause = Cause.NONE
        return on

    def _at_failure(self) -> bool:
        length_ms, _ = self._failure.strike()
        return (
            self._through(State.ABORTING)
            and self._stay(State.ABORTED, length_ms)
            and self._through(State.CLEARING, State.STOPPED)
            and self._start_up(self._spec.startup_seconds * 1000)
        )

    def _at_order_end(self) -> bool:
        orders = self._spec.orders
        if not self._through(State.COMPLETING, State.COMPLETE):
            self._new_order()
            return False
        if self._demand.uniform() < orders.no_order_share:
            self._order = False
            waited = self._stay(State.COMPLETE, self._demand.exponential() * orders.no_order_minutes * 60_000)
            if not waited:
                self._new_order()
                return False
        same = self._product
        self._new_order()
        self._order = True
        setup_ms = self._setups.lognormal(orders.setup_minutes * 60_000, orders.setup_spread)
        return self._start_up(setup_ms if self._product is not same else setup_ms / 4)

    def _new_order(self) -> None:
        """Choose the next product and the size of its order."""
        shares = self._spec.products
        mark = self._choice.uniform() * sum(product.share for product in shares)
        for product in shares:
            self._product = product
            mark -= product.share
            if mark < 0:
                break
        size = self._sizes.lognormal(self._spec.orders.pieces, self._spec.orders.spread)
        self._left_pieces = max(round(size), 1)
        self._phase_us = 0
