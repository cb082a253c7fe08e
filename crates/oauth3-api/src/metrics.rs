//! Sums and states for a monitoring system, in Prometheus' text format (version 0.0.4).

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use oauth3_core::{ApiId, Fault, OwnerPort, Tally};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

const TEXT: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];

/// Serves [`metrics`] at `/metrics`, to whoever reaches the address: it has names, sums and costs, and no secret.
pub fn metrics_router(port: Arc<dyn OwnerPort>) -> Router {
    Router::new().route("/metrics", get(answer)).with_state(port)
}

async fn answer(State(port): State<Arc<dyn OwnerPort>>) -> Response {
    match metrics(&*port).await {
        Ok(text) => (TEXT, text).into_response(),
        Err(fault) => (StatusCode::SERVICE_UNAVAILABLE, fault.to_string()).into_response(),
    }
}

/// What agents used of APIs, by agent, API and model, since the beginning; what waits and runs now.
///
/// # Errors
/// When the store does not answer.
pub async fn metrics(port: &dyn OwnerPort) -> Result<String, Fault> {
    let mut sums: BTreeMap<String, Tally> = BTreeMap::new();
    for row in port.usage(0).await? {
        let labels = format!(
            "agent=\"{}\",provider=\"{}\",model=\"{}\"",
            escaped(row.agent.as_str()),
            escaped(provider(&row.api)),
            escaped(&row.model)
        );
        sums.entry(labels).or_default().add(&row.tally);
    }
    let overview = port.overview().await?;
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, String)>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP oauth3_{name} {help}\n# TYPE oauth3_{name} {kind}");
        for (labels, value) in lines {
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            let _ = writeln!(text, "oauth3_{name}{labels} {value}");
        }
    };
    let each = |value: &dyn Fn(&Tally) -> String| -> Vec<(String, String)> {
        sums.iter().map(|(labels, tally)| (labels.clone(), value(tally))).collect()
    };
    family("api_calls_total", "counter", "Calls of APIs that have ended.", each(&|t| t.calls.to_string()));
    family("api_failures_total", "counter", "Those that failed.", each(&|t| t.failed.to_string()));
    let mut tokens = Vec::new();
    for (labels, tally) in &sums {
        tokens.push((format!("{labels},direction=\"in\""), tally.tokens_in.to_string()));
        tokens.push((format!("{labels},direction=\"out\""), tally.tokens_out.to_string()));
    }
    family("api_tokens_total", "counter", "Tokens of models, as far as they are known.", tokens);
    let cost = each(&|t| t.usd.dollars().to_string());
    family("api_cost_dollars_total", "counter", "What they cost by the price table, in US dollars.", cost);
    let seconds = each(&|t| format!("{}.{:03}", t.millis / 1000, t.millis % 1000));
    family("api_duration_seconds_total", "counter", "Time from the calls' beginning to their end.", seconds);
    for (name, help, value) in [
        ("requests_pending", "Requests that wait for the owner or for a secret.", overview.open_requests),
        ("runs", "Runs that go on.", overview.running),
        ("kill_switch", "1: everything is denied.", usize::from(overview.kill_switch)),
    ] {
        family(name, "gauge", help, vec![(String::new(), value.to_string())]);
    }
    Ok(text)
}

/// The name of a provider; a connection, which could have the same one, as its address has it.
fn provider(api: &ApiId) -> &str {
    if api.is_provider() { api.name() } else { api.as_str() }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
