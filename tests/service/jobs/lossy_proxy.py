"""A way to a server that loses an answer when told to: what was asked has been done all the same."""

import socket
import threading
from contextlib import suppress
from typing import Self


class LossyProxy:
    """Passes on what is sent to `port`, and what comes back."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._is_to_lose = threading.Event()
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            _end(one)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def lose_next_answer(self) -> None:
        """End the connection on which the next answer comes, in place of passing it on."""
        self._is_to_lose.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # It was closed.
                return
            far = socket.create_connection(("127.0.0.1", self._server_port))
            self._sockets += (near, far)
            for source, target, is_answer in ((near, far, False), (far, near, True)):
                thread = threading.Thread(target=self._pass_on, args=(source, target, is_answer))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                if is_answer and self._is_to_lose.is_set():
                    self._is_to_lose.clear()
                    break
                target.sendall(data)
        _end(source)
        _end(target)


def _end(one: socket.socket) -> None:
    with suppress(OSError):  # It may have ended already.
        one.shutdown(socket.SHUT_RDWR)
    one.close()
