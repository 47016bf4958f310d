//! `GET /debug/pprof/profile`: a CPU profile of the proxy, at the path that Go programs use.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CONTENT_DISPOSITION, HeaderValue};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http::router::{Role, Route};
use crate::profiler::{PROFILER, ProfileError};

/// The default length of a profile in seconds, as in Go.
const DEFAULT_SECONDS: u64 = 30;

/// Limit of the seconds of a profile.
const MAX_SECONDS: u64 = 300;

/// The output `/debug/pprof/profile`.
#[derive(Debug)]
pub struct CpuProfile {
    stop: CancellationToken,
}

impl CpuProfile {
    /// Creates the output.
    pub fn new(context: &Context) -> Arc<Self> {
        Arc::new(CpuProfile {
            stop: context.stop.clone(),
        })
    }

    /// The route of the output.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let profile = Route::read(
            "profile",
            "/debug/pprof/profile",
            "seconds",
            self,
            |it, request| Box::pin(it.profile(request)),
        );
        vec![profile.role(Role::Admin).on_push_listener().methods("GET")]
    }

    /// Records for the requested time, or until the program stops.
    async fn profile(&self, request: &Request) -> Reply {
        let seconds = match seconds(query::value(request.query(), "seconds").as_deref()) {
            Ok(seconds) => seconds,
            Err(problem) => return reply::bad_value(&problem),
        };
        let end = async {
            tokio::select! {
                () = sleep(Duration::from_secs(seconds)) => {}
                () = self.stop.cancelled() => {}
            }
        };
        match PROFILER.record(end).await {
            Ok(profile) => {
                let content_type = HeaderValue::from_static("application/octet-stream");
                let mut reply = reply::reply(StatusCode::OK, content_type, profile.body.into());
                let name = HeaderValue::from_static("attachment; filename=\"profile\"");
                reply.headers_mut().insert(CONTENT_DISPOSITION, name);
                reply
            }
            Err(problem) => {
                let status = match problem {
                    ProfileError::Busy => StatusCode::CONFLICT,
                    ProfileError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                reply::text(status, format!("{problem}\n"))
            }
        }
    }
}

/// The value of `seconds`.
fn seconds(written: Option<&str>) -> Result<u64, String> {
    let Some(written) = written else {
        return Ok(DEFAULT_SECONDS);
    };
    let seconds = written.parse().ok();
    seconds
        .filter(|seconds| (1..=MAX_SECONDS).contains(seconds))
        .ok_or_else(|| {
            format!("seconds must be a whole number from 1 to {MAX_SECONDS}, not {written:?}")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_profile_is_bounded() {
        assert_eq!(seconds(None), Ok(30));
        assert_eq!(seconds(Some("1")), Ok(1));
        assert_eq!(seconds(Some("300")), Ok(300));
        for wrong in ["0", "301", "-1", "1.5", "", "x"] {
            assert!(seconds(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
