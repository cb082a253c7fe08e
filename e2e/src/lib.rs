//! Tests from the outside: they spawn the real binary.
