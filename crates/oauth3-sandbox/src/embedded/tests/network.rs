//! `fetch` against a stub of the egress: what goes over the wire, and what the program makes of the answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{EmbeddedJob, Ran, job, run, run_job};

/// One request as it came over the wire.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
    connection: usize,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// How the stub answers: raw bytes of a response, and whether the connection ends after it.
struct Answer {
    bytes: Vec<u8>,
    close: bool,
}

fn answer(status: &str, headers: &str, body: &str) -> Answer {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    Answer { bytes: [head.as_bytes(), body.as_bytes()].concat(), close: false }
}

fn raw(text: &str) -> Answer {
    Answer { bytes: text.as_bytes().to_vec(), close: true }
}

/// Runs `source` with a stub egress that answers with `answers`. Returns how it ended and what the stub saw.
fn run_with_stub(source: &str, answers: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> (Ran, Vec<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let log = Arc::new(Mutex::new(Vec::new()));
    let (seen, answers) = (Arc::clone(&log), Arc::new(answers));
    // The thread waits in accept until the test process ends; each connection has a thread of its own.
    thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
            thread::spawn(move || serve(stream.unwrap(), connection, &seen, &*answers));
        }
    });
    let ran = run_job(EmbeddedJob { proxy_port: port, ..job(source) });
    let seen = log.lock().unwrap().clone();
    (ran, seen)
}

fn serve(stream: TcpStream, connection: usize, log: &Mutex<Vec<Seen>>, answers: &dyn Fn(&Seen) -> Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(seen) = read_request(&mut reader, connection) {
        log.lock().unwrap().push(seen.clone());
        let Answer { bytes, close } = answers(&seen);
        if stream.write_all(&bytes).is_err() || close {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>, connection: usize) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let line: String = line.iter().map(|&byte| char::from(byte)).collect();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0);
    let headers: Vec<(String, String)> = lines
        .iter()
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { line, headers, body: String::from_utf8_lossy(&body).into_owned(), connection })
}

/// A program whose requests all get the same answer: its output.
fn out_of(source: &str, answer_of: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> String {
    let (ran, _) = run_with_stub(source, answer_of);
    assert_eq!(ran.code, 0, "{source}\n{}", ran.err);
    ran.out
}

#[test]
fn the_openai_skill_runs_unchanged() {
    let source = r"
const response = await fetch('https://api.openai.com/v1/chat/completions', {
  method: 'POST',
  headers: { 'Authorization': `Bearer ${Deno.env.get('OPENAI_API_KEY')}`, 'Content-Type': 'application/json' },
  body: JSON.stringify({model: 'gpt-4', messages: [{role: 'user', content: 'Hello!'}]})
});
console.log(await response.json());
";
    let (ran, seen) = run_with_stub(source, |_| {
        answer("200 OK", "content-type: application/json\r\n", r#"{"choices":[{"message":{"content":"Hi!"}}]}"#)
    });
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "{\n  choices: [ { message: { content: \"Hi!\" } } ]\n}\n"),
        "{}",
        ran.err
    );
    let [request] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(request.line, "POST https://api.openai.com/v1/chat/completions HTTP/1.1");
    assert_eq!(request.header("host"), Some("api.openai.com"));
    assert_eq!(request.header("authorization"), Some("Bearer sk-placeholder"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.body, r#"{"model":"gpt-4","messages":[{"role":"user","content":"Hello!"}]}"#);
}

#[test]
fn a_response_has_its_parts() {
    let source = "
const r = await fetch('https://a.test:8443/p?q=1#frag');
console.log(r.status, r.statusText, r.ok, r.url, r.redirected, r.type, r.headers.get('X-A'), r.headers.getSetCookie());
console.log(r.bodyUsed, await r.text(), r.bodyUsed);
try { r.headers.set('a', 'b') } catch (e) { console.log(e.name) }
";
    let (ran, seen) = run_with_stub(source, |_| {
        answer("404 Not Found", "x-a: 1\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n", "nope é")
    });
    assert_eq!(
        ran.out,
        "404 Not Found false https://a.test:8443/p?q=1#frag false basic 1 [ \"a=1\", \"b=2\" ]\nfalse nope é true\nTypeError\n",
        "{}",
        ran.err
    );
    assert_eq!(seen.first().unwrap().line, "GET https://a.test:8443/p?q=1 HTTP/1.1");
    assert_eq!(seen.first().unwrap().header("host"), Some("a.test:8443"));
}

#[test]
fn bodies_can_be_read_in_every_form() {
    for (read, out) in [
        ("text()", "{\"a\":1}"),
        ("json()", "{ a: 1 }"),
        ("bytes()", "Uint8Array(7) [\n  123, 34,  97, 34,\n   58, 49, 125\n]"),
        ("arrayBuffer().then((b) => b.byteLength)", "7"),
        ("blob().then((b) => [b.size, b.type])", "[ 7, \"application/json\" ]"),
        ("clone().text()", "{\"a\":1}"),
    ] {
        let source = format!("console.log(await (await fetch('https://a.test/')).{read})");
        let seen = out_of(&source, |_| answer("200 OK", "content-type: application/json\r\n", "{\"a\":1}"));
        assert_eq!(seen, format!("{out}\n"), "{read}");
    }
}

#[test]
fn bodies_stream() {
    let chunked = || raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata \r\n3\r\none\r\n0\r\n\r\n");
    for read in [
        "let t = ''; const d = new TextDecoder(); for await (const c of r.body) t += d.decode(c, { stream: true }); console.log(t)",
        "let t = ''; const reader = r.body.getReader(); for (;;) { const { value, done } = await reader.read(); if (done) break; \
         t += new TextDecoder().decode(value) } console.log(t)",
        "let t = ''; for await (const c of r.body.pipeThrough(new TextDecoderStream())) t += c; console.log(t)",
        "const [a, b] = r.body.tee(); const t = await new Response(a).text(); console.log((await new Response(b).text()) === t && t)",
    ] {
        let seen = out_of(&format!("const r = await fetch('https://a.test/'); {read}"), move |_| chunked());
        assert_eq!(seen, "data one\n", "{read}");
    }
}

#[test]
fn a_stream_arrives_while_the_response_still_runs() {
    // The second part is sent only when the program has seen the first and said so on another connection.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accept = move || {
        let (stream, _) = listener.accept().unwrap();
        let request = read_request(&mut BufReader::new(stream.try_clone().unwrap()), 0).unwrap();
        (stream, request.line)
    };
    thread::spawn(move || {
        let (mut slow, _) = accept();
        slow.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nfirst").unwrap();
        let (mut sign, line) = accept();
        assert!(line.contains("/go"), "{line}");
        sign.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        slow.write_all(b"second").unwrap();
    });
    let source = "
const reader = (await fetch('https://a.test/slow')).body.getReader();
const text = async () => new TextDecoder().decode((await reader.read()).value);
console.log(await text());
console.log((await fetch('https://a.test/go')).status);
console.log(await text(), (await reader.read()).done);";
    let ran = run_job(EmbeddedJob { proxy_port: port, ..job(source) });
    assert_eq!((ran.code, ran.out.as_str()), (0, "first\n204\nsecond true\n"), "{}", ran.err);
}

#[test]
fn request_bodies_have_their_types() {
    for (body, sent, kind) in [
        ("'text'", "text", Some("text/plain;charset=UTF-8")),
        (
            "new URLSearchParams({ a: '1 2', b: 'é' })",
            "a=1+2&b=%C3%A9",
            Some("application/x-www-form-urlencoded;charset=UTF-8"),
        ),
        ("new TextEncoder().encode('bytes')", "bytes", None),
        ("new TextEncoder().encode('buffer').buffer", "buffer", None),
        ("new Blob(['blob'], { type: 'text/x' })", "blob", Some("text/x")),
        ("ReadableStream.from([new TextEncoder().encode('str'), new TextEncoder().encode('eam')])", "stream", None),
        ("undefined", "", None),
    ] {
        let source = format!("await fetch('https://a.test/', {{ method: 'POST', body: {body}, duplex: 'half' }})");
        let (ran, seen) = run_with_stub(&source, |_| answer("200 OK", "", ""));
        assert_eq!(ran.code, 0, "{body}\n{}", ran.err);
        assert_eq!(
            (seen.first().unwrap().body.as_str(), seen.first().unwrap().header("content-type")),
            (sent, kind),
            "{body}"
        );
    }
    let source =
        "const f = new FormData(); f.append('a', 'b'); await fetch('https://a.test/', { method: 'POST', body: f })";
    let (_, seen) = run_with_stub(source, |_| answer("200 OK", "", ""));
    let request = seen.first().unwrap();
    let boundary =
        request.header("content-type").unwrap().strip_prefix("multipart/form-data; boundary=").unwrap().to_owned();
    assert_eq!(
        request.body,
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--{boundary}--\r\n")
    );
}

#[test]
fn a_program_cannot_set_what_belongs_to_the_connection() {
    let source = "await fetch('https://user:p%40ss@a.test/', { headers: { Host: 'evil.test', 'Content-Length': '5', \
                  'Accept-Encoding': 'gzip', 'Proxy-Authorization': 'x', 'Transfer-Encoding': 'chunked', 'X-Own': 'é' } })";
    let (ran, seen) = run_with_stub(source, |_| answer("200 OK", "", ""));
    assert_eq!(ran.code, 0, "{}", ran.err);
    let request = seen.first().unwrap();
    assert_eq!(request.line, "GET https://a.test/ HTTP/1.1");
    assert_eq!(request.header("host"), Some("a.test"));
    assert_eq!(request.header("authorization"), Some("Basic dXNlcjpwQHNz"));
    for name in ["content-length", "proxy-authorization", "transfer-encoding"] {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.header("x-own"), Some("é"));
}

fn redirecting(seen: &Seen) -> Answer {
    let path = seen.line.split(' ').nth(1).unwrap();
    let to = |status: &str, place: &str| answer(status, &format!("location: {place}\r\n"), "moved");
    match path {
        "https://a.test/303" => to("303 See Other", "/end"),
        "https://a.test/302" => to("302 Found", "/end"),
        "https://a.test/307" => to("307 Temporary Redirect", "/end"),
        "https://a.test/away" => to("302 Found", "https://b.test/end"),
        "https://a.test/loop" => to("302 Found", "/loop"),
        "https://a.test/ftp" => to("302 Found", "ftp://a.test/"),
        _ => answer("200 OK", "", "end"),
    }
}

#[test]
fn redirects_are_followed() {
    for (path, method, last) in
        [("303", "POST", "GET"), ("302", "POST", "GET"), ("302", "PUT", "PUT"), ("307", "POST", "POST")]
    {
        let source = format!(
            "const r = await fetch('https://a.test/{path}', {{ method: '{method}', body: 'b', headers: {{ 'Content-Type': 'x/y' }} }}); \
             console.log(r.status, r.redirected, r.url, await r.text())"
        );
        let (ran, seen) = run_with_stub(&source, redirecting);
        assert_eq!(ran.out, "200 true https://a.test/end end\n", "{}", ran.err);
        let end = seen.last().unwrap();
        assert_eq!(end.line, format!("{last} https://a.test/end HTTP/1.1"));
        let kept = last != "GET";
        assert_eq!((end.body.as_str(), end.header("content-type")), if kept { ("b", Some("x/y")) } else { ("", None) });
    }
}

#[test]
fn a_redirect_to_another_host_drops_credentials() {
    for (path, kept) in [("away", None), ("307", Some("Bearer s"))] {
        let source = format!(
            "await fetch('https://a.test/{path}', {{ headers: {{ Authorization: 'Bearer s', Cookie: 'c', 'X-Other': 'o' }} }})"
        );
        let (ran, seen) = run_with_stub(&source, redirecting);
        assert_eq!((ran.code, seen.len()), (0, 2), "{}", ran.err);
        let end = seen.last().unwrap();
        assert_eq!((end.header("authorization"), end.header("cookie").is_some()), (kept, kept.is_some()));
        assert_eq!(end.header("x-other"), Some("o"));
    }
}

#[test]
fn redirects_obey_the_mode_and_the_limit() {
    let source = "
const r = await fetch('https://a.test/302', { redirect: 'manual' });
console.log(r.status, r.headers.get('location'), r.redirected, await r.text());
for (const [path, init] of [['302', { redirect: 'error' }], ['loop', {}], ['ftp', {}]]) {
  try { await fetch(`https://a.test/${path}`, init) } catch (e) { console.log(e.name, e.message) }
}";
    let (ran, seen) = run_with_stub(source, redirecting);
    assert_eq!(
        ran.out,
        "302 /end false moved\nTypeError Encountered redirect while redirect mode is set to 'error'\n\
         TypeError Maximum number of redirects (20) reached\nTypeError Url scheme 'ftp' not supported\n",
        "{}",
        ran.err
    );
    assert_eq!(seen.iter().filter(|seen| seen.line.contains("/loop")).count(), 21);
}

#[test]
fn a_refusal_of_the_egress_is_an_ordinary_403() {
    let source = "const r = await fetch('https://evil.test/'); console.log(r.status, r.ok, await r.text())";
    let seen = out_of(source, |_| answer("403 Forbidden", "", "oauth3: evil.test is not among the approved hosts"));
    assert_eq!(seen, "403 false oauth3: evil.test is not among the approved hosts\n");
}

#[test]
fn failures_are_type_errors_that_name_the_url() {
    let source = "try { await fetch('https://a.test/x') } catch (e) { console.log(e.name, e.message) }";
    let ran = run(source);
    assert!(
        ran.out.starts_with("TypeError error sending request for url (https://a.test/x): the network"),
        "{}",
        ran.out
    );
    let closed = out_of(source, |_| raw(""));
    assert!(closed.contains("connection closed before message completed"), "{closed}");
    let garbage = out_of(source, |_| raw("no http at all\r\n\r\n"));
    assert!(garbage.starts_with("TypeError error sending request"), "{garbage}");
    let source =
        "const r = await fetch('https://a.test/'); try { await r.text() } catch (e) { console.log(e.name, e.message) }";
    let short = out_of(source, |_| raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"));
    assert!(short.starts_with("TypeError error reading a body from connection"), "{short}");
}

#[test]
fn bad_requests_fail_before_the_wire() {
    for (call, name) in [
        ("fetch('not a url')", "TypeError"),
        ("fetch('file:///etc/passwd')", "TypeError"),
        ("fetch('https://a.test/', { body: 'x' })", "TypeError"),
        ("fetch('https://a.test/', { method: 'CONNECT' })", "TypeError"),
        ("fetch('https://a.test/', { method: 'A B' })", "TypeError"),
        ("fetch('https://a.test/', { headers: { 'a b': 'c' } })", "TypeError"),
        ("fetch('https://a.test/', { headers: { a: 'b\\r\\nc: d' } })", "TypeError"),
        ("fetch('https://a.test/', { headers: { a: '€' } })", "TypeError"),
        ("fetch('https://a.test/', { signal: AbortSignal.abort() })", "AbortError"),
    ] {
        let source = format!("try {{ await {call}; console.log('sent') }} catch (e) {{ console.log(e.name) }}");
        let (ran, seen) = run_with_stub(&source, |_| answer("200 OK", "", ""));
        assert_eq!((ran.out.as_str(), seen.len()), (format!("{name}\n").as_str(), 0), "{call}\n{}", ran.err);
    }
}

#[test]
fn requests_can_be_aborted() {
    // The answer never comes, or never ends.
    let never = |_: &Seen| Answer { bytes: Vec::new(), close: false };
    let source = "
const c = new AbortController(); setTimeout(() => c.abort(), 5);
try { await fetch('https://a.test/', { signal: c.signal }) } catch (e) { console.log(e.name) }
try { await fetch('https://a.test/', { signal: AbortSignal.timeout(5) }) } catch (e) { console.log(e.name) }";
    assert_eq!(out_of(source, never), "AbortError\nTimeoutError\n");
    let endless = |_: &Seen| Answer { bytes: b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab".to_vec(), close: false };
    let source = "
const c = new AbortController();
const r = await fetch('https://a.test/', { signal: c.signal }); setTimeout(() => c.abort(), 5);
try { await r.text() } catch (e) { console.log(e.name) }";
    assert_eq!(out_of(source, endless), "AbortError\n");
}

#[test]
fn an_unread_body_does_not_keep_the_program_alive() {
    let endless = |_: &Seen| Answer { bytes: b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab".to_vec(), close: false };
    assert_eq!(out_of("console.log((await fetch('https://a.test/')).status)", endless), "200\n");
}

#[test]
fn connections_are_used_again_and_survive_a_close() {
    let source = "for (let i = 0; i < 3; i++) { await (await fetch('https://a.test/')).text() }";
    let (ran, seen) = run_with_stub(source, |_| answer("200 OK", "", "x"));
    assert_eq!((ran.code, seen.len()), (0, 3), "{}", ran.err);
    assert!(seen.iter().all(|seen| seen.connection == 0), "{seen:?}");

    let (ran, seen) = run_with_stub(source, |_| Answer { close: true, ..answer("200 OK", "", "x") });
    assert_eq!((ran.code, seen.len()), (0, 3), "{}", ran.err);
}

#[test]
fn requests_run_side_by_side() {
    let source = "const all = await Promise.all(['a', 'b', 'c'].map(async (p) => (await fetch(`https://a.test/${p}`)).text())); console.log(all)";
    let seen = out_of(source, |seen| answer("200 OK", "", seen.line.split(' ').nth(1).unwrap()));
    assert_eq!(seen, "[ \"https://a.test/a\", \"https://a.test/b\", \"https://a.test/c\" ]\n");
}

#[test]
fn no_content_and_head_have_no_body() {
    let source = "const r = await fetch('https://a.test/', { method: 'HEAD' }); console.log(r.status, r.body, await r.text() === '')";
    assert_eq!(out_of(source, |_| raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")), "200 null true\n");
    let source = "const r = await fetch('https://a.test/'); console.log(r.status, r.body)";
    assert_eq!(out_of(source, |_| raw("HTTP/1.1 204 No Content\r\n\r\n")), "204 null\n");
}

#[test]
fn data_urls_need_no_network() {
    let ran = run(
        "const r = await fetch('data:text/plain;base64,aGk='); console.log(r.status, r.headers.get('content-type'), await r.text())",
    );
    assert_eq!((ran.code, ran.out.as_str()), (0, "200 text/plain hi\n"), "{}", ran.err);
}

#[test]
fn timers_without_end_leave_room_for_the_network() {
    let source = "
let done = false;
fetch('https://a.test/').then((r) => r.text()).then((t) => { done = true; console.log(t) });
while (!done) await new Promise((r) => setTimeout(r, 0));";
    assert_eq!(out_of(source, |_| answer("200 OK", "", "arrived")), "arrived\n");
}
