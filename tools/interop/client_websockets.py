"""The checks of suite.py through the package `websockets`."""

import websockets
from websockets.asyncio.client import connect

import suite


class Connection:
    def __init__(self, socket):
        self.socket = socket
        self.extensions = socket.response.headers.get("Sec-WebSocket-Extensions", "")
        self.subprotocol = socket.subprotocol

    async def send(self, message):
        await self.socket.send(message)

    async def receive(self):
        try:
            return await self.socket.recv()
        except websockets.ConnectionClosed as closed:
            if closed.rcvd is None:
                raise
            return suite.Closed(closed.rcvd.code, closed.rcvd.reason)

    async def close(self):
        await self.socket.close()
        code = self.socket.protocol.close_rcvd and self.socket.protocol.close_rcvd.code
        if code is None:
            raise AssertionError("the server did not answer the close frame")


class Library:
    @staticmethod
    async def connect(url, subprotocols):
        return Connection(await connect(url, subprotocols=subprotocols or None, max_size=None, proxy=None))


if __name__ == "__main__":
    suite.main(Library)
