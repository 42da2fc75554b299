"""The answer to a question: controlled cells as JSON, CSV or a pandas DataFrame."""

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from analytics.disclosure import ROUNDING, SMALLEST_CELL, Cell
from analytics.question import Question

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Answer:
    """Publishable cells of one question, and when the files that they were counted in were refreshed."""

    question: Question
    cells: tuple[Cell, ...]
    refreshed_at: str | None

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a cell: the groups, `count`, and for rates `numerator` and `rate`; None is suppressed."""
        rates = self.question.numerator is not None
        return [
            {**cell.group, "count": cell.count, **({"numerator": cell.numerator, "rate": cell.rate} if rates else {})}
            for cell in self.cells
        ]

    def json(self) -> bytes:
        """The answer with its title and the control that was applied."""
        return msgspec.json.encode(
            {
                "title": self.question.title,
                "counted": self.question.count,
                "refreshed_at": self.refreshed_at,
                "control": {"suppressed_below": SMALLEST_CELL, "rounded_to": ROUNDING},
                "cells": self.rows(),
            }
        )

    def csv(self) -> str:
        """A header and a line a cell; an empty count is suppressed. Texts that a spreadsheet would run are quoted."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=self._columns(), lineterminator="\n")
        writer.writeheader()
        for row in self.rows():
            writer.writerow({name: _harmless(value) for name, value in row.items()})
        return text.getvalue()

    def data_frame(self) -> "pd.DataFrame":
        """The cells as a DataFrame; counts are nullable integers, <NA> where suppressed."""
        import pandas as pd  # noqa: PLC0415 - takes a second to load, and most answers are no DataFrame

        frame = pd.DataFrame(self.rows(), columns=self._columns())
        whole = {name: "Int64" for name in ("count", "numerator") if name in frame}
        return frame.astype({**whole, **({"rate": "Float64"} if "rate" in frame else {})})

    def _columns(self) -> list[str]:
        rates = ["numerator", "rate"] if self.question.numerator is not None else []
        return [*self.question.group_by, "count", *rates]


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
