//! HTTP API: wire types, handlers, openapi.json; agents over TCP, the owner over a Unix socket.
