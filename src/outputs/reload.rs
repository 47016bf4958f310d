//! `/-/reload`: reads the configuration again.

use std::sync::Arc;

use hyper::StatusCode;

use crate::context::{Context, Reloads};
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http::router::{Role, Route};
use crate::telemetry::sender_log::{self, About, LogEvent};

/// The output `/-/reload`.
#[derive(Debug)]
pub struct Reload(Reloads);

impl Reload {
    /// Creates the output.
    pub fn new(context: &Context) -> Arc<Self> {
        Arc::new(Reload(context.reloads.clone()))
    }

    /// The route of the output.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let reload = Route::write(
            "reload",
            "PUT, POST",
            "/-/reload",
            "",
            self,
            |it, request| Box::pin(it.reload(request)),
        );
        vec![reload.role(Role::Admin).without_storage()]
    }

    /// Waits for a reload, and says what it changed or why it was refused.
    async fn reload(&self, request: &Request) -> Reply {
        let peer = request.peer;
        let about = About::peer(peer);
        sender_log::write(
            LogEvent::Removal,
            about,
            format_args!("{peer} asks for a reload"),
        );
        match self.0.request().await {
            Ok(report) => reply::text(StatusCode::OK, format!("{report}\n")),
            Err(problem) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                reply::text(status, format!("{problem}\n"))
            }
        }
    }
}
