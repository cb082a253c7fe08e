//! Why a connection ended.

/// What ended a connection between gateway and keeper.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other side hung up in the middle of a frame, or the system failed.
    #[error("the socket failed: {0}")]
    Io(#[from] std::io::Error),
    /// A frame is larger than its bound.
    #[error("a frame of {0} bytes is too large")]
    TooLarge(u64),
    /// What came is no message of ours.
    #[error("junk on the socket: {0}")]
    Junk(&'static str),
}
