//! The official SDKs of models' APIs, in a Python of their own.

use crate::llm::APIS;
use crate::world::PATIENCE;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// A Python in which the real SDKs are.
pub struct Sdks {
    child: Child,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Sdks {
    /// `program` is a Python that has them; `variables` is the whole environment.
    pub fn start(program: &Path, variables: &[(String, String)]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/sdks.py");
        let mut command = Command::new(program);
        command.arg(script).env_clear().envs(variables.iter().cloned()).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, answers }
    }

    /// Makes calls; what came of each. No key is among it. Without a proxy the variables say where it is.
    pub async fn ask(&mut self, proxy: Option<&str>, token: &str, prompt: &str, calls: &[(&str, &str)]) -> Vec<Value> {
        let ask = json!({ "proxy": proxy, "token": token, "prompt": prompt, "calls": calls });
        self.child.stdin.as_mut().unwrap().write_all(format!("{ask}\n").as_bytes()).await.unwrap();
        let line = timeout(PATIENCE, self.answers.next_line()).await.expect("answers in time").unwrap();
        let line = line.expect("an answer");
        without_keys(&line);
        serde_json::from_str(&line).unwrap()
    }

    /// Ends it. No key is in what it wrote besides.
    pub async fn stop(mut self) {
        drop(self.child.stdin.take());
        let output = timeout(PATIENCE, self.child.wait_with_output()).await.expect("ends in time").unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        without_keys(&errors);
    }
}

/// Fails when a key of the stand-in is in it.
pub fn without_keys(text: &str) {
    for (provider, .., key) in APIS {
        assert!(!text.contains(key), "the key of {provider}: {text}");
    }
}
