//! `/api/v1`: lists and removes pushed groups and aggregated series. It includes the API
//! of Pushgateway.
//!
//! - [`groups`]: lists and removes groups.
//! - [`metrics`]: lists groups with their metrics, as Pushgateway does.
//! - [`series`]: removes aggregated series.
//! - [`sinks`]: lists sinks and whether they work.
//! - [`targets`]: lists polled targets, as Prometheus does; [`discovery`]: lists everything for
//!   Prometheus to discover.

mod discovery;
mod groups;
mod metrics;
mod series;
mod sinks;
mod targets;

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http::router::{Errors, Pages, Role, Route};
use crate::store::Store;
use crate::telemetry::{PushMethod, Telemetry, dates};

/// The output `/api/v1`.
#[derive(Debug)]
pub struct Api {
    store: Arc<Store>,
    telemetry: Arc<Telemetry>,
    /// The settings of `[push]` by key.
    settings: Map<String, Value>,
    enable_admin: bool,
}

impl Api {
    /// Creates the output. `settings` are those of `[push]`, for `/api/v1/status`;
    /// `enable_admin` is `push.enable_admin_api`.
    pub fn new(settings: &impl Serialize, enable_admin: bool, context: &Context) -> Arc<Self> {
        let settings = match serde_json::to_value(settings) {
            Ok(Value::Object(settings)) => settings,
            _ => Map::new(),
        };
        Arc::new(Api {
            store: Arc::clone(&context.store),
            telemetry: Arc::clone(&context.telemetry),
            settings,
            enable_admin,
        })
    }

    /// The routes of the output.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        const GROUPS: &str = "/api/v1/groups";
        let read = |route: Route| {
            let route = route.on_push_listener().errors(Errors::Api);
            route.pages(Pages::Any)
        };
        let admin = |route: Route| route.role(Role::Admin).errors(Errors::Api);
        let mut routes = vec![
            read(Route::read(
                "api_metrics",
                "/api/v1/metrics",
                "",
                self,
                |api, request| Box::pin(metrics::list(&api.store, request)),
            )),
            read(Route::read(
                "api_status",
                "/api/v1/status",
                "",
                self,
                |api, request| Box::pin(async { api.status(request) }),
            )),
            Route::read("api_sinks", "/api/v1/sinks", "", self, |api, _| {
                Box::pin(async { sinks::list(&api.telemetry) })
            })
            .errors(Errors::Api),
            Route::read("api_sd", "/api/v1/sd", "kind*", self, |api, request| {
                Box::pin(discovery::list(&api.store, request))
            })
            .errors(Errors::Api),
            Route::read(
                "api_targets",
                "/api/v1/targets",
                "",
                self,
                |api, request| Box::pin(targets::list(&api.store, request)),
            )
            .errors(Errors::Api),
            read(Route::read(
                "api_groups",
                GROUPS,
                "match[]* match* older_than limit after",
                self,
                |api, request| Box::pin(groups::list(&api.store, request)),
            )),
            admin(Route::write(
                "api_groups",
                "DELETE",
                GROUPS,
                "match[]* match* older_than dry_run",
                self,
                |api, request| {
                    Box::pin(async {
                        let reply = groups::remove(&api.store, request).await;
                        request.count_by_status(reply)
                    })
                },
            ))
            .counted(PushMethod::DeleteGroups),
            admin(Route::write(
                "api_series",
                "DELETE",
                "/api/v1/series",
                "match[]* match* dry_run",
                self,
                |api, request| {
                    Box::pin(async {
                        let reply = series::remove(&api.store, request).await;
                        request.count_by_status(reply)
                    })
                },
            ))
            .counted(PushMethod::DeleteSeries),
        ];
        if self.enable_admin {
            let wipe = Route::write(
                "api_wipe",
                "PUT",
                "/api/v1/admin/wipe",
                "",
                self,
                |api, request| {
                    Box::pin(async {
                        let reply = groups::wipe(&api.store, request).await;
                        request.count_by_status(reply)
                    })
                },
            );
            routes.push(admin(wipe).counted(PushMethod::Wipe));
        }
        routes
    }

    /// `GET status`: the settings, by their names in Pushgateway and in `[push]`, and the
    /// build.
    fn status(&self, request: &Request) -> Reply {
        let setting = |key| self.settings.get(key).map(setting_text).unwrap_or_default();
        let mut flags = Map::new();
        for (name, value) in [
            ("web.listen-address", request.server.source.to_string()),
            ("web.telemetry-path", "/metrics".to_owned()),
            (
                "web.route-prefix",
                request.server.front.route_prefix.clone(),
            ),
            ("web.enable-admin-api", setting("enable_admin_api")),
            ("web.enable-lifecycle", setting("enable_lifecycle")),
            ("push.disable-consistency-check", "false".to_owned()),
            ("push.enable-utf8-names", setting("enable_utf8_names")),
            ("persistence.file", String::new()),
        ] {
            flags.insert(name.to_owned(), Value::String(value));
        }
        for (key, value) in &self.settings {
            flags.insert(format!("push.{key}"), Value::String(setting_text(value)));
        }
        reply::json(&json!({
            "status": "success",
            "data": {
                "flags": flags,
                "start_time": dates::rfc3339(self.telemetry.started.wall),
                "build_information": {
                    "version": env!("CARGO_PKG_VERSION"),
                    "revision": "",
                    "branch": "",
                    "buildUser": "",
                    "buildDate": "",
                    "goVersion": "",
                },
            },
        }))
    }
}

/// The value of a setting as text.
fn setting_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
