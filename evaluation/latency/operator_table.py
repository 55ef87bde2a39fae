"""What a model's operators take on this machine, as measured: one CSV file that only grows.

A price is kept in milliseconds at the pace that the machine had when the first was taken: with
new prices comes a new measurement of the yardstick, and they are scaled by how it has changed. Of a
key that two processes measured, the first that was written counts, for everybody and for ever, so
that a policy has one price. Knows nothing of how prices are measured.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.cache import ends_amid_a_line, locked, make_folder
from evaluation.measuring.operators import FLOOR, YARDSTICK, Operator, Price

COLUMNS = ("key", "op", "shape", "precision", "median_ms", "spread_ms")
ALWAYS = tuple(Operator(key, key, "", "") for key in (YARDSTICK, FLOOR))


@dataclass
class OperatorTable:
    """The prices in one file; a line that cannot be read is passed over."""

    path: Path
    _known: dict[str, Price] = field(default_factory=dict)
    _read: int = 0

    def get(self, key: str) -> Price | None:
        """The price that counts, be it another process that wrote it."""
        if key not in self._known:
            self._refresh()
        return self._known.get(key)

    def missing(self, operators: Iterable[Operator]) -> list[str]:
        """The keys without a price, each once."""
        return [key for key in dict.fromkeys(o.key for o in operators) if self.get(key) is None]

    def put(self, operators: Iterable[Operator], measured: Mapping[str, Price]) -> None:
        """Remember what was measured in one go, at the table's own pace."""
        make_folder(self.path.parent)
        with locked(self.path):
            told = {o.key: o for o in (*operators, *ALWAYS)}
            pace = (self.get(YARDSTICK) or measured[YARDSTICK]).median_ms
            scale = pace / measured[YARDSTICK].median_ms
            new = {key: p for key, p in measured.items() if self.get(key) is None and key in told}
            self._append((told[key], _scaled(p, scale)) for key, p in new.items())
        self._refresh()

    def _append(self, rows: Iterable[tuple[Operator, Price]]) -> None:
        text = io.StringIO()
        if ends_amid_a_line(self.path):
            text.write("\n")
        writer = csv.writer(text, lineterminator="\n")
        if not self.path.exists() or not self.path.stat().st_size:
            writer.writerow(COLUMNS)
        for o, price in rows:
            writer.writerow(
                (o.key, o.op, o.shape, o.precision, repr(price.median_ms), repr(price.spread_ms))
            )
        with open(self.path, "ab", buffering=0) as file:
            file.write(text.getvalue().encode())

    def _refresh(self) -> None:
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self._read)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]  # the rest is being written
        self._read += len(whole)
        for row in csv.reader(io.StringIO(whole.decode(errors="replace"))):
            self._take(row)

    def _take(self, row: list[str]) -> None:
        try:
            key, _, _, _, middle, spread = row
            self._known.setdefault(key, Price(float(middle), float(spread)))
        except ValueError:  # the header, or a line that was cut short
            return


def _scaled(price: Price, scale: float) -> Price:
    return Price(price.median_ms * scale, price.spread_ms * scale)
