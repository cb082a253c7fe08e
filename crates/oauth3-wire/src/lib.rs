//! The socket between gateway and keeper: frames, file descriptors, typed messages.
