"""What ours is measured beside: mitmproxy, with an add-on that puts a value in the place of a placeholder.

Everything is dialled at UPSTREAM; bodies stream.
"""

import os

from mitmproxy import ctx

PLACEHOLDER, VALUE = os.environ["BENCH_PLACEHOLDER"], os.environ["BENCH_VALUE"]
HOST, PORT = os.environ["BENCH_UPSTREAM"].rsplit(":", 1)


class Inject:
    def running(self):
        ctx.options.stream_large_bodies = "1"

    def server_connect(self, data):
        data.server.address = (HOST, int(PORT))

    def requestheaders(self, flow):
        for name, value in flow.request.headers.items(multi=True):
            if PLACEHOLDER in value:
                flow.request.headers[name] = value.replace(PLACEHOLDER, VALUE)


addons = [Inject()]
