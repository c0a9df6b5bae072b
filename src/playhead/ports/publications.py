"""What the store keeps for the publishers of public topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from playhead.core.epochs import Begun, Epoch


class Publications(Protocol):
    """Epochs of public topics, and differences that were taken and not yet published.

    A new epoch begins in the transaction of the swap (`Swap.public`). What ends one needs its
    leases: a process that was frozen meanwhile can neither end it nor go on with it.
    """

    def epochs(self) -> list[Epoch]:
        """Return every row of every publisher, in the order in which they began."""

    def begin(self, begun: Sequence[Begun]) -> None:
        """Begin epochs outside a swap: the first of a topic; one that is known is left alone."""

    def made(self, topic: str, topic_id: str) -> None:
        """Remember the id of a public topic that was made."""

    def over(self, epoch: Epoch, leases: Mapping[str, int]) -> None:
        """End a row, and forget its difference.

        Raises:
            CheckpointConflict: A lease is another's now; nothing was changed.
        """

    def keep(
        self, epoch: Epoch, parts: Mapping[int, Sequence[bytes]], leases: Mapping[str, int]
    ) -> Epoch:
        """Keep the difference, one blob a record by partition; return the row, with its sizes.

        Raises:
            CheckpointConflict: A lease is another's now; nothing was changed.
        """

    def kept(self, epoch: Epoch, partition: int, begin: int, most: int) -> list[bytes]:
        """Return the records of a difference from an index on, at most so many."""
