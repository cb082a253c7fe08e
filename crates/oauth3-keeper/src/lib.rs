//! The keeper process: its socket protocol, hardening, wiring of vault, inject and store.
