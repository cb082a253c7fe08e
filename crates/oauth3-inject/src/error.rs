//! What can go wrong while the egress is opened.

/// Why a run's egress could not be opened. Then nothing runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// A lease was handed over that the permit does not name.
    #[error("the permit does not cover the secret {0}")]
    NotPermitted(String),
    /// A lease without a usable placeholder, or two with the same.
    #[error("the placeholder of {0} cannot be told apart from other text")]
    Placeholder(String),
    /// The run's certificate authority could not be made.
    #[error("the run's certificate authority cannot be made: {0}")]
    Authority(String),
    /// A socket could not be served.
    #[error("a listener of the sandbox cannot be served: {0}")]
    Listener(#[source] std::io::Error),
    /// It was called from outside an async runtime.
    #[error("the egress must be opened inside a tokio runtime")]
    NoRuntime,
}
