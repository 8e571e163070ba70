"""What a check says: one finding a fault, safe to print whatever the submission holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

AGAIN = "run it again and submit what the runner wrote"
MOST_TEXT = 300  #: characters of any text of a finding


@dataclass(frozen=True)
class Finding:
    """One thing that does not hold: where, what, and what to do.

    An `error` refuses the bundle, a `mark` is shown beside its row.
    """

    bundle: str  #: path of the bundle's folder, as text
    file: str  #: within it; ``.`` for the folder itself
    field: str
    level: Literal["error", "mark"]
    message: str  #: what is wrong
    mend: str  #: what to do

    def line(self) -> str:
        """The finding as one line of plain text."""
        place = self.bundle if self.file == "." else f"{self.bundle}/{self.file}"
        return f"{self.level}: {place}: {self.field}: {self.message}; {self.mend}"

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    def printable(self) -> Finding:
        """The same without what a terminal or a page could take for a command."""
        return replace(
            self,
            bundle=printable(self.bundle),
            file=printable(self.file),
            field=printable(self.field),
            message=printable(self.message),
            mend=printable(self.mend),
        )


class Refused(Exception):
    """Ends the check of one bundle with one finding."""

    def __init__(self, file: str, field: str, message: str, mend: str = AGAIN) -> None:
        super().__init__(message)
        self.file, self.field, self.message, self.mend = file, field, message, mend

    def finding(self, bundle: str) -> Finding:
        return Finding(bundle, self.file, self.field, "error", self.message, self.mend)


def printable(text: str, most: int = MOST_TEXT) -> str:
    """Text from outside in one short line: no control characters, no lone surrogates, no markup."""
    line = " ".join(text[: 4 * most].split())
    safe = "".join(c if c.isprintable() and c not in "<>" else "?" for c in line)
    return safe if len(safe) <= most else safe[: most - 1] + "…"
