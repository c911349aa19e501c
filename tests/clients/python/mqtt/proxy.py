"""A bad network between a client and the broker."""

import socket
import threading

from mqtt.address import BROKER


class Proxy:
    """Passes bytes on, and breaks each connection after so many of them; when the numbers are used up, none."""

    def __init__(self, limits):
        self._limits = list(limits)
        self.breaks = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            broker = socket.create_connection((BROKER.hostname, BROKER.port))
            limit = self._limits.pop(0) if self._limits else float("inf")
            Link(self, client, broker, limit)


class Link:
    def __init__(self, proxy, client, broker, limit):
        self._proxy, self._ends, self._left = proxy, (client, broker), limit
        self._lock = threading.Lock()
        for source, target in ((client, broker), (broker, client)):
            threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source, target):
        try:
            while received := source.recv(4096):
                target.sendall(self._allowed(received))
                if self._left <= 0:
                    break
        except OSError:
            pass
        self._end()

    def _allowed(self, received):
        with self._lock:
            before, self._left = self._left, self._left - len(received)
            if before > 0 >= self._left:
                self._proxy.breaks += 1
            return received[: max(before, 0)] if self._left < 0 else received

    def _end(self):
        for end in self._ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended already
