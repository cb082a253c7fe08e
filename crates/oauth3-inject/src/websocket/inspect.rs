//! What is done to the payloads of each direction.

use super::frame::Fault;
use super::pipe::Inspect;
use crate::marks::Scan;
use crate::rules::Bar;
use crate::run::Run;
use oauth3_core::Host;
use oauth3_vault::{ScrubStream, Scrubber};
use std::sync::Arc;

/// From the code to the host: a placeholder whose secret is not bound to the host ends the connection. The others
/// pass as they are: nothing is filled into frames.
pub(crate) struct Watching {
    run: Arc<Run>,
    host: Host,
    /// Goes on across messages, so that cutting a placeholder in two hides nothing. `None` when every secret of
    /// the run is bound to the host.
    scan: Option<Scan>,
}

impl Watching {
    pub(crate) fn new(run: &Arc<Run>, host: &Host) -> Self {
        let held = run.held();
        let scan = (0..held.leases.len()).any(|index| !held.bound(index, host)).then(|| run.marks.scan());
        Self { run: Arc::clone(run), host: host.clone(), scan }
    }

    fn check(run: &Arc<Run>, host: &Host, scan: &mut Scan, piece: &[u8]) -> Result<(), Fault> {
        let held = run.held();
        match held.marks.seen(scan, piece, |index| !held.bound(index, host)) {
            Some(index) => {
                run.note_refusal(&run.barred(index, Bar::Unbound, host));
                Err(Fault::Policy)
            }
            None => Ok(()),
        }
    }
}

impl Inspect for Watching {
    fn data(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if let Some(scan) = self.scan.as_mut() {
            Self::check(&self.run, &self.host, scan, piece)?;
        }
        out.extend_from_slice(piece);
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) -> Result<(), Fault> {
        Ok(())
    }

    fn control(&mut self, payload: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(scan) = &self.scan else { return Ok(()) };
        // By itself, and as what goes on from the message that it interrupts.
        Self::check(&self.run, &self.host, &mut self.run.marks.scan(), payload)?;
        Self::check(&self.run, &self.host, &mut scan.clone(), payload)
    }
}

/// Lets everything pass as it is: what has no placeholders has none to watch.
pub(crate) struct Passing;

impl Inspect for Passing {
    fn data(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        out.extend_from_slice(piece);
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) -> Result<(), Fault> {
        Ok(())
    }

    fn control(&mut self, _: &mut Vec<u8>) -> Result<(), Fault> {
        Ok(())
    }
}

/// From the host: values become placeholders again, across the fragments of a message.
pub(crate) struct Scrubbing<F> {
    /// Makes what finds every value that there is by now; `None` when there is no secret.
    newest: Option<F>,
    message: Option<ScrubStream>,
}

impl<F: Fn() -> Scrubber> Scrubbing<F> {
    pub(crate) fn new(newest: Option<F>) -> Self {
        Self { newest, message: None }
    }
}

impl<F: Fn() -> Scrubber> Inspect for Scrubbing<F> {
    fn data(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        match &self.newest {
            Some(newest) => self.message.get_or_insert_with(|| newest().stream()).push(piece, out),
            None => out.extend_from_slice(piece),
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        if let Some(message) = self.message.take() {
            message.finish(out);
        }
        Ok(())
    }

    fn control(&mut self, payload: &mut Vec<u8>) -> Result<(), Fault> {
        if let Some(newest) = &self.newest {
            *payload = newest().scrub(payload);
        }
        Ok(())
    }
}
