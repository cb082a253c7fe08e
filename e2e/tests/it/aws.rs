//! A sign-in at AWS IAM Identity Center: credentials of a role for SDKs in the sandbox, renewed while code runs, and for
//! calls at the proxy. botocore asks for them, signs with them, and judges what arrives.

use crate::clients::with_packages_of;
use crate::signing::{aws_signature, second_opinion};
use e2e::{Agent, Seen, Serve, Standin, World};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const OIDC: &str = "oidc.eu-central-1.amazonaws.com";
const PORTAL: &str = "portal.sso.eu-central-1.amazonaws.com";
const STS: &str = "sts.eu-central-1.amazonaws.com";
const SESSION_TOKEN: &str = "sso-access-C4n4ry~token";

/// botocore as it is, with nothing but what leads it to the endpoint.
const CODE: &str = r"
import http.client, json
variables = {name: value for name, value in os.environ.items() if name.startswith('AWS_')}
print(sorted(variables))
for name in variables:
    if 'CONTAINER' not in name: del os.environ[name]
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ContainerProvider
credentials = ContainerProvider().load()
def who():
    request = AWSRequest('GET', 'https://sts.eu-central-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15')
    SigV4Auth(credentials.get_frozen_credentials(), 'sts', 'eu-central-1').add_auth(request)
    host = http.client.HTTPSConnection('sts.eu-central-1.amazonaws.com')
    host.request('GET', '/?Action=GetCallerIdentity&Version=2011-06-15', headers=dict(request.headers.items()))
    reply = host.getresponse()
    text = reply.read().decode()
    assert reply.status == 200, text
    return json.loads(text)['keys']
while who() < 2: pass
# What is refreshed when its time has come is asked for once more.
before = credentials.get_frozen_credentials()
credentials._protected_refresh(is_mandatory=True)
assert credentials.get_frozen_credentials() == before
print(before.access_key == variables['AWS_ACCESS_KEY_ID'], before.token == variables['AWS_SESSION_TOKEN'], who())
from botocore.utils import ContainerMetadataFetcher
try: ContainerMetadataFetcher(sleep=lambda s: None).retrieve_full_uri(variables['AWS_CONTAINER_CREDENTIALS_FULL_URI'], {'Authorization': 'guessed'})
except Exception as error: print('403' in str(error))
";

/// The Identity Center, and an API that knows each key that was ever given out. Credentials of a role last `lifetime`.
struct Aws {
    standin: Standin,
    given: Arc<AtomicUsize>,
    lifetime: Arc<AtomicI64>,
}

fn access_key(number: usize) -> (String, String) {
    (format!("ASIAC4N4RYKEY{number:07}"), format!("wJalr{number}UtnFEMI/K7MDENG+bPxRfiCYC4N4RYKEY"))
}

fn json_reply(body: &Value) -> Response<Full<Bytes>> {
    Response::builder().header("content-type", "application/json").body(Full::from(body.to_string())).unwrap()
}

impl Aws {
    async fn start() -> Self {
        let (given, lifetime) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicI64::new(3600)));
        let (counted, lasts, keys) = (given.clone(), lifetime.clone(), Mutex::new(BTreeSet::new()));
        let standin = Standin::start_for(&[OIDC, PORTAL, STS], move |seen| {
            let path = seen.target.split('?').next().unwrap_or_default();
            match (seen.header("host"), path) {
                (Some(OIDC), "/client/register") => json_reply(
                    &json!({ "clientId": "registered", "clientSecret": "client-C4n4ry", "clientSecretExpiresAt": 4_102_444_800_i64 }),
                ),
                (Some(OIDC), "/device_authorization") => json_reply(&json!({
                    "deviceCode": "device-C4n4ry", "userCode": "ABCD-EFGH", "expiresIn": 600, "interval": 1,
                    "verificationUri": "https://device.sso.eu-central-1.amazonaws.com/",
                    "verificationUriComplete": "https://device.sso.eu-central-1.amazonaws.com/?user_code=ABCD-EFGH" })),
                (Some(OIDC), "/token") => json_reply(&json!({
                    "accessToken": SESSION_TOKEN, "refreshToken": "refresh-C4n4ry", "tokenType": "Bearer", "expiresIn": 28800 })),
                (Some(PORTAL), "/federation/credentials") => {
                    assert_eq!(seen.header("x-amz-sso_bearer_token"), Some(SESSION_TOKEN));
                    let (id, secret) = access_key(counted.fetch_add(1, Ordering::SeqCst));
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                    let end = now + Duration::from_secs(lasts.load(Ordering::SeqCst).unsigned_abs());
                    json_reply(&json!({ "roleCredentials": {
                        "accessKeyId": id, "secretAccessKey": secret, "sessionToken": format!("session-{id}"),
                        "expiration": i64::try_from(end.as_millis()).unwrap() } }))
                }
                (Some(STS), _) => {
                    let mut keys = keys.lock().unwrap();
                    keys.extend(credential(seen));
                    // It reflects what it got, as AWS does when a signature does not match.
                    json_reply(&json!({ "keys": keys.len(), "got": seen.headers }))
                }
                _ => Response::builder().status(404).body(Full::default()).unwrap(),
            }
        })
        .await;
        Self { standin, given, lifetime }
    }

    /// What reached the API.
    fn calls(&self) -> Vec<Seen> {
        self.standin.seen().into_iter().filter(|seen| seen.header("host") == Some(STS)).collect()
    }
}

/// The key id of a request.
fn credential(seen: &Seen) -> Option<String> {
    Some(seen.header("authorization")?.split_once("Credential=")?.1.split_once('/')?.0.to_owned())
}

/// A gateway with somebody signed in to `cloud`.
async fn ready(aws: &Aws) -> (World, Serve, Agent) {
    let (world, token) = World::ready("").await;
    world.write_config(&aws.standin.egress(world.home()));
    let done = world.cli(&add(&["--host", STS])).await;
    assert_eq!(done.code(), 0, "{done:?}");
    let serve = world.serve().await;
    let login = world.cli(&["login", "cloud"]).await;
    assert_eq!(login.code(), 0, "{login:?}");
    let agent = Agent::new(&serve.base, &token);
    (world, serve, agent)
}

fn add<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let start = ["--start-url", "https://example.awsapps.com/start", "--region", "eu-central-1"];
    let role = ["--account-id", "123456789012", "--role-name", "ReadOnly"];
    [&["connection", "add", "cloud", "--provider", "aws"], &start[..], &role, more].concat()
}

/// Each request is signed with the secret that belongs to its key id.
fn assert_signed(calls: &[Seen]) {
    let asked = |seen: &Seen| {
        let id = credential(seen).unwrap();
        let number = id.strip_prefix("ASIAC4N4RYKEY").unwrap_or_else(|| panic!("{seen:?}")).parse().unwrap();
        let session = format!("session-{id}");
        assert_eq!(seen.header("x-amz-security-token"), Some(&*session), "{seen:?}");
        json!({ "key": format!("{id}:{}", access_key(number).1), "session": session, "method": seen.method,
                "url": format!("https://{STS}{}", seen.target), "body": seen.body,
                "headers": seen.headers.iter().cloned().collect::<BTreeMap<_, _>>() })
    };
    let questions: Vec<Value> = calls.iter().map(asked).collect();
    let said = second_opinion(&json!({ "aws": questions, "jwt": [], "hmac": [] }));
    for (seen, botocore) in calls.iter().zip(said["aws"].as_array().unwrap()) {
        assert_eq!(aws_signature(seen), botocore, "{seen:?}");
    }
}

/// No value of all that was given out is in a text.
fn assert_nothing_shows(aws: &Aws, text: &str) {
    for number in 0..aws.given.load(Ordering::SeqCst) {
        let (id, secret) = access_key(number);
        assert!(!text.contains(&id) && !text.contains(&secret), "{id} shows: {text}");
    }
    for secret in [SESSION_TOKEN, "refresh-C4n4ry", "device-C4n4ry", "client-C4n4ry"] {
        assert!(!text.contains(secret), "{secret} shows: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn botocore_gets_credentials_in_the_sandbox_and_they_are_renewed_while_it_runs() {
    let aws = Aws::start().await;
    aws.lifetime.store(3, Ordering::SeqCst);
    let (world, serve, agent) = ready(&aws).await;
    let packages = ["botocore", "dateutil", "jmespath", "urllib3", "six"];
    let code = with_packages_of("OAUTH3_TEST_SIGNING", &packages, CODE);
    let metadata = json!({ "secrets": ["connection:cloud"], "network": [STS], "runtime": "python", "timeout": 60 });
    let id = agent.submit(&code, metadata).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status}\n{}", serve.log());
    let stdout = status["result"]["stdout"].as_str().unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    for name in ["'AWS_CONTAINER_AUTHORIZATION_TOKEN'", "'AWS_CONTAINER_CREDENTIALS_FULL_URI'", "'AWS_ACCESS_KEY_ID'"] {
        assert!(lines[0].contains(name), "{name}: {stdout}");
    }
    assert!(lines[1].starts_with("True True "), "the same placeholders as in the variables: {stdout}");
    assert_eq!(lines[2], "True", "whoever does not bring the token gets nothing: {stdout}");
    let calls = aws.calls();
    assert!(calls.iter().filter_map(credential).collect::<BTreeSet<_>>().len() >= 2, "{calls:?}");
    assert_signed(&calls);
    assert_nothing_shows(&aws, &status.to_string());
    assert_nothing_shows(&aws, &serve.log());
    assert_nothing_shows(&aws, &world.cli(&["audit", "export"]).await.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_at_aws_signs_at_the_proxy_for_the_service_that_its_host_names() {
    let aws = Aws::start().await;
    let (world, serve, agent) = ready(&aws).await;
    assert_eq!(world.cli(&["connection", "grant", "cloud", "--agent", "agent"]).await.code(), 0);
    let proxy = agent.at(&serve.proxy);
    let path = "/api/cloud/?Action=GetCallerIdentity&Version=2011-06-15";
    let reply = proxy.send(Method::GET, path, None).await;
    let (status, text) = (reply.status(), reply.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    assert_nothing_shows(&aws, &text);
    let calls = aws.calls();
    assert!(calls[0].header("authorization").unwrap().contains("/eu-central-1/sts/aws4_request"), "{calls:?}");
    assert_signed(&calls);

    for host in ["iam.amazonaws.com", "sts.example.com"] {
        let done = world.cli(&add(&["--host", host])).await;
        assert!(done.code() == 2 && done.stderr.contains("--in sigv4:SERVICE:REGION"), "{done:?}");
    }
    let done = world.cli(&add(&["--host", "iam.amazonaws.com", "--in", "sigv4:iam:us-east-1"])).await;
    assert_eq!(done.code(), 0, "{done:?}");
}
