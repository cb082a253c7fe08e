//! Hardening of the process, before there is anything in it to protect.

use crate::KeeperError;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior, set_parent_process_death_signal,
    setrlimit,
};
use rustix::thread::set_no_new_privs;

/// Most descriptors that the keeper asks for; each run takes some per host and per connection.
const MAX_DESCRIPTORS: u64 = 65_536;

/// Protects this process: other processes of the same user can neither trace it nor read its memory, it leaves no
/// core dump, gains no privileges, and dies with the thread that started it.
///
/// To be called before any thread is started; [`crate::run`] does it again before it reads the key, whatever its
/// caller did.
///
/// # Errors
/// When the system refuses one of them. Then the key must not be read.
pub fn harden() -> Result<(), KeeperError> {
    let failed = |what| move |e: rustix::io::Errno| KeeperError::Harden { what, source: e.into() };
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("forbid memory reads"))?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(failed("forbid core dumps"))?;
    set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("tie this process to its gateway"))?;
    // Only comfort: with fewer, runs with many hosts are refused sooner.
    let files = getrlimit(Resource::Nofile);
    let wanted = files.maximum.unwrap_or(MAX_DESCRIPTORS).min(MAX_DESCRIPTORS);
    if files.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: files.maximum });
    }
    Ok(())
}
