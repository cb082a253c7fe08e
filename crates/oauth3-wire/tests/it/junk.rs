//! Bytes that are no message end the connection, and nothing else.

use super::keeper::Scripted;
use oauth3_core::{Fault, Keeper};
use oauth3_wire::{GatewaySide, MAX_CALL_BYTES, MAX_REPLY_BYTES, Role, serve};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

fn frame(json: &str, raw: &[u8], fds: u32) -> Vec<u8> {
    let len = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    [&len(json.len())[..], &len(raw.len()), &fds.to_le_bytes(), json.as_bytes(), raw].concat()
}

/// Sends these bytes to a keeper; returns what it says before it hangs up.
async fn sent(bytes: &[u8]) -> (Vec<u8>, Vec<String>) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let keeper = Arc::new(Scripted::default());
    let served = tokio::spawn(serve(theirs, Role::Gateway, keeper.clone()));
    ours.write_all(bytes).await.unwrap();
    ours.shutdown().await.unwrap();
    let mut said = Vec::new();
    // The keeper may reset a connection with bytes that it did not read.
    let _ = ours.read_to_end(&mut said).await;
    served.await.unwrap();
    (said, keeper.seen())
}

#[tokio::test]
async fn junk_reaches_no_handler() {
    let over = u32::try_from(MAX_CALL_BYTES + 1).unwrap();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 12],
        vec![0xff; 64],
        b"\x01".to_vec(),
        [&over.to_le_bytes()[..], &[0; 8]].concat(),
        frame("{}", b"", 0),
        frame("null", b"", 0),
        frame(r#"{"number":1,"body":"shutdown"}"#, b"", 0),
        frame(r#"{"number":-1,"body":"ping"}"#, b"", 0),
        frame(r#"{"number":1,"body":"ping","more":1}"#, b"", 0),
        frame(r#"{"number":1,"body":"ping"}"#, b"", 1),
        frame(r#"{"number":1,"body":"ping"}"#, b"", 0)[..20].to_vec(),
        frame(r#"{"number":1,"body":{"open_run":{"id":"req_a","listeners":[]}}}"#, b"", 0),
        frame(r#"{"number":1,"body":{"close_run":{"id":"../x","then":[]}}}"#, b"", 0),
        frame(&"[".repeat(100_000), b"", 0),
    ] {
        let (said, seen) = sent(&bytes).await;
        assert!(seen.is_empty() && said.is_empty(), "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)]));
    }
    // The same with nothing wrong, so that the list above means something.
    let (said, seen) = sent(&frame(r#"{"number":1,"body":"ping"}"#, b"", 0)).await;
    assert_eq!(seen, ["ping"]);
    assert!(said.ends_with(br#"{"number":1,"body":"done"}"#));
}

#[tokio::test]
async fn any_cut_of_a_good_stream_ends_quietly() {
    let good = frame(r#"{"number":1,"body":"ping"}"#, b"", 0);
    for cut in 0..good.len() {
        assert!(sent(&good[..cut]).await.1.is_empty(), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_keeper_that_talks_junk_counts_as_gone() {
    let over = u32::try_from(MAX_REPLY_BYTES + 1).unwrap();
    for bytes in [b"hello, gateway".to_vec(), [&over.to_le_bytes()[..], &[0; 8]].concat(), frame("{}", b"", 0)] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let gateway = GatewaySide::new(ours);
        theirs.write_all(&bytes).await.unwrap();
        gateway.closed().await;
        assert!(matches!(gateway.ping().await, Err(Fault::Unavailable(_))));
    }
    // An answer to another call than any that waits is passed over; one of another kind is a fault.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let gateway = GatewaySide::new(ours);
    let keeper = async {
        let mut call = [0; 12];
        theirs.read_exact(&mut call).await.unwrap();
        theirs.write_all(&frame(r#"{"number":99,"body":"done"}"#, b"", 0)).await.unwrap();
        theirs.write_all(&frame(r#"{"number":1,"body":{"chain":{"rows":1,"fault":null}}}"#, b"", 0)).await.unwrap();
    };
    let (answer, ()) = tokio::join!(gateway.ping(), keeper);
    assert_eq!(answer, Err(Fault::Unavailable("the keeper answered something else".into())));
}
