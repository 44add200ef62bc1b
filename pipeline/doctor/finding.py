"""The outcome of one check of ``facets doctor``."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        status: whether it works, works with a reservation, or does not work.
        found: what was found.
        remedy: what to do; empty for PASS.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """The finding as one line for people."""
        text = f"{self.status}  {self.name:<10} {self.found}" + (f" -> {self.remedy}" if self.remedy else "")
        return " ".join(text.split("\n"))
