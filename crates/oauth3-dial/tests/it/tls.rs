//! What is dialled and whom to believe.

use crate::server::{Answer, Authority, Server, dialer};
use oauth3_core::Host;
use oauth3_dial::{DialConfig, DialError, Dialer, Protocols};

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

#[tokio::test]
async fn a_mapped_name_with_a_good_certificate_connects_and_agrees_on_a_protocol() {
    let authority = Authority::new("test");
    let server = Server::tls(&authority, "api.openai.com", vec![Answer::Silence, Answer::Silence]).await;
    let dialer = dialer("api.openai.com", &server, Some(&authority));
    for (protocols, agreed) in [(Protocols::Any, &b"h2"[..]), (Protocols::Http1, b"http/1.1")] {
        let stream = dialer.connect_tls(&host("api.openai.com"), protocols).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(agreed));
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new("test");
    let server = Server::tls(&authority, "other.example.com", vec![Answer::Silence]).await;
    let dialer = dialer("api.openai.com", &server, Some(&authority));
    let error = dialer.connect_tls(&host("api.openai.com"), Protocols::Any).await.unwrap_err();
    assert_eq!(error.to_string(), "api.openai.com: the certificate is for another name");
}

#[tokio::test]
async fn an_unknown_authority_is_refused() {
    let (mine, theirs) = (Authority::new("mine"), Authority::new("theirs"));
    let server = Server::tls(&theirs, "api.openai.com", vec![Answer::Silence]).await;
    for trusted in [None, Some(&mine)] {
        let error = dialer("api.openai.com", &server, trusted)
            .connect_tls(&host("api.openai.com"), Protocols::Any)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("unknown authority"), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_this_machine_is_refused_unless_listed() {
    let authority = Authority::new("test");
    let server = Server::tls(&authority, "localhost", vec![Answer::Silence]).await;
    let target = host(&format!("localhost:{}", server.address.port()));
    let config = || DialConfig { extra_ca: vec![authority.pem.clone().into_bytes()], ..DialConfig::default() };

    let refused = Dialer::new(config()).unwrap().connect_tls(&target, Protocols::Any).await.unwrap_err();
    assert_eq!(refused, DialError::NotPublic("localhost".into()));
    assert_eq!(server.connections(), 0, "nothing is dialled before the check");

    let listed = DialConfig { allow_private: ["localhost".into()].into(), ..config() };
    assert!(Dialer::new(listed).unwrap().connect_tls(&target, Protocols::Any).await.is_ok());
}

#[tokio::test]
async fn a_second_connection_resumes_the_session() {
    let authority = Authority::new("test");
    let reply = Answer::text("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let server = Server::tls(&authority, "api.openai.com", vec![reply]).await;
    let dialer = dialer("api.openai.com", &server, Some(&authority));
    for expected in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let mut stream = dialer.connect_tls(&host("api.openai.com"), Protocols::Any).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        // The ticket comes after the handshake, before the first bytes of the reply.
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
    }
}
