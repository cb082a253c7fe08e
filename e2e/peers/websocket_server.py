"""The package websockets as a server over TLS: websocket_server.py CERT KEY. Prints its port, then a line for each
connection and each message. Sends what it was given as credentials in several framings, then each message back."""
import asyncio, base64, json, ssl, sys
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def handler(ws):
    headers = ws.request.headers
    given = headers.get("Authorization") or headers.get("Sec-WebSocket-Protocol", "").rpartition(", ")[2]
    print(json.dumps({"given": given, "extensions": headers.get("Sec-WebSocket-Extensions")}), flush=True)
    await ws.send(given)
    await ws.send(["in ", given[:9], given[9:15], given[15:], " parts"])
    await ws.send(base64.b64encode(given.encode()))
    try:
        async for message in ws:
            print(json.dumps({"message": message if isinstance(message, str) else len(message)}), flush=True)
            await ws.send(message)
    except ConnectionClosed:
        pass
    print(json.dumps({"closed": ws.close_code}), flush=True)


async def main():
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*sys.argv[1:3])
    select = lambda ws, offered: "realtime" if "realtime" in offered else None
    async with serve(handler, "127.0.0.1", 0, ssl=tls, select_subprotocol=select, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
