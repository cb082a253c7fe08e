//! Signatures and tokens that are made where the key is.

use crate::client::{get, send};
use crate::world::{API, NOW, World, keeping, used};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, UnparsedPublicKey};
use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use http::Request;
use http_body_util::Full;
use oauth3_core::{HmacEncoding, HmacOver, JwtAlgorithm, Kind, Slot, Uses, UsesChange};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};

const KEY: &str = "whsec_0123456789abcdef0123456789abcdef";

fn kind(kind: Kind, slots: &[Slot]) -> Uses {
    let slots = Some(slots.iter().copied().collect());
    Uses::default().changed(&UsesChange { kind: Some(kind), slots, ..UsesChange::default() })
}

fn hmac_of(over: HmacOver, encoding: HmacEncoding, slot: Slot) -> Uses {
    kind(Kind::HmacSha256 { over, encoding, timestamp_header: "x-timestamp".into() }, &[slot])
}

fn tag(text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes()), text.as_bytes()).as_ref().to_vec()
}

fn post(target: &str, fields: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let request = Request::post(target).header("host", API);
    fields.iter().fold(request, |request, (n, v)| request.header(*n, *v)).body(Full::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn bodies_are_signed_as_they_go_out() {
    let (handler, bodies) = keeping();
    let world = World::lent(handler, used(KEY, hmac_of(HmacOver::Body, HmacEncoding::Hex, Slot::Header)), true).await;
    let field = format!("sha256={}", world.placeholder);
    assert_eq!(send(&world, post("/hook", &[("x-signature", &field)], "{\"a\":1}")).await.status, 200);
    let got = &world.upstream.received()[0];
    assert_eq!(got.headers["x-signature"], format!("sha256={}", HEXLOWER.encode(&tag("{\"a\":1}"))).as_str());
    assert_eq!(got.headers["content-length"], "7");
    assert_eq!(bodies.lock().unwrap()[0], "{\"a\":1}");
    assert_eq!(world.seen.uses(), [("KEY".into(), "api.test".into())]);
}

#[tokio::test]
async fn a_time_is_signed_with_the_body_and_is_a_time() {
    let uses = hmac_of(HmacOver::TimestampBody, HmacEncoding::Base64, Slot::Header);
    let world = World::lent(keeping().0, used(KEY, uses), true).await;
    let signature = world.placeholder.as_str();
    send(&world, post("/", &[("x-signature", signature)], "b")).await;
    send(&world, post("/", &[("x-signature", signature), ("x-timestamp", "17")], "b")).await;
    let received = world.upstream.received();
    let now = NOW.unix_seconds().to_string();
    assert_eq!(received[0].headers["x-timestamp"], now.as_str());
    assert_eq!(received[0].headers["x-signature"], BASE64.encode(&tag(&format!("{now}.b"))).as_str());
    assert_eq!(received[1].headers["x-signature"], BASE64.encode(&tag("17.b")).as_str());
    let trick = post("/", &[("x-signature", signature), ("x-timestamp", "17.b")], "c");
    send(&world, trick).await.refused(400, "a time in digits");
}

#[tokio::test]
async fn a_query_is_signed_without_its_signature() {
    let uses = hmac_of(HmacOver::Query, HmacEncoding::Hex, Slot::Query);
    let world = World::lent(keeping().0, used(KEY, uses), true).await;
    send(&world, get(API, &format!("/order?symbol=A%2FB&signature={}&t=1", world.placeholder), &[])).await;
    let signature = HEXLOWER.encode(&tag("symbol=A%2FB&t=1"));
    assert_eq!(world.upstream.received()[0].line, format!("GET /order?symbol=A%2FB&signature={signature}&t=1"));
}

#[tokio::test]
async fn a_jwt_is_fresh_signed_and_scrubbed() {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let secret = "0123456789abcdef0123456789abcdef";
    for (algorithm, value) in [
        (JwtAlgorithm::Rs256, rsa.serialize_pem()),
        (JwtAlgorithm::Es256, ec.serialize_pem()),
        (JwtAlgorithm::Hs256, secret.to_owned()),
    ] {
        let claims = [("iss".to_owned(), "12345".to_owned())].into();
        let uses = kind(Kind::Jwt { algorithm, claims, lifetime_seconds: 540 }, &[Slot::Header]);
        let reflecting =
            crate::upstream::whole(|head, _| crate::upstream::text(head.headers["authorization"].as_bytes().to_vec()));
        let world = World::lent(reflecting, used(&value, uses), true).await;
        let bearer = format!("Bearer {}", world.placeholder);
        let reply = send(&world, get(API, "/app", &[("authorization", &bearer)])).await;
        let field = world.upstream.received()[0].headers["authorization"].to_str().unwrap().to_owned();
        let token = field.strip_prefix("Bearer ").unwrap();
        assert_ne!(token, world.placeholder);
        assert_eq!(reply.text(), bearer, "what was made is scrubbed like a value");

        let (signed, mac) = token.rsplit_once('.').unwrap();
        let mac = BASE64URL_NOPAD.decode(mac.as_bytes()).unwrap();
        let (head, claims) = signed.split_once('.').unwrap();
        let json = |part: &str| {
            serde_json::from_slice::<serde_json::Value>(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
        };
        assert_eq!(json(head), serde_json::json!({ "alg": algorithm.as_str(), "typ": "JWT" }));
        let now = NOW.unix_seconds();
        assert_eq!(json(claims), serde_json::json!({ "iat": now - 60, "exp": now + 540, "iss": "12345" }));
        match algorithm {
            JwtAlgorithm::Rs256 => {
                let key = UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, rsa.public_key_raw());
                key.verify(signed.as_bytes(), &mac).unwrap();
            }
            JwtAlgorithm::Es256 => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, ec.public_key_raw());
                key.verify(signed.as_bytes(), &mac).unwrap();
            }
            JwtAlgorithm::Hs256 => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                hmac::verify(&key, signed.as_bytes(), &mac).unwrap();
            }
        }
    }
}
