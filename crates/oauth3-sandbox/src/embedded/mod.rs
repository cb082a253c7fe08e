//! The embedded JavaScript and TypeScript runtime: `QuickJS` with the parts of Deno, Node and the web platform that
//! skills use. It runs inside the sandboxed process, after the lock-down, so nothing in here is a security border.
//!
//! - [`script`]: TypeScript to JavaScript, positions for stack traces
//! - [`modules`]: imports among the files of the skill, and the refusal of all others
//! - [`engine`]: the event loop
//! - [`natives`], [`data`], [`net`]: what the JavaScript prelude in `js/` calls

mod data;
mod engine;
mod modules;
mod natives;
mod net;
mod output;
mod raw;
mod script;
#[cfg(test)]
mod tests;
mod timers;

use oauth3_core::ProxyKey;
use output::Output;
use std::collections::BTreeMap;

/// Stack of the thread that parses and runs the code, in bytes. The parser recurses without a check of its own.
const THREAD_STACK_BYTES: usize = 16 << 20;

/// Exit code for code that failed: an uncaught error, a syntax error, a limit.
const EXIT_FAILED: i32 = 1;

/// One program to run.
#[derive(Debug)]
pub(crate) struct EmbeddedJob {
    /// The skill's files by their paths below `/skill`. What is imported is source text in UTF-8, JavaScript or
    /// TypeScript, always read as an ES module, or JSON.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// The path of the file that runs.
    pub(crate) entry: String,
    /// The environment that the code sees. The environment of this process is never shown to it.
    pub(crate) env: Vec<(String, String)>,
    /// Port on 127.0.0.1 where the egress takes absolute-form HTTP requests.
    pub(crate) proxy_port: u16,
    /// The key that the egress wants, where it listens on a shared loopback.
    pub(crate) proxy_key: Option<ProxyKey>,
    /// Limit of the JavaScript heap, in bytes.
    pub(crate) memory_bytes: u64,
}

/// Runs `job` with output to file descriptors 1 and 2 and returns the exit code. Bad code never makes it panic.
pub(crate) fn run(job: EmbeddedJob) -> i32 {
    run_with(|| Some(job), Output::standard())
}

/// [`run`] of a job that comes later: everything that does not depend on it is done before it is waited for. `take` is
/// called once, on the thread of the engine; without a job nothing runs.
pub(crate) fn run_when_told(take: impl FnOnce() -> Option<EmbeddedJob> + Send + 'static) -> i32 {
    run_with(
        move || {
            engine::warm_up();
            take()
        },
        Output::standard(),
    )
}

/// [`run_when_told`] with output to anywhere. Memory of the engine is left to the end of the process on purpose: taking
/// a large heap apart object by object would only delay the result.
fn run_with(take: impl FnOnce() -> Option<EmbeddedJob> + Send + 'static, output: Output) -> i32 {
    let emergency = output.clone();
    let thread = std::thread::Builder::new().name("skill".to_owned()).stack_size(THREAD_STACK_BYTES);
    match thread.spawn(move || engine::run(take, output)).map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        Ok(Err(_)) => {
            emergency.error_line("error: the embedded runtime failed; use runtime deno or node for this code");
            EXIT_FAILED
        }
        Err(error) => {
            emergency.error_line(&format!("error: no thread for the embedded runtime: {error}"));
            EXIT_FAILED
        }
    }
}
