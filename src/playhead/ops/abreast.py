"""Several pieces of work at once, a thread each; the first that fails stops all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

R = TypeVar("R")


def abreast(works: Mapping[str, Callable[[], R]], stop: threading.Event) -> dict[str, R]:
    """Return what each piece of work returned, by its name; an error of one is raised at the end.

    Args:
        works: What to do, by the name of its thread.
        stop: What all of them end at; set when one has failed.
    """
    results: dict[str, R] = {}
    failures: list[BaseException] = []

    def do(name: str, work: Callable[[], R]) -> None:
        try:
            results[name] = work()
        except BaseException as error:  # noqa: BLE001  handed to the thread that waits
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=do, args=item, name=item[0]) for item in works.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)
    if failures:
        raise failures[0]
    return results
