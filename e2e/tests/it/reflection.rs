//! An API that sends the key back in every encoding and framing that it knows, to every runtime.

use crate::canary::{CANARY, assert_clean, assert_clean_everywhere, forms};
use crate::runtimes::installed;
use data_encoding::{BASE64, HEXLOWER};
use e2e::{Agent, Seen, Standin, World};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::json;
use std::io::Write;

/// What each request asks for by its path: one way of sending the key back.
const FRAMINGS: [&str; 19] = [
    "length",
    "close",
    "chunked",
    "crumbs",
    "gzip",
    "members",
    "deflate",
    "bare",
    "br",
    "zstd",
    "stacked",
    "trailers",
    "fields",
    "reason",
    "early",
    "events",
    "multipart",
    "redirect",
    "wide",
];

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn bare(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn brotli(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(text).unwrap();
    out
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
}

fn chunks(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in bytes.chunks(size) {
        out.extend_from_slice(format!("{:x};note=1\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    [&out[..], b"0\r\n"].concat()
}

fn reply(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\n{fields}Connection: close\r\n\r\n").as_bytes(), body].concat()
}

fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    reply("200 OK", &format!("Content-Encoding: {coding}\r\nContent-Length: {}\r\n", body.len()), body)
}

fn hostile(seen: &Seen) -> Vec<u8> {
    let key = seen.header("authorization").unwrap_or("").trim_start_matches("Bearer ").to_owned();
    let text = forms(&key).join("\n");
    let body = text.as_bytes();
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    match seen.target.trim_start_matches('/') {
        "length" => reply("200 OK", &length, body),
        "close" => reply("200 OK", "", body),
        "chunked" => reply("200 OK", chunked, &[chunks(body, 1000), b"\r\n".to_vec()].concat()),
        "crumbs" => reply("200 OK", chunked, &[chunks(body, 1), b"\r\n".to_vec()].concat()),
        "gzip" => coded("gzip", &gzip(body)),
        // The key is cut between two members.
        "members" => coded("x-gzip", &[gzip(&body[..20]), gzip(&body[20..])].concat()),
        "deflate" => coded("deflate", &zlib(body)),
        "bare" => coded("deflate", &bare(body)),
        "br" => coded("br", &brotli(body)),
        "zstd" => coded("zstd", &zstd(body)),
        "stacked" => coded("zstd, gzip, br", &brotli(&gzip(&zstd(body)))),
        "trailers" => {
            let trailers = format!("X-Key: {key}\r\nX-Hex: {}\r\n\r\n", HEXLOWER.encode(key.as_bytes()));
            let fields = format!("{chunked}Trailer: X-Key, X-Hex\r\n");
            reply("200 OK", &fields, &[chunks(body, 99), trailers.into_bytes()].concat())
        }
        "fields" => {
            let lines: String = forms(&key).iter().enumerate().map(|(i, form)| format!("X-{i}: {form}\r\n")).collect();
            let cookie = format!("Set-Cookie: key={}; Path=/\r\n", BASE64.encode(key.as_bytes()));
            let etag = format!("ETag: \"{key}\"\r\nX-{}: 1\r\n", HEXLOWER.encode(key.as_bytes()));
            reply("200 OK", &format!("{lines}{cookie}{etag}Content-Length: 2\r\n"), b"ok")
        }
        "reason" => reply(&format!("200 {key}"), "Content-Length: 2\r\n", b"ok"),
        "early" => {
            let early = format!("HTTP/1.1 103 Early Hints\r\nLink: <{key}>; rel=preload\r\n\r\n");
            [early.as_bytes(), &reply("200 OK", &length, body)].concat()
        }
        "events" => {
            let events: String = forms(&key).iter().map(|form| format!("event: a\ndata: {form}\n\n")).collect();
            let fields = format!("Content-Type: text/event-stream\r\n{chunked}");
            reply("200 OK", &fields, &[chunks(events.as_bytes(), 7), b"\r\n".to_vec()].concat())
        }
        "multipart" => {
            let part = |form: &String| format!("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{form}\r\n");
            let parts: String = forms(&key).iter().map(part).collect();
            let fields = "Content-Type: multipart/form-data; boundary=b\r\n";
            reply("200 OK", fields, format!("{parts}--b--\r\n").as_bytes())
        }
        "redirect" => {
            let escaped: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
            reply(
                "302 Found",
                &format!("Location: https://api.example.com/length?key={escaped}\r\nContent-Length: 0\r\n"),
                b"",
            )
        }
        "wide" => {
            let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            reply("200 OK", "Content-Type: text/plain; charset=utf-16le\r\n", &wide)
        }
        _ => reply("200 OK", &length, body),
    }
}

const JS: &str = "const key = ENV;\nfor (const path of PATHS) {\n  try {\n    const r = await fetch('https://api.example.com/' + path, { headers: { authorization: `Bearer ${key}` } });\n    const fields = ['x-0', 'x-6', 'set-cookie', 'etag', 'link', 'x-key'].map((name) => r.headers.get(name));\n    console.log(path, r.status, r.statusText, fields.join(' '), (await r.text()));\n  } catch (e) { console.log(path, 'failed', String(e), String(e.cause)); }\n}\nconsole.error(key);";

const PYTHON: &str = "import http.client, os, ssl\nkey = os.environ['CANARY_KEY']\nfor path in PATHS:\n  try:\n    c = http.client.HTTPSConnection('api.example.com')\n    c.request('GET', '/' + path, headers={'Authorization': 'Bearer ' + key, 'TE': 'trailers'})\n    r = c.getresponse()\n    print(path, r.status, r.reason, r.getheaders(), r.read().decode('utf-8', 'replace'))\n  except Exception as e: print(path, 'failed', repr(e))\nfor name in ('environ', 'cmdline'): print(open('/proc/self/' + name).read())";

const SHELL: &str = "for path in PATHS; do curl -sSi -H \"TE: trailers\" -H \"Authorization: Bearer $CANARY_KEY\" https://api.example.com/$path || echo $path failed; done; env";

#[tokio::test(flavor = "multi_thread")]
async fn the_canary_shows_in_no_framing_to_no_runtime() {
    let api = Standin::raw("api.example.com", hostile).await;
    let (world, token) = World::ready("").await;
    let deno = installed("OAUTH3_TEST_DENO");
    world.write_config(&format!("{}[runtimes]\ndeno = {deno:?}\n", api.egress(world.home())));
    world.add_secret("CANARY_KEY", CANARY, &["api.example.com"]).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let list = serde_json::to_string(&FRAMINGS).unwrap();
    let js = JS.replace("PATHS", &list);
    let node = js.replace("ENV", "process.env.CANARY_KEY");
    for (runtime, code) in [
        ("embedded", node.clone()),
        ("node", node),
        ("deno", js.replace("ENV", "Deno.env.get('CANARY_KEY')")),
        ("python", PYTHON.replace("PATHS", &list)),
        ("shell", SHELL.replace("PATHS", &FRAMINGS.join(" "))),
    ] {
        let metadata = json!({ "secrets": ["CANARY_KEY"], "network": ["api.example.com"], "runtime": runtime });
        let id = agent.submit(&code, metadata).await;
        assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
        let status = agent.finished(&id).await;
        assert_eq!(status["status"], "success", "{runtime}: {status}\n{}", serve.log());
        assert_clean(&format!("what {runtime} told"), status.to_string().as_bytes());
        let stdout = status["result"]["stdout"].as_str().unwrap();
        assert_clean(&format!("the output of {runtime}"), stdout.as_bytes());
        // Of all framings only the one that cannot be read was refused; the others came, scrubbed.
        assert!(stdout.contains("in an encoding that cannot be scrubbed"), "{runtime}: {stdout}");
        assert!(!stdout.contains("failed"), "{runtime}: {stdout}");
    }
    let seen = api.seen();
    let real = seen.iter().filter(|one| one.header("authorization") == Some(&format!("Bearer {CANARY}"))).count();
    assert!(real >= 5 * FRAMINGS.len(), "the API got the real value {real} times of {}", seen.len());
    assert_clean_everywhere(&world, serve).await;
}
