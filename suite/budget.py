"""What a run may spend, and has spent: budget counters, kept by whoever implements `suite.protocol.Run`."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral

from suite.protocol import OverBudget, Spec


class Budget:
    """Counters by name; the unnamed one counts all examples of a run.  Only the closed division is held to what was granted."""

    def __init__(self, spec: Spec) -> None:
        self.closed = spec.division == "closed"
        self.spent: dict[str, int] = {}
        self._granted: dict[str, tuple[int, str]] = {}

    def grant(self, budget: int, unit: str = "examples", counter: str = "") -> None:
        """Let a counter reach `budget`.  Of several grants of a counter the smallest stands: nobody can widen the task's."""
        known = self._granted.get(counter)
        if known is None or budget < known[0]:
            self._granted[counter] = (budget, unit)

    def book(self, amount: int, counter: str = "") -> None:
        """Book on a counter.

        Raises OverBudget where a closed run asks for more than was granted, ValueError on what is no amount: nothing is given back.
        """
        if not isinstance(amount, Integral) or amount < 0:
            raise ValueError(f"{amount!r} cannot be spent: an amount is a whole number from 0 on")
        asked = self.spent.get(counter, 0) + amount
        self.spent[counter] = asked
        if self.closed and counter in self._granted and asked > self._granted[counter][0]:
            granted, unit = self._granted[counter]
            words = (f"{asked:,}", unit, "asked", f"by {counter!r}" if counter else "")
            raise OverBudget(f"{' '.join(w for w in words if w)}, {granted:,} granted")

    def resume(self, spent: Mapping[str, int]) -> None:
        """Take up what earlier lives of the run had spent; nothing that was spent in this one is given back."""
        self.spent |= {name: max(amount, self.spent.get(name, 0)) for name, amount in spent.items()}
