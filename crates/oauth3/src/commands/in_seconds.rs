//! Records of the store, as scripts see them.

use serde::Serialize;
use serde_json::Value;

/// A record as JSON whose times (`…_at`) are whole Unix seconds, like everywhere outside.
pub(crate) fn in_seconds(record: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    for (name, field) in value.as_object_mut().into_iter().flatten() {
        if let Some(millis) = field.as_i64().filter(|_| name.ends_with("_at")) {
            *field = millis.div_euclid(1000).into();
        }
    }
    value
}
