"""What came of an attack, to read and to compute with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sockproto.testing.attack.household import Figures
from sockproto.testing.attack.phases import Phase
from sockproto.testing.attack.plan import Plan, shown
from sockproto.testing.attack.tally import Tally

NONE = "–"
MEBIBYTE = 1024**2


@dataclass(frozen=True, slots=True)
class Taken:
    """
    What a server took.

    Attributes:
        before: After the quiet.
        most: The most of each, from then on.
        after: In the end.
    """

    before: Figures
    most: Figures
    after: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What came of an attack.

    Attributes:
        plan: What was done.
        quiet, attack, after: What the honest client says of each phase.
        end: What it says of the last ten seconds of the attack in which it had time for all tries.
        slices: What it says of the attack, ten seconds after ten seconds.
        recovery: Seconds after the end until nobody had to try again, or None if that was not seen.
        lasted: Seconds that the attack lasted.
        tally: What the attackers say.
        taken: What the server took, if we have started it.
    """

    plan: Plan
    quiet: Phase
    attack: Phase
    end: Phase
    after: Phase
    slices: tuple[Phase, ...]
    recovery: float | None
    lasted: float
    tally: Tally
    taken: Taken | None

    def __str__(self) -> str:
        """The report as a person reads it."""
        return "\n".join(self._lines())

    def as_json(self) -> dict[str, Any]:
        """The report as values that :mod:`json` can write."""
        made = asdict(self)
        for name in ("sources", "prober_sources"):
            made["plan"][name] = str(made["plan"][name])
        for name in ("send", "expect"):
            made["plan"][name] = made["plan"][name].decode("latin-1")
        return made

    def _lines(self) -> Iterator[str]:
        plan, tally = self.plan, self.tally
        yield (
            f"{plan.kind} on {plan.host}:{plan.port}: {plan.connections:,} at once from "
            f"{shown(plan.sources)}, for {self.lasted:.1f} s"
        )
        yield ""
        yield from columns(
            [
                ("honest client", "visits", "first try", f"in {plan.tries}", "p50", "p99"),
                *(_row(each) for each in (self.quiet, self.attack, self.end, self.after)),
            ]
        )
        for each in (self.quiet, self.attack, self.after):
            if each.trouble:
                told = ", ".join(f"{count:,} {what}" for what, count in each.trouble.items())
                yield f"  tries in vain, {each.name}: {told}"
        yield f"  nobody had to try again: {_recovery(self.recovery)}"
        yield ""
        yield (
            f"attackers: {tally.connected:,} connected of {tally.attempts:,} tries, at most "
            f"{tally.most:,} at once; {tally.closed:,} shown out, {tally.reset:,} reset; "
            f"{size(tally.sent)} sent, {size(tally.heard)} heard"
        )
        if self.taken is not None:
            yield ""
            before, most, after = self.taken.before, self.taken.most, self.taken.after
            yield from columns(
                [
                    ("server", "before", "at most", "after"),
                    ("  memory", *(size(each.memory) for each in (before, most, after))),
                    ("  descriptors", *(f"{each.descriptors:,}" for each in (before, most, after))),
                    ("  processes", *(f"{each.processes:,}" for each in (before, most, after))),
                ]
            )
            yield f"  CPU from the first to the last: {after.cpu - before.cpu:.1f} s"


def columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells])


def _row(each: Phase) -> tuple[str, ...]:
    return (
        f"  {each.name}",
        f"{each.visits:,}",
        percent(each.first_try),
        percent(each.served),
        milliseconds(each.p50),
        milliseconds(each.p99),
    )


def percent(part: float | None) -> str:
    """A part as ``99.9 %``; what is less than all is never shown as all of it."""
    if part is None:
        return NONE
    # Cut, not rounded, above: 1 of 100 000 that was not served must not vanish.
    shown = int(part * 1000) / 10
    return f"{shown:.1f} %" if shown % 1 else f"{shown:.0f} %"


def milliseconds(seconds: float | None) -> str:
    """A duration as ``1.25 ms``."""
    if seconds is None:
        return NONE
    value = seconds * 1000
    return f"{value:.2f} ms" if value < 10 else f"{value:,.0f} ms"


def size(count: int) -> str:
    """Bytes as ``14.2 MiB``."""
    if count < 1024:
        return f"{count} B"
    if count < MEBIBYTE:
        return f"{count / 1024:.1f} KiB"
    return f"{count / MEBIBYTE:,.1f} MiB"


def _recovery(seconds: float | None) -> str:
    if seconds is None:
        return "not seen before the end"
    return "at once" if seconds == 0 else f"{seconds:.1f} s after the attack"
