//! Stands in for the oauth3 executable in tests and measurements: becomes a part of a sandbox and nothing else.

fn main() {
    std::env::args_os().nth(1).as_deref().into_iter().for_each(oauth3_sandbox::become_helper);
}
