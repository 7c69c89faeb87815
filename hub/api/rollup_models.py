"""The answers of a roll-up: integers, exact figures, and the tree of losses, each part the sum of its own.

Decides names and shapes, and the rounding for show. What the numbers are is decided in `protocols.measurement`.
"""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction

from pydantic import Field

from hub.api.figures import Frozen, Standing, standing
from protocols.measurement import ratios
from protocols.measurement.account import ACCOUNT_FIELDS, TimeAccount
from protocols.measurement.definition import Definition
from protocols.measurement.figure import Undefined
from protocols.measurement.loss_tree import Factor, Node, loss_tree
from protocols.measurement.notes import notes


class Exact(Frozen):
    """An exact number, and the same rounded to one decimal for show."""

    numerator: int
    denominator: int
    value: float


class FigureValue(Frozen):
    """A figure's exact value; `value` rounded to six decimals for show, null where `undefined_because` says why."""

    numerator: int | None
    denominator: int | None
    value: float | None
    undefined_because: Undefined | None = None


class LossPart(Frozen):
    """A part of the time. `ms` and `pieces` are exactly the sums of the children's, where there are any.

    `pieces`: at the mean ideal cycle of what was made; null where there is none.
    """

    name: str
    ms: Exact
    pieces: Exact | None
    factor: Factor | None
    big_loss: str | None
    children: list[LossPart]


class FigureWords(Frozen):
    """What a figure is."""

    name: str
    title: str
    formula: str
    unit: ratios.Unit
    better: ratios.Direction
    source: str


class RollupNote(Frozen):
    """What must be said beside the numbers: a stable code, and words."""

    code: str
    count: int
    words: str


class RollupRow(Frozen):
    """One sum. `key`: what it is the sum of, by the names that were asked for."""

    key: dict[str, str]
    line_count: int
    sums: dict[str, int] = Field(description="the account: milliseconds, pieces and nanoseconds, as they are signed")
    figures: dict[str, FigureValue]
    standing: Standing
    notes: list[RollupNote] = Field(description="what these figures rest on")
    losses: dict[str, Exact] = Field(description="the six big losses and the other stops, in ms")
    tree: LossPart | None


class Rollup(Frozen):
    """Sums of the windows that begin in [from_ms, to_ms), read under one definition. `names`: of the ids in keys."""

    from_ms: int
    to_ms: int
    timezone: str
    by: list[str]
    lines: list[str]
    simulated: bool
    definition: str
    definition_hash: str
    notes: list[RollupNote] = Field(description="of the choice of lines; those of a sum stand in its row")
    words: list[FigureWords]
    titles: dict[str, str] = Field(description="of the parts of the loss tree")
    names: dict[str, dict[str, str]]
    rows: list[RollupRow]
    total: RollupRow


class MachineOee(Frozen):
    """A machine of a line. `constrains`: the products whose ideal cycle is longest here."""

    line_id: str
    name: str
    oee: FigureValue
    waiting_ms: int = Field(description="blocked or starved by the rest of the line")
    constrains: list[str]


class LineOfMachines(Frozen):
    """The OEE of a line by its bottleneck, and of each of its machines apart."""

    line_id: str
    from_ms: int
    to_ms: int
    definition: str
    definition_hash: str
    waiting: str = Field(description="whether blocked and starved time is charged to a machine: excluded or charged")
    oee: FigureValue
    bottlenecks: dict[str, str] = Field(description="by product: the slowest machine")
    machines: list[MachineOee]


def _rounded(value: Fraction, scale: int) -> float:
    """To 1 / `scale`, halves upward; by integers, for Fraction's own rounding takes most of a long answer's time."""
    return (2 * scale * value.numerator + value.denominator) // (2 * value.denominator) / scale


def exact(value: Fraction) -> Exact:
    # Not validated: the parts are integers and a float of our own making, and a year of days has thousands.
    return Exact.model_construct(numerator=value.numerator, denominator=value.denominator, value=_rounded(value, 10))


def figure_value(value: Fraction | None, because: Undefined | None) -> FigureValue:
    """`because` is told only where there is no value."""
    if value is None:
        return FigureValue.model_construct(numerator=None, denominator=None, value=None, undefined_because=because)
    return FigureValue.model_construct(
        numerator=value.numerator, denominator=value.denominator, value=_rounded(value, 1_000_000),
        undefined_because=None,
    )  # fmt: skip


def figure_words(definition: Definition) -> list[FigureWords]:
    """Every figure with the formula that is used under a definition."""
    return [
        FigureWords(
            name=figure.name, title=figure.title, formula=figure.formula_under(definition), unit=figure.unit,
            better=figure.direction, source=figure.source,
        )
        for figure in ratios.FIGURES.values()
    ]  # fmt: skip


def row_of(
    key: dict[str, str], account: TimeAccount, definition: Definition, line_count: int, with_tree: bool
) -> RollupRow:
    """Everything that is said of one sum."""
    values = {}
    for name, figure in ratios.FIGURES.items():
        found = figure.exact(account, definition)
        values[name] = figure_value(None, found) if isinstance(found, Undefined) else figure_value(found, None)
    tree = loss_tree(account, definition)
    lost: dict[str, Fraction] = {}
    for leaf in tree.leaves:
        if leaf.big_loss is not None:
            lost[leaf.big_loss.value] = lost.get(leaf.big_loss.value, Fraction(0)) + leaf.ms
    return RollupRow(
        key=key,
        line_count=line_count,
        sums=dict(zip(ACCOUNT_FIELDS, account.as_ints(), strict=True)),
        figures=values,
        standing=standing(ratios.coverage(account)),
        notes=[RollupNote(**asdict(note)) for note in notes(account, definition)],
        losses={name: exact(ms) for name, ms in lost.items()},
        tree=loss_part(tree) if with_tree else None,
    )


def loss_part(node: Node) -> LossPart:
    return LossPart.model_construct(
        name=node.name,
        ms=exact(node.ms),
        pieces=None if node.pieces is None else exact(node.pieces),
        factor=node.factor,
        big_loss=None if node.big_loss is None else node.big_loss.value,
        children=[loss_part(child) for child in node.children],
    )


def titles() -> dict[str, str]:
    """The title of every part that a tree can have."""
    plain, unvalued = TimeAccount(), TimeAccount(without_ideal_count=1)
    return {part.name: part.title for account in (plain, unvalued) for part in loss_tree(account)}
