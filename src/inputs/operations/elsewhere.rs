//! Operations of metrics-server that are meant for other systems: logs,
//! documents, raw rows. The place for forwards to those systems; none is there
//! yet, and what would need one is refused.

use super::Fault;
use crate::reason::Reason;

/// Why an op that changes no metric is not done.
pub fn refuse(op: &str) -> Fault {
    let system = match op {
        "event" => "a log store",
        "index" => "a document store",
        "raw" => "a database",
        "" => return Fault::new(Reason::BadOperation, "the message has no op"),
        other => {
            let problem =
                format!("the op must be one of inc, set, add, obs, del, shutdown, not {other:?}");
            return Fault::new(Reason::BadOperation, problem);
        }
    };
    let problem = format!("op {op} is for {system}, and none can be set up here");
    Fault::new(Reason::Unsupported, problem)
}
