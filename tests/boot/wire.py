"""What lies between machines and their server, and can lose an answer."""

import contextlib
import socket
import threading

# TLS records: a byte of kind, two of version, two of length. Source: RFC 8446 §5.1.
HEADER_BYTES = 5
APPLICATION_DATA = 23
# Of a client of TLS 1.3: the end of its handshake, and then its request, which is short enough for one record.
RECORDS_OF_A_REQUEST = 2


class Wire:
    """A port that leads to `port`. Each connection is one request. `loses` is asked once the server has answered one, whether this
    answer is lost; what it says may depend on what the server has done by then, and not on how often a slow machine asks."""

    def __init__(self, port, loses):
        self.target, self.loses = port, loses
        self.failed = []
        self.lock = threading.Lock()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        assert not self.failed, self.failed

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                machine, _ = self.socket.accept()
                threading.Thread(target=self.serve, args=(machine,), daemon=True).start()

    def serve(self, machine):
        with contextlib.suppress(OSError), machine, socket.create_connection(("127.0.0.1", self.target)) as server:
            asked = threading.Event()
            answering = threading.Thread(target=self.answer, args=(server, machine, asked), daemon=True)
            answering.start()
            records = 0
            while record := read_record(machine):
                records += record[0] == APPLICATION_DATA
                if records == RECORDS_OF_A_REQUEST:
                    asked.set()
                server.sendall(record)
            answering.join()

    def answer(self, server, machine, asked):
        """Passes on what the server says, unless the answer is lost."""
        is_decided = False
        with contextlib.suppress(OSError):
            while part := server.recv(1 << 16):
                if asked.is_set() and not is_decided:
                    is_decided = True
                    if self.is_lost():
                        break
                machine.sendall(part)
            machine.shutdown(socket.SHUT_RDWR)

    def is_lost(self):
        with self.lock:
            try:
                return self.loses()
            except Exception as error:
                self.failed.append(repr(error))
                return True


def read_record(machine):
    head = read(machine, HEADER_BYTES)
    return head and head + read(machine, int.from_bytes(head[3:]))


def read(machine, length):
    parts = b""
    while len(parts) < length:
        part = machine.recv(length - len(parts))
        if not part:
            return b""
        parts += part
    return parts
