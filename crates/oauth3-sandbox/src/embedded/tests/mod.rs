//! What programs see: their output, their exit code, their requests.

mod files;
mod network;
mod programs;
mod script;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    let code = run_with(|| Some(job), Output::new(out.clone(), err.clone()));
    Ran { code, out: out.text(), err: err.text() }
}

fn run(source: &str) -> Ran {
    run_job(job(source))
}

/// An engine may have waited for long when its program comes.
#[test]
fn the_clock_of_a_program_begins_with_it() {
    let (out, taken) = (Memory::default(), Arc::new(Mutex::new(None)));
    let (set, output) = (Arc::clone(&taken), Output::new(out.clone(), Memory::default()));
    let take = move || {
        std::thread::sleep(Duration::from_millis(300));
        *set.lock().unwrap() = Some(Instant::now());
        Some(job("console.log(performance.now() > 0, performance.now(), performance.timeOrigin > 0)"))
    };
    assert_eq!(run_with(take, output), 0);
    // Otherwise it would say more by what the engine waited.
    let most = taken.lock().unwrap().unwrap().elapsed();
    let text = out.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!((words[0], words[2]), ("true", "true"), "{text}");
    assert!(Duration::from_secs_f64(words[1].parse::<f64>().unwrap() / 1e3) <= most, "{text} {most:?}");
}

#[test]
fn without_a_program_nothing_runs() {
    let (out, err) = (Memory::default(), Memory::default());
    assert_ne!(run_with(|| None, Output::new(out.clone(), err.clone())), 0);
    assert_eq!((out.text(), err.text()), (String::new(), String::new()));
}
