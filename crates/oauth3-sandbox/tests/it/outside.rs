//! Failing closed: what happens when the sandbox cannot be made.

use crate::support::*;
use oauth3_core::{Fault, Runner, Runtime};
use oauth3_sandbox::{NativeConfig, NativeRunner};

#[tokio::test]
async fn a_missing_helper_is_refused_at_once() {
    let error = NativeRunner::new(NativeConfig { helper: "/nonexistent/oauth3".into(), ..config() }).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/oauth3"));
}

#[tokio::test]
async fn a_helper_that_is_something_else_makes_no_sandbox() {
    for program in ["/bin/true", "/bin/cat", "/etc/hosts"] {
        let runner = NativeRunner::new(NativeConfig { helper: program.into(), ..config() }).unwrap();
        let fault = runner.prepare(spec(Runtime::Embedded)).await.err().unwrap();
        assert!(matches!(&fault, Fault::Unavailable(text) if text.contains("helper")), "{program}: {fault:?}");
    }
}
