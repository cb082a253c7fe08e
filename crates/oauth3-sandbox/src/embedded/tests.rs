//! What programs see: their output, their exit code.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::output::Output;
use super::{EmbeddedJob, run_with};

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn run_at(port: u16, source: &str) -> Ran {
    let (out, err) = (Memory::default(), Memory::default());
    let job = EmbeddedJob {
        code: source.as_bytes().to_vec(),
        env: vec![("OPENAI_API_KEY".to_owned(), "sk-placeholder".to_owned())],
        proxy_port: port,
        memory_bytes: 64 << 20,
    };
    let code = run_with(job, Output::new(out.clone(), err.clone()));
    let text = |memory: Memory| String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    Ran { code, out: text(out), err: text(err) }
}

#[test]
fn probe() {
    let Ok(path) = std::env::var("EMBEDDED_PROBE") else { return };
    let started = std::time::Instant::now();
    let ran = run_at(3128, &std::fs::read_to_string(path).unwrap());
    eprintln!("{}\n--- stderr\n{}\n--- exit {} in {:?}", ran.out, ran.err, ran.code, started.elapsed());
}
