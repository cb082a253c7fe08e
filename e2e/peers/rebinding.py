"""A network of its own, in which a name server answers what an attacker wants: rebinding.py DIR CERT KEY -- COMMAND...

Must be started in new network and mount namespaces. Gives lo the address PUBLIC, puts a resolv.conf of its own over
the system's, serves names on port 53 and HTTPS on port 443 of PUBLIC and of the loopback, and then becomes COMMAND.
What is asked goes to DIR/asked, a line each: `name A`, or the address that got a request and its path."""
import ctypes, os, signal, socket, ssl, struct, subprocess, sys, threading

PUBLIC = "93.184.216.34"
folder, certificate, key, _, *command = sys.argv[1:]
asked = open(f"{folder}/asked", "a", buffering=1)
counts = {}


def answers(name, kind):
    """Addresses of a name: the n-th time that it is asked for."""
    counts[name, kind] = turn = counts.get((name, kind), 0) + 1
    first = name.split(".")[0]
    if kind == "AAAA":
        return {"mapped": ["::ffff:127.0.0.1"], "nat64": ["64:ff9b::7f00:1"], "six": ["::1"]}.get(first, [])
    return {
        "public": [PUBLIC],
        "rebind": [PUBLIC if turn == 1 else "127.0.0.1"],
        "mixed": [PUBLIC, "127.0.0.1"],
        "inside": ["127.0.0.1"],
        "metadata": ["169.254.169.254"],
        "zero": ["0.0.0.0"],
    }.get(first, [])


def serve_names(server):
    while True:
        query, peer = server.recvfrom(512)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        number = struct.unpack(">H", query[at + 1 : at + 3])[0]
        name, kind = ".".join(labels), {1: "A", 28: "AAAA"}.get(number, str(number))
        found = answers(name, kind) if kind in ("A", "AAAA") else []
        asked.write(f"{name} {kind}\n")
        reply = query[:2] + b"\x81\x80" + struct.pack(">4H", 1, len(found), 0, 0) + query[12 : at + 5]
        for address in found:
            data = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
            reply += b"\xc0\x0c" + struct.pack(">HHIH", number, 1, 0, len(data)) + data
        server.sendto(reply, peer)


def serve_pages(server, tls):
    while True:
        stream, _ = server.accept()
        threading.Thread(target=serve_page, args=(stream, tls), daemon=True).start()


def serve_page(stream, tls):
    try:
        where = stream.getsockname()[0]
        stream = tls.wrap_socket(stream, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            more = stream.recv(4096)
            if not more:
                return
            head += more
        asked.write(f"{where} {head.split()[1].decode()}\n")
        body = b"console.log('fetched')"
        # Closed after each, so that the next request has to ask for the name again.
        stream.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        stream.close()
    except OSError:
        pass


def main():
    for words in (["link", "set", "lo", "up"], ["addr", "add", f"{PUBLIC}/32", "dev", "lo"]):
        subprocess.run(["ip", *words], check=True)
    for name, text in (("resolv.conf", "nameserver 127.0.0.1\n"), ("nsswitch.conf", "hosts: dns\n")):
        # Not every system has both; without the second, names are asked for over DNS anyway.
        if not os.path.exists(f"/etc/{name}"):
            continue
        with open(f"{folder}/{name}", "w") as file:
            file.write(text)
        subprocess.run(["mount", "--bind", f"{folder}/{name}", f"/etc/{name}"], check=True)
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    pages = socket.create_server(("::", 443), family=socket.AF_INET6, dualstack_ipv6=True)
    parent = os.getpid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        threading.Thread(target=serve_names, args=(names,), daemon=True).start()
        serve_pages(pages, tls)
    names.close()
    pages.close()
    os.execvp(command[0], command)


main()
