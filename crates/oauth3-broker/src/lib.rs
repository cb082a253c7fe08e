//! The main path: submit, decide, ask, run, finish, wake; written against the ports.
