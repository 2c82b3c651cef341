"""When a worker has to let go of its sessions because it can't say that it is there.

Others take a session for lost when its worker was silent for a lease. A worker that the database does not hear is as
silent to them as a dead one: it ends its sessions a little before, so that none runs while another attempt may begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

MARGIN = timedelta(seconds=15)
"""Before the end of the lease: time for the processes of a session to end."""
_STALL = 5.0  # seconds without a look: the process was stopped, or the machine slept
_SECOND_CHANCE = 10.0  # seconds to renew after that


@dataclass(slots=True)
class Fence:
    """`renewed`, `looked`: seconds of the monotonic clock, which every method is told."""

    lease: timedelta
    renewed: float
    looked: float
    spare_until: float = 0.0

    @classmethod
    def of(cls, lease: timedelta, at: float) -> Fence:
        return cls(lease=lease, renewed=at, looked=at)

    def renew(self, at: float) -> None:
        """The database has heard of this worker; it was asked to at `at`."""
        self.renewed = max(self.renewed, at)

    def is_closed(self, at: float) -> bool:
        """Whether the sessions have to end. To be asked every second or so.

        Who was not running itself may have been silent without knowing: it first gets the time to renew.
        """
        if at - self.looked > _STALL:
            self.spare_until = at + _SECOND_CHANCE
        self.looked = at
        return at >= self.spare_until and at - self.renewed > (self.lease - MARGIN).total_seconds()
