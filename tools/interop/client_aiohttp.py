"""The checks of suite.py through the package `aiohttp`."""

import aiohttp

import suite


class Connection:
    def __init__(self, session, socket):
        self.session, self.socket = session, socket
        self.extensions = "permessage-deflate" if socket.compress else ""
        self.subprotocol = socket.protocol

    async def send(self, message):
        if isinstance(message, str):
            await self.socket.send_str(message)
        else:
            await self.socket.send_bytes(message)

    async def receive(self):
        message = await self.socket.receive()
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            return message.data
        if message.type == aiohttp.WSMsgType.CLOSE:
            return suite.Closed(message.data, message.extra or "")
        if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING):
            raise AssertionError(f"ended without a close frame: {self.socket.close_code}")
        raise AssertionError(f"unexpected {message}")

    async def close(self):
        await self.socket.close()
        await self.session.close()


class Library:
    @staticmethod
    async def connect(url, subprotocols):
        session = aiohttp.ClientSession()
        try:
            socket = await session.ws_connect(url, protocols=subprotocols, compress=15, max_msg_size=0)
        except BaseException:
            await session.close()
            raise
        return Connection(session, socket)


if __name__ == "__main__":
    suite.main(Library)
