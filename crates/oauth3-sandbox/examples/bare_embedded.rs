//! Runs a file in the embedded runtime in this very process, without any sandbox: what a sandboxed run is measured
//! beside. `bare_embedded FILE`. Never part of the product.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measuring tool, made of the module itself"
)]

#[path = "../src/embedded/mod.rs"]
mod embedded;

fn main() {
    let code = std::fs::read(std::env::args_os().nth(1).expect("a file")).unwrap();
    let (files, entry) = ([("main.ts".to_owned(), code)].into(), "main.ts".to_owned());
    let job = embedded::EmbeddedJob {
        files,
        entry,
        env: Vec::new(),
        proxy_port: 1,
        proxy_key: None,
        memory_bytes: 256 << 20,
    };
    std::process::exit(embedded::run(job));
}
