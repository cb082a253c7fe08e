//! Every connection that leaves this machine: resolve, check, pin, TLS.
