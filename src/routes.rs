//! The one table of routes: every input and output that is served over HTTP. The
//! first pattern that matches counts, so pushes come before the pages whose paths
//! they share.

use crate::config::Config;
use crate::context::Context;
use crate::http::router::Route;
use crate::inputs::aggregate::Aggregate;
use crate::inputs::push::Push;
use crate::inputs::values::Endpoints as Values;
use crate::inputs::webhooks::Webhooks;
use crate::outputs::api::Api;
use crate::outputs::apps::Apps;
use crate::outputs::echo::Echo;
use crate::outputs::metrics::Metrics;
use crate::outputs::status::Status;

/// All routes, in order. Each line is one input or output; its folder has the
/// patterns, methods, parameters and roles.
pub fn all(config: &Config, context: &Context) -> Vec<Route> {
    let (exporter, push) = (&config.exporter, &config.push);
    let metrics = Metrics::new(exporter.own_metrics, exporter.process_metrics, context);
    [
        Aggregate::new(push.groups.mode, push.groups.enable_utf8_names, context).routes(),
        Push::new(&push.groups, context).routes(),
        Values::new(context).routes(),
        Webhooks::new(&push.webhooks, context).routes(),
        metrics.routes(),
        Apps::new(&metrics, context).routes(),
        Api::new(push, push.groups.enable_admin_api, context).routes(),
        Status::new(context).routes(),
        Echo::routes(),
    ]
    .concat()
}
