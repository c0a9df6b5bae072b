"""Every error that Playhead raises.

::

    PlayheadError                 exit 1
    ├── ConfigError               exit 2   project file, options, names of things
    ├── DeclarationError          exit 2   what the user's module declares
    ├── BadRecord                 exit 1   one record that cannot be read or written
    ├── FunctionFailed            exit 1   the user's function raised, or returned what it must not
    ├── LogFailed                 exit 1   (5 when the log cannot be reached)
    ├── StoreFailed               exit 1   (5 when the store cannot be reached)
    ├── SessionLost               exit 1   the assignment ended; the start sequence runs again
    │   └── CheckpointConflict             another process moved the cursor or took the lease
    ├── Refused                   exit 3   a safety check said no; nothing was changed
    │   ├── PlanOutdated                   a saved plan rests on what is not so any more
    │   ├── TopicGone                      a topic that a version reads or writes was deleted
    │   ├── TopicRecreated                 it was deleted and made again: offsets mean others
    │   ├── PartitionsChanged              it has another partition count: keys have moved
    │   ├── OffsetOutOfRange               the log no longer (or does not yet) hold an offset
    │   ├── CodeChanged                    another fingerprint under the same label
    │   ├── StoreLost                      the log knows a version that this store does not
    │   └── PromotionRefused
    ├── Unexplained               exit 4   differences that nobody declared
    └── PartlyDone                exit 6   some of it was done; the message says what remains

An error says what happened and where, what is still safe, and which command comes next.
"""

from __future__ import annotations


class PlayheadError(Exception):
    """Something went wrong; the message says what, where, and what to do.

    Attributes:
        message: What happened.
        where: The place, as ``topic[partition]@offset`` or ``file:line``, or None.
        safe: What is still as it was, or None.
        cure: What to do next, usually a command, or None.
        exit_code: What the command line exits with.
        passing: Whether it may be over by itself: something did not answer, or was busy. A
            worker waits for that; a command that only begins says it and ends.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        safe: str | None = None,
        cure: str | None = None,
        exit_code: int | None = None,
        passing: bool = False,
    ) -> None:
        """Keep the facts as attributes; ``str()`` tells them in this order."""
        super().__init__(message)
        self.message = message
        self.where = where
        self.safe = safe
        self.cure = cure
        self.passing = passing
        if exit_code is not None:
            self.exit_code = exit_code

    def __str__(self) -> str:
        """Return where, what, what is safe and the cure, one line each."""
        head = f"{self.where}: {self.message}" if self.where else self.message
        return "\n".join(part for part in (head, self.safe, self.cure) if part)


class ConfigError(PlayheadError):
    """An option, the project file or the environment says something that cannot be."""

    exit_code = 2


class DeclarationError(PlayheadError):
    """What the module declares cannot be; nothing was run."""

    exit_code = 2


class BadRecord(PlayheadError):
    """One record cannot be read or written; the message names it.

    ``offset`` is set once the one record was found alone.
    """

    offset: int | None = None


class FunctionFailed(PlayheadError):
    """The function of a version raised, or returned what it must not.

    ``offset`` is set once the one record was found alone.
    """

    offset: int | None = None


class LogFailed(PlayheadError):
    """The log answered with an error, or not at all."""


class StoreFailed(PlayheadError):
    """The store answered with an error, or not at all."""


class SessionLost(PlayheadError):
    """The assignment ended: what was computed is dropped and the start sequence runs again."""


class CheckpointConflict(SessionLost):
    """The cursor or the lease is no longer ours; nothing was written."""


class Refused(PlayheadError):
    """A safety check said no. Nothing was changed."""

    exit_code = 3


class TopicGone(Refused):
    """A topic that a recorded version reads or writes is not there any more."""


class TopicRecreated(Refused):
    """A topic was deleted and made again: its offsets mean other records."""


class PartitionsChanged(Refused):
    """A topic has another partition count than when the version was recorded."""


class CodeChanged(Refused):
    """The code of a version is not what it was when its results began."""


class StoreLost(Refused):
    """The log holds what this ledger does not know: the store is gone, or another one."""


class OffsetOutOfRange(Refused):
    """An offset that is needed is not in the log."""


class PlanOutdated(Refused):
    """A saved plan rests on what is not so any more; the message says what has moved."""


class PromotionRefused(Refused):
    """The version cannot be promoted as things are."""


class Unexplained(PlayheadError):
    """Base and head differ in ways that no expectation declares."""

    exit_code = 4


class PartlyDone(PlayheadError):
    """Some of the work was done; the message says what remains."""

    exit_code = 6
