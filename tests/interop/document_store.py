"""A small stand-in for a MongoDB server, so that its driver's encryption can be shown where there is none.

It speaks as much of the wire protocol (OP_MSG) and of the query language as a key vault needs and as finding a
document by one of its fields does, and keeps everything in memory. The driver, its encryption and what they ask of
the key server are the real ones; what a real server would do with the documents is not shown.
"""

import itertools
import socketserver
import struct
import threading

import bson
import pymongo
from bson.codec_options import CodecOptions
from pymongo.server_api import ServerApi

OP_MSG = 2013
# The driver reads and writes binary values unchanged; so does this.
CODEC = CodecOptions(uuid_representation=bson.binary.UuidRepresentation.UNSPECIFIED)


class DocumentStore:
    """Listens on a port of its own while it is entered."""

    def __init__(self):
        self.collections = {}
        store = self

        class Conversation(socketserver.StreamRequestHandler):
            def handle(self):
                for number in itertools.count():
                    if (asked := read_message(self.rfile)) is None:
                        return
                    request, command = asked
                    self.wfile.write(message(number, request, store.answer(command)))

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Conversation)
        self.server.daemon_threads = True

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def client(self, **options):
        """A driver's client. With the stable API it begins with OP_MSG at once."""
        host, port = self.server.server_address
        return pymongo.MongoClient(
            host, port, server_api=ServerApi("1"), directConnection=True, retryWrites=False, **options
        )

    def answer(self, command):
        name = next(iter(command))
        collection = self.collections.setdefault((command.get("$db"), command[name]), [])
        match name:
            case "hello":
                sizes = {"maxBsonObjectSize": 1 << 24, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 1000}
                return {"ok": 1, "isWritablePrimary": True, "minWireVersion": 0, "maxWireVersion": 21, **sizes}
            case "insert":
                collection.extend(command["documents"])
                return {"ok": 1, "n": len(command["documents"])}
            case "find":
                found = [document for document in collection if matches(document, command["filter"])]
                namespace = f"{command['$db']}.{command['find']}"
                return {"ok": 1, "cursor": {"id": bson.Int64(0), "ns": namespace, "firstBatch": found}}
            case "update":
                changed = 0
                for update in command["updates"]:
                    for document in collection:
                        if matches(document, update["q"]):
                            document.update(update["u"]["$set"])
                            changed += 1
                return {"ok": 1, "n": changed, "nModified": changed}
            case "ping" | "endSessions":
                return {"ok": 1}
            case _:
                return {"ok": 0, "code": 59, "errmsg": f"no such command: {name}"}


def matches(document, asked):
    """Whether a document is asked for by a filter of $or, $in and equality."""
    for name, wanted in asked.items():
        if name == "$or":
            if not any(matches(document, one) for one in wanted):
                return False
            continue
        allowed = wanted["$in"] if isinstance(wanted, dict) else [wanted]
        held = document.get(name)
        if not any(value in allowed for value in (held if isinstance(held, list) else [held])):
            return False
    return True


def read_message(stream):
    """The number of the request and its command; None at the end of the stream."""
    if len(header := stream.read(16)) < 16:
        return None
    length, request, _, operation = struct.unpack("<4i", header)
    assert operation == OP_MSG, operation
    body = stream.read(length - 16)
    command, at = {}, 4  # after the flags
    while at < len(body):
        kind, at = body[at], at + 1
        (size,) = struct.unpack_from("<i", body, at)
        section, at = body[at : at + size], at + size
        if kind == 0:
            command = decode(section) | command
        else:
            name, _, documents = section[4:].partition(b"\0")
            command[name.decode()] = [decode(document) for document in split(documents)]
    return request, command


def split(documents):
    while documents:
        (size,) = struct.unpack_from("<i", documents)
        yield documents[:size]
        documents = documents[size:]


def decode(document):
    return bson.decode(document, CODEC)


def message(number, request, answer):
    body = b"\0\0\0\0" + b"\0" + bson.encode(answer, codec_options=CODEC)
    return struct.pack("<4i", 16 + len(body), number, request, OP_MSG) + body
