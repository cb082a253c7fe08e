//! Requests that are written to be read in two ways: those that another crate makes, and HTTP/2 frame by frame.

use crate::attack_egress::{VALUE, begin, start};
use crate::clients::with_packages;
use crate::runtimes::installed;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// Stands for the placeholder where it is not known yet; as long as one.
const MARK: &str = "PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP";

/// What code begins with that speaks to the egress byte by byte.
const PRELUDE: &str = r#"
import json, os, socket, ssl, struct
from concurrent.futures import ThreadPoolExecutor
KEY, HOST = os.environ['API_KEY'], 'api.example.com'
def connect(*alpn):
    trust = ssl.create_default_context(cafile='/etc/ssl/certs/ca-certificates.crt')
    trust.set_alpn_protocols(list(alpn))
    return trust.wrap_socket(socket.create_connection((HOST, 443), 10), server_hostname=HOST)
def each(f, items):
    with ThreadPoolExecutor(16) as pool: return list(pool.map(f, items))
"#;

/// HTTP/1.1: sends each as it is. Whoever still waits after two seconds is left waiting.
const HTTP1: &str = r#"
def answers(one):
    data = bytes(one['bytes']).replace(MARK.encode(), KEY.encode()).replace(b'Host: t\r\n', b'Host: api.example.com\r\n')
    out = b''
    try:
        s = connect('http/1.1')
        s.settimeout(2)
        s.sendall(data)
        while more := s.recv(65536): out += more
    except OSError: pass
    return one['what'], [reply[:3].decode() for reply in out.split(b'HTTP/1.1 ')[1:]]
for what, statuses in each(answers, [one for one in PAYLOADS if 'bytes' in one]): print(what, statuses)
"#;

/// HTTP/2: how a connection ends on which something is sent.
const HTTP2: &str = r#"
import hpack
PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
def frame(kind, flags, stream, payload): return struct.pack('>I', len(payload))[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + payload
def fields(*pairs): return hpack.Encoder().encode([(n.encode(), v.encode('latin-1')) for n, v in pairs], huffman=False)
def pseudo(**other): return [(':' + n, v) for n, v in {**dict(method='GET', scheme='https', authority=HOST, path='/'), **other}.items()]
GOOD = frame(HEADERS, 5, 1, fields(*pseudo(path='/good')))
def outcome(data, before=PREFACE + frame(SETTINGS, 0, 0, b'')):
    buffer, decoder = b'', hpack.Decoder()
    try:
        s = connect('h2')
        s.settimeout(5)
        s.sendall(before + data)
        while True:
            while len(buffer) >= 9 and len(buffer) >= 9 + (length := int.from_bytes(buffer[:3])):
                kind, stream, payload = buffer[3], int.from_bytes(buffer[5:9]), buffer[9:9 + length]
                buffer = buffer[9 + length:]
                if kind == GOAWAY: return 'goaway %d' % int.from_bytes(payload[4:8])
                if kind == RST: return 'reset %d' % int.from_bytes(payload[:4])
                if kind == HEADERS: return dict(decoder.decode(payload))[':status']
            more = s.recv(65536)
            if not more: return 'closed'
            buffer += more
    except TimeoutError: return 'silence'
    except OSError: return 'closed'
"#;

/// What the crate wafrift-smuggling makes of it, a line of JSON each.
fn payloads() -> Vec<Value> {
    let prefix = format!("GET /smuggled HTTP/1.1\r\nHost: other.example.com\r\nAuthorization: Bearer {MARK}\r\nX: ");
    let made = Command::new(installed("OAUTH3_TEST_SMUGGLER")).args(["api.example.com", &prefix]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let lines = String::from_utf8(made.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn code(packages: &[&str], parts: &[&str]) -> String {
    let payloads = serde_json::to_string(&payloads()).unwrap();
    let data = format!("import json\nMARK = {MARK:?}\nPAYLOADS = json.loads({payloads:?})\n");
    format!(
        "# @runtime python\n# @timeout 100\n{}",
        with_packages(packages, &[&[PRELUDE, &data], parts].concat().concat())
    )
}

/// Whatever was sent: all that arrived reads in one way only, and for the allowed host.
fn assert_plain(seen: &[e2e::Seen]) {
    for one in seen {
        let fields =
            |name: &str| one.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
        assert_eq!(fields("host"), ["api.example.com"], "{one:?}");
        let (lengths, codings) = (fields("content-length"), fields("transfer-encoding"));
        assert!(lengths.len() + codings.len() <= 1, "{one:?}");
        assert!(codings.iter().all(|coding| *coding == "chunked"), "{one:?}");
        assert!(lengths.iter().all(|length| length.bytes().all(|b| b.is_ascii_digit())), "{one:?}");
        for name in ["http2-settings", "proxy-connection", "x-injected", "foo", "expect"] {
            assert!(fields(name).is_empty(), "{name}: {one:?}");
        }
        let upgrade = [fields("upgrade"), fields("connection")].concat();
        assert!(upgrade.is_empty() || upgrade == ["websocket", "Upgrade"], "{one:?}");
        assert!(!one.target.contains("smuggled") && !one.target.contains("admin"), "{one:?}");
        assert!(
            one.headers.iter().all(|(_, value)| value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f))),
            "{one:?}"
        );
        assert!(!format!("{one:?}").contains(VALUE) && !String::from_utf8_lossy(&one.body).contains(VALUE), "{one:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_smuggler_makes_for_http1_reads_in_one_way_or_goes_nowhere() {
    let (world, serve, agent, api, other) = start().await;
    let id = begin(&world, &agent, &code(&[], &[HTTP1])).await;
    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status}\n{}", serve.log());
    let lines: Vec<&str> = status["result"]["stdout"].as_str().unwrap().lines().collect();
    assert!(lines.len() > 60, "{lines:?}");
    assert!(other.seen().is_empty());
    let seen = api.seen();
    assert_plain(&seen);
    // Requests that are fine by themselves pass, one for each connection at most besides what is smuggled after them.
    assert!(lines.iter().filter(|line| line.contains("'200'")).count() <= seen.len(), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_smuggler_makes_for_http2_reads_in_one_way_or_goes_nowhere() {
    let (world, serve, agent, api, other) = start().await;
    let send = r#"
def attempt(one):
    pairs = [(n, v.replace(MARK, KEY) if v != 'example.com' else HOST) for n, v in one['fields']]
    named = {n for n, _ in pairs}
    missing = [(n, v) for n, v in pseudo() if n not in named and not (n == ':authority' and 'Missing' in one['what'])]
    return one['what'], outcome(frame(HEADERS, 5, 1, fields(*missing, *pairs)))
for what, ended in each(attempt, [one for one in PAYLOADS if 'fields' in one]): print(what, '->', ended)
print('good', '->', outcome(GOOD))
"#;
    let id = begin(&world, &agent, &code(&["hpack"], &[HTTP2, send])).await;
    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status}\n{}", serve.log());
    let lines: Vec<&str> = status["result"]["stdout"].as_str().unwrap().lines().collect();
    assert!(lines.len() > 35, "{lines:?}");
    assert!(other.seen().is_empty());
    let seen = api.seen();
    assert_plain(&seen);
    let passed: BTreeSet<&str> = lines.iter().filter_map(|line| line.strip_suffix(" -> 200")).collect();
    assert_eq!(
        passed,
        BTreeSet::from(["ALPN h2c", "H2 Method Override", "H2 Pseudo-Header Reordering", "good"]),
        "{lines:?}"
    );
    assert!(lines.iter().all(|line| !line.ends_with("silence")), "{lines:?}");
}

/// Frames that break RFC 9113, and what must come of each.
const FRAMES: &str = r#"
big = frame(HEADERS, 1, 1, fields(*pseudo()))
# What is not read any more takes the last words with it.
def flood(data): return 'ended' if (how := outcome(data)) in ('goaway 11', 'closed') else how
cases = {
    'no preface': lambda: outcome(b'GET / HTTP/1.1\r\n\r\n', before=b''),
    'other preface': lambda: outcome(b'', before=b'PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n'),
    'no settings': lambda: outcome(GOOD, before=PREFACE),
    'settings of 5 bytes': lambda: outcome(frame(SETTINGS, 0, 0, b'12345')),
    'settings on a stream': lambda: outcome(frame(SETTINGS, 0, 1, b'')),
    'acknowledgement with settings': lambda: outcome(frame(SETTINGS, 1, 0, bytes(6))),
    'frame above the limit': lambda: outcome(frame(DATA, 0, 1, bytes(1 << 20))[:9]),
    'headers on stream 0': lambda: outcome(frame(HEADERS, 5, 0, fields(*pseudo()))),
    'headers on an even stream': lambda: outcome(frame(HEADERS, 5, 2, fields(*pseudo()))),
    'streams backwards': lambda: outcome(frame(HEADERS, 5, 5, fields(*pseudo(path='/five'))) + frame(HEADERS, 5, 3, fields(*pseudo()))),
    'data on a stream that is not there': lambda: outcome(frame(DATA, 1, 1, b'x')),
    'data on stream 0': lambda: outcome(frame(DATA, 1, 0, b'x')),
    'padding longer than the frame': lambda: outcome(frame(HEADERS, 13, 1, b'\xff' + fields(*pseudo()))),
    'continuation of nothing': lambda: outcome(frame(CONTINUATION, 4, 1, b'')),
    'something within a head': lambda: outcome(big + frame(PING, 0, 0, bytes(8))),
    'another stream within a head': lambda: outcome(big + frame(CONTINUATION, 4, 3, b'')),
    'heads without end': lambda: flood(big + frame(CONTINUATION, 0, 1, fields(('x', 'y' * 16000))) * 64),
    'window of nothing': lambda: outcome(frame(WINDOW, 0, 0, bytes(4))),
    'window overflow': lambda: outcome(frame(WINDOW, 0, 0, b'\x7f\xff\xff\xff') * 2),
    'push from the code': lambda: outcome(frame(PUSH, 4, 1, struct.pack('>I', 2) + fields(*pseudo()))),
    'ping of 7 bytes': lambda: outcome(frame(PING, 0, 0, bytes(7))),
    'reset of a stream that is not there': lambda: outcome(frame(RST, 0, 1, bytes(4))),
    'reset of 3 bytes': lambda: outcome(GOOD[:0] + frame(RST, 0, 1, bytes(3))),
    'index beyond the table': lambda: outcome(frame(HEADERS, 5, 1, b'\xff\xff\xff\xff\x0f')),
    'table above the limit': lambda: outcome(frame(HEADERS, 5, 1, b'\x3f\xe1\xff\x03' + fields(*pseudo()))),
    'Huffman code that does not end': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo()) + b'\x00\x81\xff\x01a')),
    'length that is not the body': lambda: outcome(frame(HEADERS, 4, 1, fields(*pseudo(method='POST'), ('content-length', '5'))) + frame(DATA, 1, 1, b'more than that')),
    'two lengths': lambda: outcome(frame(HEADERS, 4, 1, fields(*pseudo(method='POST'), ('content-length', '1'), ('content-length', '2'))) + frame(DATA, 1, 1, b'x')),
    'body in chunks': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(method='POST'), ('transfer-encoding', 'chunked')))),
    'connection': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(), ('connection', 'x-api-key')))),
    'te': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(), ('te', 'gzip')))),
    'upper case': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(), ('X-Upper', 'y')))),
    'colon in a name': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(), ('x:y', 'z')))),
    'line in a value': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(), ('x', 'a\r\nhost: other.example.com')))),
    'line in a path': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(path='/a\r\nhost: other.example.com')))),
    'pseudo-field after fields': lambda: outcome(frame(HEADERS, 5, 1, fields(('x', 'y'), *pseudo()))),
    'unknown pseudo-field': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(), (':protocol', 'websocket')))),
    'pseudo-field in trailers': lambda: outcome(frame(HEADERS, 4, 1, fields(*pseudo(method='POST'))) + frame(DATA, 0, 1, b'x') + frame(HEADERS, 5, 1, fields((':path', '/')))),
    'trailers without an end': lambda: outcome(frame(HEADERS, 4, 1, fields(*pseudo(method='POST'))) + frame(DATA, 0, 1, b'x') + frame(HEADERS, 4, 1, fields(('x', 'y')))),
    'another authority': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(authority='other.example.com'), ('authorization', 'Bearer ' + KEY)))),
    'another host': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(), ('host', 'other.example.com'), ('authorization', 'Bearer ' + KEY)))),
    'authority with a user': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(authority='api.example.com@other.example.com')))),
    'absolute path': lambda: outcome(frame(HEADERS, 5, 1, fields(*pseudo(path='https://other.example.com/')))),
    'connect': lambda: outcome(frame(HEADERS, 4, 1, fields((':method', 'CONNECT'), (':authority', 'other.example.com:443')))),
    'good': lambda: outcome(GOOD),
}
for name, ended in zip(cases, each(lambda run: run(), cases.values())): print(name, '->', ended)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_http2_end_their_stream_or_connection_and_bring_nothing() {
    let (world, serve, agent, api, other) = start().await;
    let id = begin(&world, &agent, &code(&["hpack"], &[HTTP2, FRAMES])).await;
    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status}\n{}", serve.log());
    let lines: Vec<&str> = status["result"]["stdout"].as_str().unwrap().lines().collect();
    assert!(other.seen().is_empty());
    let seen = api.seen();
    assert_plain(&seen);
    let ended: Vec<(&str, &str)> = lines.iter().filter_map(|line| line.split_once(" -> ")).collect();
    let expected = [
        ("no preface", "closed"),
        ("other preface", "closed"),
        ("no settings", "200"),
        ("settings of 5 bytes", "goaway 1"),
        ("settings on a stream", "goaway 1"),
        ("acknowledgement with settings", "goaway 1"),
        ("frame above the limit", "goaway 6"),
        ("headers on stream 0", "goaway 1"),
        ("headers on an even stream", "goaway 1"),
        ("streams backwards", "goaway 1"),
        ("data on a stream that is not there", "goaway 1"),
        ("data on stream 0", "goaway 1"),
        ("padding longer than the frame", "goaway 1"),
        ("continuation of nothing", "goaway 1"),
        ("something within a head", "goaway 1"),
        ("another stream within a head", "goaway 1"),
        ("heads without end", "ended"),
        ("window of nothing", "goaway 1"),
        ("window overflow", "goaway 3"),
        ("push from the code", "goaway 1"),
        ("ping of 7 bytes", "goaway 1"),
        ("reset of a stream that is not there", "goaway 1"),
        ("reset of 3 bytes", "goaway 1"),
        ("index beyond the table", "goaway 1"),
        ("table above the limit", "goaway 1"),
        ("Huffman code that does not end", "goaway 1"),
        ("length that is not the body", "reset 1"),
        ("two lengths", "reset 1"),
        ("body in chunks", "reset 1"),
        ("connection", "reset 1"),
        ("te", "reset 1"),
        ("upper case", "goaway 1"),
        ("colon in a name", "goaway 1"),
        ("line in a value", "goaway 1"),
        ("line in a path", "reset 1"),
        ("pseudo-field after fields", "reset 1"),
        ("unknown pseudo-field", "reset 1"),
        ("pseudo-field in trailers", "200"),
        ("trailers without an end", "reset 1"),
        ("another authority", "421"),
        ("another host", "421"),
        ("authority with a user", "421"),
        ("absolute path", "reset 1"),
        ("connect", "421"),
        ("good", "200"),
    ];
    assert_eq!(ended, expected);
}
