"""A real HTTP server that behaves as a test asks, in this process or in one of its own.

    python -m tests.benchmarks.serving.tiny_server PORT BEHAVIOUR

A behaviour says of each request, counted from 1, what is done before it is answered, and how.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CODE = b'{"code": "AAAA"}'
DROP = b""
"""In the place of an answer: the connection is closed without one."""


def answer(status: int = 200, body: bytes = CODE) -> bytes:
    return b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


def burn(seconds: float) -> None:
    """Processor time, not time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def fine(number: int) -> bytes:
    return answer()


def fails_every_third(number: int) -> bytes:
    return answer(500) if number % 3 == 0 else answer()


def fails(number: int) -> bytes:
    return answer(503)


def drops_every_third(number: int) -> bytes:
    return DROP if number % 3 == 0 else answer()


def forgets_the_code_once(number: int) -> bytes:
    return answer(body=b"{}") if number == 5 else answer()


def burns(number: int) -> bytes:
    burn(0.01)
    return answer()


def stalls_once(number: int) -> bytes:
    if number == 100:
        time.sleep(0.5)  # Everything stands still, as in a collection of garbage.
    return answer()


Behaviour = Callable[[int], bytes]


async def serve(port: int, behaviour: Behaviour) -> asyncio.Server:
    count = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
                count += 1
                said = behaviour(count)
                if said == DROP:
                    break
                writer.write(said)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", port)


@contextmanager
def served(behaviour: Behaviour) -> Iterator[int]:
    """The port of a server in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(serve(0, behaviour), loop).result(10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def stop(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def main() -> None:
    await (await serve(int(sys.argv[1]), globals()[sys.argv[2]])).serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
