//! Stands in for the oauth3 executable in tests and measurements: answers `sandbox-init` and nothing else.

fn main() {
    oauth3_sandbox::init_main()
}
