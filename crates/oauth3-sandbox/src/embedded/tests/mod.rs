//! What programs see: their output, their exit code, their requests.

mod files;
mod network;
mod programs;
mod script;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::output::Output;
use super::{EmbeddedJob, run_with};

/// Heap limit of the programs here, in bytes.
const MEMORY_BYTES: u64 = 64 << 20;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a program ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn job(source: &str) -> EmbeddedJob {
    job_of(&[("main.ts", source.as_bytes())])
}

/// Several files, of which the first one runs.
fn job_of(files: &[(&str, &[u8])]) -> EmbeddedJob {
    EmbeddedJob {
        files: files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect(),
        entry: files.first().map(|(path, _)| (*path).to_owned()).unwrap_or_default(),
        env: vec![("OPENAI_API_KEY".to_owned(), "sk-placeholder".to_owned())],
        // Nothing listens on port 1.
        proxy_port: 1,
        proxy_key: None,
        memory_bytes: MEMORY_BYTES,
    }
}

fn run_job(job: EmbeddedJob) -> Ran {
    let (out, err) = (Memory::default(), Memory::default());
    let code = run_with(job, Output::new(out.clone(), err.clone()));
    Ran { code, out: out.text(), err: err.text() }
}

fn run(source: &str) -> Ran {
    run_job(job(source))
}
