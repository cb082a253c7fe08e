//! `[metrics]`: an address at which a monitoring system reads what `oauth3 metrics` prints.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// `[metrics]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricsSection {
    /// Where it is, at `/metrics`, for whoever reaches that address; empty: nowhere.
    pub listen: String,
}

impl MetricsSection {
    /// The address; nothing when there is to be none.
    ///
    /// # Errors
    /// When it is no address.
    pub(crate) fn address(&self) -> Result<Option<SocketAddr>> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        self.listen.parse().map(Some).context("metrics.listen is an address such as 127.0.0.1:9737, or empty")
    }
}
