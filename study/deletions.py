"""Deletes checkpoints beside the driver's own work, which no slow or silent store may hold up or break."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from trainables.checkpoints.files import folders, join, remove_folder

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 20.0
"""Longest wait for what is left to delete when a driver ends; `resume` deletes the rest."""


class Deletions:
    """Deletes folders of one place, one after the other, in a thread.

    Args:
        root: The place: a path or an object store's URL.
    """

    def __init__(self, root: Path | str) -> None:
        self._root = root
        self._thread = ThreadPoolExecutor(1, "deletions")
        self._last: Future[None] | None = None

    def __enter__(self) -> Deletions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._last is not None:
            wait([self._last], CLOSE_SECONDS)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def __call__(self, folder: str, /) -> None:
        """Have a folder deleted; what fails is left there."""
        self._last = self._thread.submit(delete, join(self._root, folder))

    def there(self) -> list[str]:
        """Return the folders that are there now; none when the place does not answer."""
        try:
            return folders(self._root)
        except OSError:
            logger.debug("%s cannot be listed", self._root, exc_info=True)
            return []


def delete(folder: Path | str, /) -> None:
    """Delete a folder that is not needed; it stays when it cannot be deleted."""
    try:
        remove_folder(folder)
    except OSError:
        logger.debug("%s could not be deleted", folder, exc_info=True)
