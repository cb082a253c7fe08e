//! Runner backends and runtimes; the only crate where unsafe is allowed.
