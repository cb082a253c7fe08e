//! The binary: subcommands, configuration, wiring, nothing else.
fn main() {}
