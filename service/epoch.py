"""Requests on one side, changes of the model on the other: never both at once.

A request holds the epoch while what it does depends on the model: from the encoding of its image to the
answer. A change waits until those under way have ended, and those that come meanwhile wait for the change,
which takes milliseconds. So no code of one model is ever held against those of another.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio.to_thread

T = TypeVar("T")


class Epoch:
    """Made and used within one event loop, but for `change_from_thread`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Condition()
        self._num_requests = 0
        self._is_changing = False

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """The model stays what it is until the block ends."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_changing)
            self._num_requests += 1
        try:
            yield
        finally:
            # Shielded: a request that is cancelled must still let go.
            await asyncio.shield(self._leave())

    def change_from_thread(self, change: Callable[[], T]) -> T:
        """Do `change` while no request holds the epoch; called from a thread that is not the loop's."""
        return asyncio.run_coroutine_threadsafe(self._change(change), self._loop).result()

    async def _change(self, change: Callable[[], T]) -> T:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_changing)
            self._is_changing = True
            await self._changed.wait_for(lambda: not self._num_requests)
        try:
            return await anyio.to_thread.run_sync(change)
        finally:
            async with self._changed:
                self._is_changing = False
                self._changed.notify_all()

    async def _leave(self) -> None:
        async with self._changed:
            self._num_requests -= 1
            self._changed.notify_all()
