//! The names that a sandbox may ask for.

use crate::upstream::{text, whole};
use crate::world::World;
use tokio::net::UdpSocket;

pub async fn ask(world: &World, name: &str) -> Vec<u8> {
    let mut query = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(world.dns).await.unwrap();
    socket.send(&query).await.unwrap();
    let mut reply = vec![0; 512];
    let length = socket.recv(&mut reply).await.unwrap();
    reply.truncate(length);
    reply
}

#[tokio::test]
async fn allowed_names_have_the_addresses_that_the_sandbox_expects() {
    let world = World::new(whole(|_, _| text("ok"))).await;
    for (index, name) in ["api.test", "other.test"].into_iter().enumerate() {
        let reply = ask(&world, name).await;
        assert_eq!(reply[reply.len() - 4..], oauth3_core::synthetic_address(index).octets());
    }
    let reply = ask(&world, "evil.test").await;
    assert_eq!((reply[3] & 0xf, reply[7]), (3, 0));
    let sentences = world.egress.close().await;
    assert_eq!(sentences, ["evil.test: this name is not allowed for this run and does not resolve"]);
}
