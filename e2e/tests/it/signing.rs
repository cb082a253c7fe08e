//! Signatures of every kind, and what others say to them: botocore, PyJWT, Python's hmac.

use crate::canary::forms;
use crate::runtimes::installed;
use e2e::{Agent, Seen, Standin, World};
use http_body_util::Full;
use hyper::Response;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// With characters that change when they are encoded, so that forms of it can be told.
pub(crate) const AWS_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const AWS: &str = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const SESSION: &str = "IQoJb3JpZ2luX2VjE/session+token==";
const HMAC_KEY: &str = "whsec_H00k/K3y+of&the\"0wner";
const JWT_KEY: &str = "0123456789abcdef/0123456789+abcdef";

/// Sends what a client of each API would, with placeholders; nothing else decides what is signed.
const CODE: &str = r#"# @runtime python
import datetime, hashlib, http.client, os
env = os.environ
now = datetime.datetime.now(datetime.timezone.utc).strftime('%Y%m%dT%H%M%SZ')
def send(method, target, headers, body=b''):
    c = http.client.HTTPSConnection('api.example.com')
    c.putrequest(method, target, skip_accept_encoding=True)
    for name, value in headers.items(): c.putheader(name, value)
    if body or method in ('POST', 'PUT'): c.putheader('Content-Length', str(len(body)))
    c.endheaders(body)
    r = c.getresponse()
    print(r.status, r.getheaders(), r.read())
def aws(service, method, target, body=b'', secret='CLOUD', **headers):
    headers = {name.replace('_', '-'): value for name, value in headers.items()}
    headers['x-amz-date'] = now
    if secret == 'CLOUD2': headers['x-amz-security-token'] = env['CLOUD2_SESSION_TOKEN']
    names = ';'.join(sorted(['host', *headers]))
    scope = f'{now[:8]}/eu-central-1/{service}/aws4_request'
    headers['authorization'] = f"AWS4-HMAC-SHA256 Credential={env[secret + '_ACCESS_KEY_ID']}/{scope}, SignedHeaders={names}, Signature=00"
    send(method, target, headers, body)
def presigned(service, target, secret='CLOUD'):
    id = env[secret + '_ACCESS_KEY_ID']
    token = f"&X-Amz-Security-Token={env['CLOUD2_SESSION_TOKEN']}" if secret == 'CLOUD2' else ''
    scope = f'{id}%2F{now[:8]}%2Feu-central-1%2F{service}%2Faws4_request'
    send('GET', f"{target}{'&' if '?' in target else '?'}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={scope}&X-Amz-Date={now}&X-Amz-Expires=60{token}&X-Amz-SignedHeaders=host&X-Amz-Signature=00", {})
digest = lambda body: hashlib.sha256(body).hexdigest()
for service in ['s3', 'execute-api']:
    for target in ['/', '/a%20b/c%2Fd/~x', '/%C3%A9/%FF', '/a-b_c.d']:
        aws(service, 'GET', target, x_amz_content_sha256=digest(b''))
    for query in ['lifecycle', 'a=1&a=0&b', 'A=1&a=2&B=', 'x=%FF%FE&%FF=1', 'k=%20%2B%2F%3D%26%25', 'u=%C3%A9~-_.', 'z=1&y=2&x=3&aa=4']:
        aws(service, 'GET', '/list?' + query, x_amz_content_sha256=digest(b''))
    aws(service, 'POST', '/b?c=d', b'{"a": 1}', x_amz_content_sha256=digest(b'{"a": 1}'), content_type='application/json')
    aws(service, 'PUT', '/meta', b'x', x_amz_content_sha256=digest(b'x'), x_amz_meta_a='  a   b  ', x_amz_meta_b='1')
    aws(service, 'GET', '/session', secret='CLOUD2', x_amz_content_sha256=digest(b''))
    presigned(service, '/signed'), presigned(service, '/signed?b=%FF&a=%2B%20'), presigned(service, '/signed', 'CLOUD2')
for target in ['/a/./b/../c', '/a//b', '/a/..', '/..%2f/x']: aws('execute-api', 'GET', target)
aws('execute-api', 'POST', '/no-digest', b'the body')
aws('s3', 'PUT', '/unsigned', b'whatever', x_amz_content_sha256='UNSIGNED-PAYLOAD')
for name in ['RS', 'ES', 'HS']: send('GET', '/jwt/' + name, {'authorization': 'Bearer ' + env[name]})
send('POST', '/hmac/body', {'x-signature': env['HOOK']}, b'\x00\xffthe body')
send('POST', '/hmac/time', {'x-signature': env['TIMED'], 'x-timestamp': '1700000000'}, b'the body')
send('GET', f"/hmac/query?symbol=A%2FB&signature={env['ORDER']}&t=1", {})
"#;

/// What others say to signatures.
pub(crate) fn second_opinion(asked: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/second_opinion.py");
    let mut judge = Command::new(installed("OAUTH3_TEST_SIGNING"));
    let mut judge = judge.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    judge.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let said = judge.wait_with_output().unwrap();
    assert!(said.status.success());
    serde_json::from_slice(&said.stdout).unwrap()
}

fn bytes(text: impl AsRef<[u8]>) -> Value {
    json!(text.as_ref())
}

/// What a signed request is, for whoever judges it.
fn aws_request(seen: &Seen) -> Value {
    let field = seen.header("authorization").unwrap_or(&seen.target);
    let session =
        (seen.target.starts_with("/session") || seen.target.contains("X-Amz-Security-Token")).then_some(SESSION);
    assert!(field.contains("AKIAIOSFODNN7EXAMPLE"), "{seen:?}");
    json!({ "key": AWS, "session": session, "method": seen.method, "url": format!("https://api.example.com{}", seen.target),
            "headers": seen.headers.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(), "body": bytes(&seen.body) })
}

pub(crate) fn aws_signature(seen: &Seen) -> &str {
    let field = seen.header("authorization").unwrap_or(&seen.target);
    field.rsplit_once("Signature=").expect("it is signed").1
}

#[tokio::test(flavor = "multi_thread")]
async fn others_agree_with_every_signature_and_no_key_goes_anywhere() {
    // Sends back all that it got: what the signature is over, and the signature.
    let api = Standin::start("api.example.com", |seen| {
        let fields: String = seen.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let body = [seen.target.as_bytes(), b"\n", fields.as_bytes(), &seen.body].concat();
        Response::builder().header("x-target", &seen.target).body(Full::from(body)).unwrap()
    })
    .await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let with_session = format!("{AWS}:{SESSION}");
    let (rsa_pem, ec_pem) = (rsa.serialize_pem(), ec.serialize_pem());
    let secrets: [(&str, &str, &[&str]); 8] = [
        ("CLOUD", AWS, &["--kind", "aws-sigv4"]),
        ("CLOUD2", &with_session, &["--kind", "aws-sigv4"]),
        ("RS", &rsa_pem, &["--kind", "jwt-rs256", "--claim", "iss=12345"]),
        ("ES", &ec_pem, &["--kind", "jwt-es256", "--claim", "iss=12345"]),
        ("HS", JWT_KEY, &["--kind", "jwt-hs256", "--claim", "sub=\u{e9}\"x"]),
        ("HOOK", HMAC_KEY, &["--kind", "hmac-sha256"]),
        ("TIMED", HMAC_KEY, &["--kind", "hmac-sha256", "--over", "timestamp.body", "--encoding", "base64"]),
        ("ORDER", HMAC_KEY, &["--kind", "hmac-sha256", "--over", "query", "--in", "query"]),
    ];
    for (name, value, how) in secrets {
        let add = [&["secret", "add", name, "--host", "api.example.com", "--stdin"], how].concat();
        let done = world.cli_with(&add, value).await;
        assert_eq!(done.code(), 0, "{name}: {done:?}");
    }
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let names: Vec<&str> = secrets.iter().map(|(name, ..)| *name).collect();
    let id = agent.submit(CODE, json!({ "secrets": names, "network": ["api.example.com"], "timeout": 60 })).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status}\n{}", serve.log());
    let stdout = status["result"]["stdout"].as_str().unwrap();
    assert!(stdout.lines().all(|line| line.starts_with("200 ")), "{stdout}");

    let seen = api.seen();
    let (jwts, others): (Vec<&Seen>, Vec<&Seen>) = seen.iter().partition(|one| one.target.starts_with("/jwt/"));
    let (hmacs, signed): (Vec<&Seen>, Vec<&Seen>) =
        others.into_iter().partition(|one| one.target.starts_with("/hmac/"));
    let bearer = |one: &Seen| one.header("authorization").unwrap().trim_start_matches("Bearer ").to_owned();
    let asked = json!({
        "aws": signed.iter().map(|one| aws_request(one)).collect::<Vec<_>>(),
        "jwt": [
            { "token": bearer(jwts[0]), "key": rsa.public_key_pem(), "algorithm": "RS256" },
            { "token": bearer(jwts[1]), "key": ec.public_key_pem(), "algorithm": "ES256" },
            { "token": bearer(jwts[2]), "key": JWT_KEY, "algorithm": "HS256" },
        ],
        "hmac": [
            { "key": HMAC_KEY, "text": bytes(b"\x00\xffthe body"), "encoding": "hex" },
            { "key": HMAC_KEY, "text": bytes("1700000000.the body"), "encoding": "base64" },
            { "key": HMAC_KEY, "text": bytes("symbol=A%2FB&t=1"), "encoding": "hex" },
        ],
    });
    let said = second_opinion(&asked);
    assert_eq!(signed.len(), 40, "{signed:?}");
    for (one, botocore) in signed.iter().zip(said["aws"].as_array().unwrap()) {
        assert_eq!(aws_signature(one), botocore, "{one:?}");
    }
    let claims = said["jwt"].as_array().unwrap();
    assert_eq!(
        (&claims[0]["iss"], &claims[1]["iss"], &claims[2]["sub"]),
        (&json!("12345"), &json!("12345"), &json!("\u{e9}\"x"))
    );
    let query = hmacs[2].target.split(['&', '?']).find_map(|part| part.strip_prefix("signature=")).unwrap();
    let made = [hmacs[0].header("x-signature").unwrap(), hmacs[1].header("x-signature").unwrap(), query];
    assert_eq!(said["hmac"], json!(made));

    // Keys went to nobody: not to the host that was signed for, not to the code, into no file.
    let key_lines = [&rsa_pem, &ec_pem].map(|pem| pem.lines().nth(1).unwrap().to_owned());
    let keys = [AWS_KEY, HMAC_KEY, JWT_KEY, &key_lines[0], &key_lines[1]];
    let told = format!("{status} {seen:?} {}", serve.log());
    let bodies: Vec<u8> = seen.iter().flat_map(|one| one.body.clone()).collect();
    let audit = world.cli(&["audit", "export"]).await.stdout;
    for key in keys {
        for form in forms(key) {
            for (place, text) in
                [("what was told", told.as_bytes()), ("bodies", &bodies), ("the audit", audit.as_bytes())]
            {
                assert!(
                    !text.windows(form.len()).any(|window| window == form.as_bytes()),
                    "{key} shows in {place} as {form}"
                );
            }
        }
    }
    assert!(!status.to_string().contains(SESSION), "what stands in a request is scrubbed from the reply");
}
