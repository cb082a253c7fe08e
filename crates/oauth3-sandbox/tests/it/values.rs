//! Real values on their way to the code: through a pipe that was made inside, as its last step before it is the code.

use crate::support::*;
use oauth3_core::{ExitReason, LaneSpec, Limits, Runner, Runtime};
use oauth3_sandbox::{NativeConfig, NativeRunner};

const PRINT: &str =
    "console.log(JSON.stringify([Deno.env.get('KEY'), Deno.env.get('PEM'), Deno.env.get('SKILL_ARGS')]))";
const BLOCK: &[u8] = b"KEY=one=1\0PEM=-----\nline\n\0";

#[tokio::test(flavor = "multi_thread")]
async fn code_finds_them_in_its_environment() {
    let print = "import json, os\nprint(json.dumps([os.environ['KEY'], os.environ['PEM'], os.environ['SKILL_ARGS']], separators=(',', ':')))";
    for (runtime, code) in [(Runtime::Embedded, PRINT), (Runtime::Python, print)] {
        let lane = runner().prepare(spec(runtime)).await.unwrap();
        let outcome = finish_with(lane, job_with_values(code, &["KEY", "PEM"]), giving(BLOCK)).await;
        assert_eq!(outcome.stdout, "[\"one=1\",\"-----\\nline\\n\",\"{}\"]\n", "{runtime}: {outcome:?}");
    }
}

/// The waiting sandbox was made before anybody knew of values.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_waited_takes_them_too() {
    let runner = NativeRunner::new(NativeConfig { spare: true, ..config() }).unwrap();
    for _ in 0..3 {
        let lane = runner.prepare(spec(Runtime::Embedded)).await.unwrap();
        let outcome = finish_with(lane, job_with_values(PRINT, &["KEY", "PEM"]), giving(BLOCK)).await;
        assert!(outcome.stdout.starts_with("[\"one=1\""), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_long_ones_come_whole() {
    let code = "import os\nprint(sum(len(os.environ['K%d' % n]) for n in range(8)))";
    let names: Vec<String> = (0..8).map(|n| format!("K{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let block: String = names.iter().map(|name| format!("{name}={}\0", "x".repeat(65_000))).collect();
    let lane = runner().prepare(spec(Runtime::Python)).await.unwrap();
    let outcome = finish_with(lane, job_with_values(code, &names), giving(block.as_bytes())).await;
    assert_eq!(outcome.stdout, "520000\n", "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_exactly_what_was_announced_nothing_starts() {
    for block in [&b""[..], b"KEY=1\0", b"PEM=1\0KEY=2\0", b"KEY=1\0PEM=2", b"KEY=1\0PEM=2\0LD_PRELOAD=x\0"] {
        let lane = runner().prepare(spec(Runtime::Embedded)).await.unwrap();
        let outcome = finish_with(lane, job_with_values("console.log('ran')", &["KEY", "PEM"]), giving(block)).await;
        assert_eq!(outcome.exit.reason, ExitReason::NotStarted, "{block:?}: {outcome:?}");
        let error = outcome.exit.error.unwrap_or_default();
        assert!(error.contains("take the values") && outcome.stdout.is_empty(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_them_longer_than_the_run_may_take() {
    let limits = Limits { timeout_ms: 300, ..LIMITS };
    let lane = runner().prepare(LaneSpec { limits, ..spec(Runtime::Embedded) }).await.unwrap();
    let held = std::convert::identity;
    let outcome = finish_with(lane, job_with_values("console.log('ran')", &["KEY"]), held).await;
    assert_eq!((outcome.exit.reason, outcome.stdout.as_str()), (ExitReason::TimedOut, ""), "{outcome:?}");
}
