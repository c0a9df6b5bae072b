"""A TCP proxy in front of a Kafka broker that spoils the end of one transaction.

Loopback only; a thread for each direction of each connection.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

ADD_PARTITIONS, END_TXN = 24, 26  # api keys of Kafka's protocol


class Connection:
    """One client's connection and the one to the broker behind it."""

    def __init__(self, proxy: Proxy, client: socket.socket, broker: socket.socket) -> None:
        self.proxy, self.client, self.broker = proxy, client, broker
        self.lose_answer = False
        self.keep_broker = False

    def up(self) -> None:
        """Hand on requests, one frame at a time."""
        while (frame := read_frame(self.client)) is not None:
            if not self.proxy.request(self, frame):
                return
            with suppress(OSError):
                self.broker.sendall(frame)
        self.close()

    def down(self) -> None:
        """Hand on answers."""
        while (frame := read_frame(self.broker)) is not None:
            if self.lose_answer:
                self.proxy.done.set()
                break
            with suppress(OSError):
                self.client.sendall(frame)
        self.close()

    def close(self) -> None:
        for one in (self.client,) if self.keep_broker else (self.client, self.broker):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def read_frame(connection: socket.socket) -> bytes | None:
    """Return the next frame of Kafka's protocol with its length; None at the end."""
    head = read_exactly(connection, 4)
    body = read_exactly(connection, struct.unpack(">i", head)[0]) if head else None
    return head + body if head and body else None


def read_exactly(connection: socket.socket, size: int) -> bytes | None:
    found = b""
    while len(found) < size:
        try:
            part = connection.recv(size - len(found))
        except OSError:
            return None
        if not part:
            return None
        found += part
    return found


class Proxy:
    """Listens on ``port`` and spoils what `arm` says.

    ``"answer lost"``: the broker ends the transaction, and the connection breaks before it says
    so. ``"request lost"``: the connection breaks before the broker hears of it. ``"request
    late"``: the request lies about, and reaches the broker while a later transaction is open.
    """

    def __init__(self, upstream: int, port: int) -> None:
        self._upstream = upstream
        self._port = port
        self._how, self._nth = "", 0
        self._connections: list[Connection] = []
        self._held: tuple[Connection, bytes] | None = None
        self.done = threading.Event()
        self.open()

    def open(self) -> None:
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def arm(self, how: str, nth: int) -> None:
        """Spoil the nth end of a transaction from now on."""
        self._how, self._nth = how, nth
        self.done.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                client.close()
                continue
            connection = Connection(self, client, broker)
            self._connections.append(connection)
            for pump in (connection.up, connection.down):
                threading.Thread(target=pump, daemon=True).start()

    def request(self, connection: Connection, frame: bytes) -> bool:
        """Look at a request; say whether it is to be handed on."""
        key = struct.unpack(">h", frame[4:6])[0]
        if key == ADD_PARTITIONS and self._held is not None:
            threading.Timer(0.02, self._release).start()
        if key != END_TXN or not self._how:
            return True
        self._nth -= 1
        if self._nth > 0:
            return True
        how, self._how = self._how, ""
        if how == "answer lost":
            connection.lose_answer = True
            return True
        if how == "request late":
            connection.keep_broker = True
            self._held = (connection, frame)
            return False
        connection.close()
        self.done.set()
        return False

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            connection, frame = held
            connection.broker.sendall(frame)
            self.done.set()

    def close(self) -> None:
        """Break every connection and refuse new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept()
        self._listener.close()
        for connection in self._connections:
            connection.keep_broker = False
            connection.close()
