"""How results look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> str:
    """Columns as wide as they must be, two blanks between; empty cells allowed."""
    cells = [tuple(map(str, row)) for row in ([tuple(header)] if header else []) + [tuple(row) for row in rows]]
    if not cells:
        return ""
    widths = [max(len(row[k]) for row in cells if k < len(row)) for k in range(max(map(len, cells)))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in cells]
    if header:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def length(metres: float) -> str:
    """ "1.8 cm", "2.35 m"."""
    return f"{100 * metres:.1f} cm" if metres < 1 else f"{metres:.2f} m"


def percent(fraction: float | None) -> str:
    """ "97.5 %"; never rounded up to 100."""
    if fraction is None:
        return "-"
    return "100 %" if fraction == 1 else f"{min(100 * fraction, 99.9):.1f} %"


def milliseconds(seconds: float) -> str:
    """ "123 ms"."""
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.1f} ms"


def seconds(value: float) -> str:
    """ "12.3 s", "2 min 05 s"."""
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {int(value % 60):02d} s"
