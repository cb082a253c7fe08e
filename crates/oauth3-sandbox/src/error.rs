//! What can go wrong while a sandbox is made.

use oauth3_core::Fault;

/// Why a sandbox could not be made. Texts name the step and the mend, and are fit for whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A step of building failed. Nothing runs: there is no weaker way.
    #[error("the sandbox cannot be built: {step}: {cause}. {mend}")]
    Build {
        /// The step.
        step: String,
        /// The system's words.
        cause: String,
        /// What the owner can do.
        mend: String,
    },
    /// The helper process did not start or went away.
    #[error("the sandbox helper failed: {0}. Check that the oauth3 executable is in place and may be executed")]
    Helper(String),
    /// The runtime is not there.
    #[error("runtime {0} was not found; install it or set its path in the configuration")]
    NoRuntime(oauth3_core::Runtime),
    /// The container engine does not do what is needed.
    #[error("the container engine: {what} ({cause}). {mend}")]
    Engine {
        /// What is wrong.
        what: String,
        /// The engine's words.
        cause: String,
        /// What the owner can do.
        mend: String,
    },
    /// A program that was to run in a network of its own did not start.
    #[error("it cannot be started: {0}")]
    Start(std::io::Error),
    /// Every place is taken.
    #[error("too many sandboxes run at once; try again when one has ended")]
    Full,
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
}

impl From<SandboxError> for Fault {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::NoRuntime(_) => Self::UnknownRuntime(error.to_string()),
            SandboxError::Full => Self::RateLimited { text: error.to_string(), retry_after: 1 },
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
