//! What the doctor asks: does the engine answer, are the images there, does a whole container work.

use super::lane::Task;
use super::{DockerConfig, DockerRunner, PROGRAMS, TRIAL};
use crate::{ProbeLine, SandboxError};
use oauth3_core::{ExitReason, Job, Lane, LaneSpec, Runtime};
use std::fs::File;
use std::io::Read;

/// Bytes read of a runtime's version.
const MAX_VERSION_BYTES: u64 = 200;

/// Makes a real container of each image and asks each runtime in it for its version. Leaves running ones alone.
pub async fn probe_docker(config: DockerConfig) -> Vec<ProbeLine> {
    let runner = match DockerRunner::new(config).await {
        Ok(runner) => runner,
        Err(error) => return vec![failed("sandbox", &error)],
    };
    let engine = runner.shared.engine.describe().await;
    let runner = match runner.try_images().await {
        Ok(runner) => runner,
        Err(error) => return vec![failed("sandbox", &error)],
    };
    let line = |name: String, ok: bool, detail: String, mend: &str| {
        let mend = if ok { String::new() } else { mend.to_owned() };
        ProbeLine { name, ok, detail, mend }
    };
    let mut lines = vec![match engine {
        Ok(engine) => line("sandbox".to_owned(), true, format!("a container was made and entered by {engine}"), ""),
        Err(error) => failed("sandbox", &error),
    }];
    for (runtime, _) in PROGRAMS {
        let name = format!("runtime {runtime}");
        lines.push(match runner.image_of(runtime) {
            Err(_) => line(name, false, "in no image".to_owned(), "Set [docker] image to one that has it"),
            Ok(image) => match version(&runner, runtime, image).await {
                Ok(version) => line(name, true, version, ""),
                Err(error) => failed(&name, &error),
            },
        });
    }
    lines
}

async fn version(runner: &DockerRunner, runtime: Runtime, image: &str) -> Result<String, SandboxError> {
    let spec = LaneSpec { hosts: Vec::new(), limits: TRIAL, runtime };
    let (mut lane, _) = runner.make(spec, Task::Version, image).await?;
    let fds = lane.take_fds();
    let exit = Box::new(lane)
        .run(Job { code: Vec::new(), layer: Vec::new(), env: Vec::new(), revealed: Vec::new(), ca_pem: String::new() })
        .await;
    if let Some(error) = exit.error {
        return Err(SandboxError::Config(error));
    }
    let mut text = String::new();
    if let Ok(fds) = fds {
        let _ = File::from(fds.stdout).take(MAX_VERSION_BYTES).read_to_string(&mut text);
    }
    if exit.reason != ExitReason::Exited || exit.code != 0 {
        return Err(SandboxError::Config(format!("{runtime} did not start in the image {image}")));
    }
    Ok(format!("{} in {image}", text.lines().next().unwrap_or("no version")))
}

fn failed(name: &str, error: &SandboxError) -> ProbeLine {
    let mend = match error {
        SandboxError::Build { mend, .. } | SandboxError::Engine { mend, .. } => mend.clone(),
        _ => String::new(),
    };
    ProbeLine { name: name.to_owned(), ok: false, detail: error.to_string(), mend }
}
