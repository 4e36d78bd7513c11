"""Messages between two processes of ours, over a socket: Python values, some with a descriptor."""

from __future__ import annotations

import os
import pickle
import socket
import struct
import threading
from collections import deque
from typing import Any

_LENGTH = struct.Struct("!Q")


class Channel:
    """Any thread sends, one receives. Both ends trust each other: values are pickled."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._outgoing: deque[tuple[bytes, int | None]] = deque()
        self._midst = False  # of a send
        self._sending = threading.RLock()

    def send(self, *message: Any, fd: int | None = None) -> None:
        """fd: given over with the message. It stays open here.

        Raises EOFError when nobody is there any more, and what pickle raises.
        """
        self._outgoing.append((pickle.dumps(message, pickle.HIGHEST_PROTOCOL), fd))
        with self._sending:
            if self._midst:
                return  # of this thread's own send, in a `__del__`: it goes next
            self._midst = True
            try:
                while self._outgoing:
                    self._send(*self._outgoing.popleft())
            finally:
                self._midst = False

    def receive(self) -> tuple[tuple[Any, ...], int | None]:
        """The next message, and the descriptor that came with it, which is the caller's to close.

        Raises EOFError when nobody is there any more.
        """
        try:
            head, fds, _, _ = socket.recv_fds(self._link, _LENGTH.size, 1)
            fd = fds[0] if fds else None
            head += self._exactly(_LENGTH.size - len(head))
            data = self._exactly(*_LENGTH.unpack(head))
        except OSError as error:
            raise EOFError(str(error)) from None
        if fd is not None:
            os.set_inheritable(fd, False)
        return pickle.loads(data), fd  # noqa: S301  # of our own process

    def end(self) -> None:
        """Nothing more is sent or received; whoever receives learns of it."""
        try:
            self._link.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other end has gone before
            return

    def close(self) -> None:
        self._link.close()

    def _send(self, data: bytes, fd: int | None) -> None:
        head, fds = _LENGTH.pack(len(data)), [] if fd is None else [fd]
        try:
            sent = socket.send_fds(self._link, [head], fds)
            self._link.sendall(head[sent:] + data)
        except BaseException as error:
            self.end()  # half a message, broken off by a signal's handler, would spoil what follows
            if isinstance(error, OSError):
                raise EOFError(str(error)) from None
            raise

    def _exactly(self, size: int) -> bytearray:
        """Raises EOFError."""
        got = bytearray(size)
        view = memoryview(got)
        while view:
            count = self._link.recv_into(view)
            if not count:
                raise EOFError("the other end has closed")
            view = view[count:]
        return got
