"""What runs calls: the seam between the host and threads, processes, ..."""

from __future__ import annotations

from typing import Protocol

from flexhost.call import Call
from flexhost.errors import Busy


class Executor(Protocol):
    """Runs calls: `call.run()`, somewhere, soon."""

    @property
    def waiting(self) -> int: ...

    @property
    def oldest(self) -> float | None:
        """When the call was accepted that waits longest, on its clock; None when none waits."""

    @property
    def running(self) -> int: ...

    @property
    def abandoned(self) -> int:
        """Places that are lost to calls past their deadline."""

    def refusal(self) -> Busy | None:
        """Why one more call would be refused now; None when it would not."""

    def submit(self, call: Call) -> None:
        """Raises Busy."""

    def cancel(self, call: Call) -> None:
        """The call has its outcome already: do not start it; if it runs, ask it to end."""

    def abandon(self, call: Call) -> None:
        """The call is past its deadline and still runs: go on without what it holds."""

    def give_back(self) -> None:
        """Have freed memory given back by those who have it and are idle."""

    def look(self, now: float) -> None:
        """To be called every so often. now: on the clock of calls."""

    def close(self) -> None: ...
