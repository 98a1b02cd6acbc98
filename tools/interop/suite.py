"""What a client sees of a node, checked through whatever library connects.

A library is a class with `connect(url, subprotocols)`, which answers a connection with `send(text or bytes)`,
`receive()` (str, bytes or Closed), `close()` and the attributes `extensions` and `subprotocol`; all but the
attributes are coroutines. The browser's side of this file is suite.mjs.
"""

import asyncio
import dataclasses
import json
import os
import re
import sys
import urllib.request

SECONDS = 10  # that anything may take
TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


@dataclasses.dataclass
class Closed:
    """The end of a connection, as the library tells it."""

    code: int
    reason: str


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"expected {expected!r}, found {found!r}")


class Suite:
    """The checks. Each is a coroutine whose docstring is its name."""

    def __init__(self, library, url):
        self.library = library
        self.http = url
        self.ws = url.replace("http", "ws", 1)
        self.connections = []

    async def open(self, path, subprotocols=()):
        connection = await self.library.connect(self.ws + path, list(subprotocols))
        self.connections.append(connection)
        return connection

    async def receive(self, connection, kind):
        """The next message, which must be JSON of this type."""
        message = await connection.receive()
        if not isinstance(message, str):
            raise AssertionError(f"expected a {kind} message, found {message!r}"[:300])
        value = json.loads(message)
        equal(value.get("type"), kind)
        return value

    async def join(self, user):
        """A connection of this user, its welcome taken."""
        connection = await self.open(f"/ws?user_id={user}")
        await self.receive(connection, "welcome")
        return connection

    async def send_json(self, connection, value):
        await connection.send(json.dumps(value))

    async def welcome(self):
        """welcome"""
        welcome = await self.receive(await self.open("/ws"), "welcome")
        assert welcome["message"].startswith("Connected to "), welcome
        assert TIMESTAMP.match(welcome["timestamp"]), welcome
        equal(welcome["client_ip"], "127.0.0.1")
        assert re.match("^[0-9a-f]{8}$", welcome["service_identity"]["instance_id"]), welcome
        assert welcome["message"].endswith(welcome["service_identity"]["display_name"]), welcome

    async def ping(self):
        """ping is answered with the whole message"""
        connection = await self.join("ping")
        message = {"type": "ping", "n": 1, "nested": {"list": [1, None, "ü"]}}
        await self.send_json(connection, message)
        pong = await self.receive(connection, "pong")
        equal(pong["original_data"], message)
        assert TIMESTAMP.match(pong["timestamp"]), pong

    async def unknown(self):
        """unknown JSON comes back as an echo"""
        connection = await self.join("unknown")
        for message in ({"type": "weather", "city": "Zürich"}, [1, 2, 3], "text"):
            await self.send_json(connection, message)
            equal((await self.receive(connection, "echo"))["original_data"], message)

    async def invalid_json(self):
        """text that is not JSON is an error and the connection stays"""
        connection = await self.join("invalid")
        await connection.send("{not json")
        equal((await self.receive(connection, "error"))["message"], "Invalid JSON")
        await self.send_json(connection, {"type": "ping"})
        await self.receive(connection, "pong")

    async def binary(self):
        """binary comes back as it is"""
        connection = await self.join("binary")
        payload = bytes(range(256)) * 4
        await connection.send(payload)
        equal(await connection.receive(), payload)

    async def raw_echo(self):
        """/echo is a raw echo without a welcome"""
        connection = await self.open("/echo")
        for payload in ("hello", '{"type":"ping"}', b"\x00\xff", "", "é" * 40000, os.urandom(200_000)):
            await connection.send(payload)
            equal(await connection.receive(), payload)

    async def deflate(self):
        """permessage-deflate is negotiated and carries a large message"""
        connection = await self.open("/echo")
        assert "permessage-deflate" in connection.extensions, f"extensions: {connection.extensions!r}"
        for payload in ("throng " * 30_000, b"\x00" * 200_000, "short"):
            await connection.send(payload)
            equal(await connection.receive(), payload)

    async def send_message(self):
        """send_message reaches every connection of the user"""
        sender, one, two = await self.join("sender"), await self.join("target"), await self.join("target")
        content = {"text": "hi", "n": [1.5, True]}
        await self.send_json(sender, {"type": "send_message", "target_user": "target", "content": content})
        for connection in (one, two):
            equal(await self.receive(connection, "message"), {"type": "message", "from": "sender", "content": content})

    async def offline(self):
        """send_message to a user who is not there is answered"""
        sender = await self.join("lonely")
        await self.send_json(sender, {"type": "send_message", "target_user": "nobody", "content": 1})
        equal((await self.receive(sender, "error"))["target_user"], "nobody")

    async def broadcast(self):
        """broadcast reaches everyone"""
        sender, other = await self.join("caster"), await self.join("other")
        await self.send_json(sender, {"type": "broadcast", "content": "all"})
        for connection in (sender, other):
            equal(await self.receive(connection, "broadcast"), {"type": "broadcast", "from": "caster", "content": "all"})

    async def kick(self):
        """kick closes with 4003 and the reason"""
        connection = await self.join("kicked")
        result = await asyncio.to_thread(self.post_kick, "kicked")
        equal(result["status"], "kicked")
        message = await connection.receive()
        while not isinstance(message, Closed):
            message = await connection.receive()
        equal((message.code, message.reason), (4003, "enough"))

    def post_kick(self, user):
        body = json.dumps({"user_id": user, "reason": "enough", "notify": True, "message": "bye"}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.http + "/api/kick", data=body, headers=headers, method="POST")
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return json.load(response)

    async def subprotocol(self):
        """a subprotocol both sides know is chosen"""
        equal((await self.open("/ws", ["unheard-of", "v2.throng"])).subprotocol, "v2.throng")

    async def missing_user_id(self):
        """a missing user_id closes with 4001"""
        message = await (await self.open("/ws")).receive()
        equal(message, Closed(4001, "Missing user_id"))

    async def user_id_given(self):
        """a given user_id is welcome where one is required"""
        await self.join("somebody")

    async def welcomed_with(self, token):
        """A connection by the token behind the subprotocol that announces it."""
        connection = await self.open("/ws", ["throng.jwt", token])
        equal(connection.subprotocol, "throng.jwt")
        await self.receive(connection, "welcome")
        return connection

    async def tokens(self, tokens):
        """tokens of PyJWT, one for each algorithm, say who it is and what it may do"""
        for token in tokens.split(",")[:4]:
            connection = await self.welcomed_with(token)
            await self.send_json(connection, {"type": "send_message", "target_user": "stranger", "content": 7})
            equal((await self.receive(connection, "message"))["from"], "stranger")
            await self.send_json(connection, {"type": "broadcast", "content": 7})
            equal((await self.receive(connection, "error"))["message"], "Not permitted: broadcast")
            await connection.close()

    async def token_expires(self, tokens):
        """a token that expires closes with 4010"""
        connection = await self.welcomed_with(tokens.split(",")[4])
        equal(await connection.receive(), Closed(4010, "Token expired"))

    async def token_refused(self, tokens):
        """a token that has expired, and none, are refused"""
        for subprotocols in (["throng.jwt", tokens.split(",")[5]], []):
            try:
                await self.open("/ws", subprotocols)
            except Exception as error:  # each library has one of its own
                assert "401" in str(error), f"{type(error).__name__}: {error}"
            else:
                raise AssertionError("it was let in")

    async def drain(self):
        """the shutdown notice comes before close 1012"""
        connection = await self.join("drained")
        print("listening", flush=True)
        notice = await self.receive(connection, "shutdown")
        assert isinstance(notice["reason"], str) and notice["reason"], notice
        assert isinstance(notice["reconnect_after_ms"], int) and notice["reconnect_after_ms"] >= 0, notice
        assert TIMESTAMP.match(notice["timestamp"]), notice
        message = await connection.receive()
        assert isinstance(message, Closed), message
        equal(message.code, 1012)

    async def listen(self, user):
        """a message of another library arrives"""
        connection = await self.join(user)
        print("listening", flush=True)
        message = await self.receive(connection, "message")
        equal((message["from"], message["content"]), (f"to-{user}", {"for": user}))

    async def send(self, user):
        """a message for another library leaves"""
        connection = await self.join(f"to-{user}")
        await self.send_json(connection, {"type": "send_message", "target_user": user, "content": {"for": user}})
        await self.send_json(connection, {"type": "ping"})
        await self.receive(connection, "pong")

    async def check(self, name, check, *arguments):
        """Runs one check and says what became of it."""
        why = None
        try:
            await asyncio.wait_for(check(*arguments), SECONDS if name != self.drain.__doc__ else 3 * SECONDS)
        except asyncio.TimeoutError:
            why = "timed out"
        except Exception as error:  # whatever a library raises is the reason
            why = f"{type(error).__name__}: {error}"[:500].replace("\n", " ")
        for connection in self.connections:
            try:
                await asyncio.wait_for(connection.close(), SECONDS)
            except Exception as error:
                why = why or f"close: {type(error).__name__}: {error}"
        self.connections = []
        print(f"ok {name}" if why is None else f"not ok {name}: {why}", flush=True)
        return why is None

    async def run(self, mode, arguments):
        modes = {
            "checks": [self.welcome, self.ping, self.unknown, self.invalid_json, self.binary, self.raw_echo,
                       self.deflate, self.send_message, self.offline, self.broadcast, self.kick, self.subprotocol],
            "required": [self.missing_user_id, self.user_id_given],
            "tokens": [self.tokens, self.token_expires, self.token_refused],
            "drain": [self.drain],
            "listen": [self.listen],
            "send": [self.send],
        }
        results = [await self.check(check.__doc__, check, *arguments) for check in modes[mode]]
        return all(results)


def main(library):
    """Command line of every Python client: MODE http://HOST:PORT [USER or TOKENS]."""
    mode, url, *arguments = sys.argv[1:]
    sys.exit(0 if asyncio.run(Suite(library, url).run(mode, arguments)) else 1)
