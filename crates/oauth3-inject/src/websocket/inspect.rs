//! What is done to the payloads of each direction.

use super::frame::Fault;
use super::pipe::Inspect;
use crate::marks::Scan;
use crate::rules::Bar;
use crate::run::Run;
use oauth3_core::Host;
use oauth3_vault::ScrubStream;
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

/// From the host to the code: values become placeholders again, across the fragments of a message.
pub(crate) struct Scrubbing {
    /// `None` when the run has no secrets.
    run: Option<Arc<Run>>,
    message: Option<ScrubStream>,
}

impl Scrubbing {
    pub(crate) fn new(run: &Arc<Run>) -> Self {
        Self { run: (!run.leases.is_empty()).then(|| Arc::clone(run)), message: None }
    }
}

impl Inspect for Scrubbing {
    fn data(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        match &self.run {
            Some(run) => self.message.get_or_insert_with(|| run.scrubber().stream()).push(piece, out),
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
        if let Some(run) = &self.run {
            *payload = run.scrubber().scrub(payload);
        }
        Ok(())
    }
}
