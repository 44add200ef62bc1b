"""Workers of a cluster that are killed while their client is connected.

Not what they work on.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

Connected = Callable[..., AbstractContextManager[Any]]


def beside(connected: Connected, murder: Callable[[Any, threading.Event], None]) -> Connected:
    """Returns ``pipeline.cluster.connected`` with a thread beside it: ``murder(client, stop)``.

    ``stop`` is set when the client is no longer needed; the cluster ends after ``murder`` has returned.
    """

    @contextmanager
    def watched(*arguments: Any) -> Iterator[Any]:
        with connected(*arguments) as client:
            stop = threading.Event()
            thread = threading.Thread(target=murder, args=(client, stop))
            thread.start()
            try:
                yield client
            finally:
                stop.set()
                thread.join()

    return watched
