//! A proxy on a loopback that others share.

use crate::client::raw;
use crate::upstream::{text, whole};
use crate::world::{KEY_OF_THE_PROXY, World};
use tokio::net::TcpStream;

/// Any program of the machine can connect; only the run's own requests bring the key.
#[tokio::test]
async fn without_the_runs_key_a_shared_proxy_does_nothing() {
    let world = World::new(whole(|_, _| text("ok"))).await;
    let ask = async |field: &str| {
        let request = format!("GET https://api.test/ HTTP/1.1\r\nHost: api.test\r\n{field}Connection: close\r\n\r\n");
        raw(TcpStream::connect(world.keyed).await.unwrap(), &request).await
    };
    let own = KEY_OF_THE_PROXY.authorization();
    let other = oauth3_core::ProxyKey::new([9; 16]).authorization();
    for field in ["", "Proxy-Authorization: Basic cnVuOg==\r\n", &format!("Proxy-Authorization: {other}\r\n")] {
        let reply = ask(field).await;
        assert!(reply.starts_with("HTTP/1.1 407 ") && reply.contains("proxy-authenticate: Basic"), "{reply}");
    }
    let connect = "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nConnection: close\r\n\r\n";
    let reply = raw(TcpStream::connect(world.keyed).await.unwrap(), connect).await;
    assert!(reply.starts_with("HTTP/1.1 407 "), "{reply}");
    assert_eq!(world.upstream.connections(), 0);

    let reply = ask(&format!("Proxy-Authorization: {own}\r\n")).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    // The key stays here.
    let seen = format!("{:?}", world.upstream.received());
    assert!(!seen.to_ascii_lowercase().contains("proxy-authorization"), "{seen}");
}
