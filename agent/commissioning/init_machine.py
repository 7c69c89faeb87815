"""The guided start's questions about the machine: how it says what it does, what that means, and what it makes.

Decides what is proposed for each: the words of the companion specifications, and what the PLC says now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.commissioning import answers
from agent.commissioning.ask import Asker, Wrong
from agent.commissioning.plan import Plan
from agent.commissioning.tree import quoted
from protocols.errors import ConfigurationError

_MACHINES: Final = (
    ("packml", "it says PackML states (StateCurrent): most packaging machines of late"),
    ("values", "it has a status word of its own, such as 0 off, 1 stopped, 2 running"),
    ("running", "it has a bit “running”, and maybe a fault word"),
    ("pieces", "it has nothing but a counter of pieces"),
)
_TEXTS: Final = (
    "NotAvailable=UNDEFINED, OutOfService=STOPPED, NotExecuting=IDLE, Executing=EXECUTE",  # OPC 40001-1
    "Initializing=STARTING, Running=EXECUTE, Ended=COMPLETE, Interrupted=HELD, Aborted=ABORTED",  # OPC 40501-1
)
_WHY_STATES: Final = "What each {} means, as the machine's maker says; others are unknown time."
_WHY_CYCLE: Final = "Seconds for one piece at the best speed. Without it OEE stays undefined; nothing if not known."


def ask_machine(asker: Asker, plan: Plan, default: str) -> None:
    asker.heading("The machine")
    why = "It decides what counts as running, standing and failed."
    plan.machine = asker.choose("machine", "How does it say what it does", why, _MACHINES, default)


def ask_states(asker: Asker, plan: Plan, seen: int | str | None) -> None:
    """What the values of the state tag mean. `seen`: what it says now; one that speaks texts is told them by number."""
    if isinstance(seen, str):
        now = next((each for each in _TEXTS if seen in answers.state_texts(each)), None)
        means = asker.ask("states", f"Texts (now: {seen})", _WHY_STATES.format("text"), now or f"{seen}=EXECUTE",
                          answers.state_texts)  # fmt: skip
        texts = ", ".join(f"{quoted(text)} = {number}" for number, text in enumerate(means))
        plan.tags["state"] = f"{plan.tags['state'][:-2]}, texts = {{ {texts} }} }}"
        plan.states = dict(enumerate(means.values()))
        return
    now = f"{seen}=EXECUTE" if seen is not None else "2=EXECUTE,1=STOPPED"
    plan.states = asker.ask("states", f"Values{'' if seen is None else f' (now: {seen})'}",
                            _WHY_STATES.format("value of the status word"), now, answers.states)  # fmt: skip


def ask_products(asker: Asker, plan: Plan, given: Sequence[str], seen: int | str | None) -> None:
    """`given`: NAME=SECONDS; `seen`: what the product tag says now; the first product is taken for that one."""
    asker.heading("What it makes")
    now = seen if isinstance(seen, int) else None
    speaks_numbers = "product" in plan.tags and not isinstance(seen, str)
    for number, text in enumerate(given):
        code = number + (1 if now is None or number else now)
        while code in {used for used, _, _ in plan.products}:
            code += 1
        name, _, cycle = text.rpartition("=") if "=" in text else (text, "", "")
        try:
            plan.products.append((code, answers.words(name), answers.cycle(cycle)))
        except Wrong as wrong:
            raise ConfigurationError(f"--product {text}: {wrong}") from None
    while not plan.products or (
        asker.interactive and not given and "product" in plan.tags and len(plan.products) < 50
        and asker.yes("another", "Another product", "The line has a product tag, so it may make several.", False)
    ):  # fmt: skip
        codes, names, _ = zip(*plan.products, strict=True) if plan.products else ((), (), ())
        code = max((0, *codes)) + 1 if now is None or plan.products else now
        if speaks_numbers and asker.interactive:
            read = answers.another(answers.number(0, 2**31 - 1), codes)
            code = asker.ask(
                "code", "Its number in the product tag", "So the line knows what it makes.", str(code), read
            )
        name = seen if isinstance(seen, str) and seen not in names else f"product {code}"
        why = "Its name, on pages and reports" + (", as the product tag says it." if isinstance(seen, str) else ".")
        name = asker.ask("product name", "Product", why, name, answers.another(answers.words, names))
        needs = plan.machine == "pieces"
        cycle = asker.ask("ideal cycle", "Ideal cycle in seconds", _WHY_CYCLE, "1" if needs else "",
                          answers.needed_cycle if needs else answers.cycle)  # fmt: skip
        plan.products.append((code, name, cycle))
