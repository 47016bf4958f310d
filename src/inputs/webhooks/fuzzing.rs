//! Properties of notifications, for tests and `fuzz/`.

use serde_json::Value;

use super::notification::{Notification, WebhookKind};
use crate::redact::{redact_json, redact_text};

/// A notification. One pass redacts all secrets in JSON, and the notification is bounded,
/// however long the body is.
pub fn webhook(body: &[u8]) {
    redact_text(&String::from_utf8_lossy(body));
    let Ok(mut json) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    redact_json(&mut json);
    let once = json.clone();
    redact_json(&mut json);
    assert_eq!(json, once);
    for kind in WebhookKind::ALL {
        assert!(Notification::of(kind, &json).size() <= 64 << 10);
    }
}
