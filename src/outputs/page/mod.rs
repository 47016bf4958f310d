//! Pages for browsers: the status of the proxy, its sources, aggregated families, webhooks
//! and settings, and a few actions.
//!
//! Pages are made on the server, and work without scripts. Their style and script are inline,
//! and their Content-Security-Policy allows no others. Everything that senders wrote is escaped.
//!
//! | Module | What it does |
//! | --- | --- |
//! | [`shell`] | the parts that all pages share: head, navigation, policy, style, script |
//! | [`show`] | times, sizes, counts, states, bars |
//! | [`overview`] | `/`: state, inputs, limits, sinks, rejections |
//! | [`attention`], [`issue`] | current problems |
//! | [`discoveries`] | where targets are found, on `/` |
//! | [`sources`] | `/apps`: apps, targets and groups |
//! | [`source`], [`families`] | `/apps/{name}`: one of them, and what it exposes |
//! | [`aggregated`] | `/aggregated`: aggregated families |
//! | [`webhooks`] | `/webhooks`: the last notifications |
//! | [`settings`] | `/settings`: settings and where they are written |
//! | [`actions`], [`token`] | `/-/action`: changes, protected against other sites |
//!
//! Where a path has another reply for other clients, its page is a separate route, which applies
//! if the client prefers a page.

mod actions;
mod aggregated;
mod attention;
mod discoveries;
mod families;
mod issue;
mod overview;
mod settings;
mod shell;
mod show;
mod source;
mod sources;
mod token;
mod webhooks;

use std::fmt;
use std::sync::Arc;

use hyper::Method;
use hyper::http::request::Parts;

use crate::context::Context;
use crate::http::query;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::http::router::{ANY_PARAMETER, Condition, Role, Route};
use crate::telemetry::sender_log;
pub use settings::SettingsInUse;
pub use shell::Shell;
pub use token::TokenKey;
pub use webhooks::ShownWebhook;

/// Reads the webhooks that a query asks for, newest first.
pub type ReadWebhooks = Arc<dyn Fn(&str) -> Result<Vec<ShownWebhook>, String> + Send + Sync>;

/// The output of pages.
pub struct Page {
    context: Context,
    shell: Shell,
    settings: SettingsInUse,
    webhooks: ReadWebhooks,
    token_key: Arc<TokenKey>,
}

/// An input that the status names, whether it is on or off.
#[derive(Debug, Clone)]
pub struct ShownInput {
    /// The name of the input, for people.
    pub title: &'static str,
    /// The setting of its address.
    pub setting: &'static str,
    /// The addresses, as configured; none if the input is off.
    pub addresses: Vec<String>,
    /// Its connections, if it has any.
    pub listener: Option<crate::telemetry::ListenerName>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

/// Both variants are pages; an error page says what is wrong.
type PageResult = Result<Reply, Reply>;

impl Page {
    /// Creates the output.
    pub fn new(
        shell: Shell,
        settings: SettingsInUse,
        webhooks: ReadWebhooks,
        token_key: &Arc<TokenKey>,
        context: &Context,
    ) -> Arc<Self> {
        Arc::new(Page {
            context: context.clone(),
            shell,
            settings,
            webhooks,
            token_key: Arc::clone(token_key),
        })
    }

    /// The routes of the output. They come before the routes for other clients.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let page: Condition = Arc::new(|head: &Parts, _: &str| is_for_page(head));
        let page = |route: Route| route.when("page", Arc::clone(&page));
        vec![
            page(Route::read(
                "page_status",
                "/",
                ANY_PARAMETER,
                self,
                |it, request| {
                    Box::pin(async { it.overview(request).await.unwrap_or_else(|it| it) })
                },
            )),
            page(Route::read(
                "page_sources",
                "/apps",
                "wide format q kind state sort page done",
                self,
                |it, request| Box::pin(async { it.sources(request).await.unwrap_or_else(|it| it) }),
            )),
            page(Route::read(
                "page_source",
                "/apps/{name}",
                "kind after done",
                self,
                |it, request| Box::pin(async { it.source(request).await.unwrap_or_else(|it| it) }),
            )),
            page(
                Route::read(
                    "page_webhooks",
                    "/webhooks",
                    "kind alertname receiver status format page",
                    self,
                    |it, request| {
                        Box::pin(async { it.webhooks(request).await.unwrap_or_else(|it| it) })
                    },
                )
                .on_push_listener(),
            ),
            Route::read(
                "aggregated",
                "/aggregated",
                "format q kind sort page done",
                self,
                |it, request| {
                    Box::pin(async { it.aggregated(request).await.unwrap_or_else(|it| it) })
                },
            ),
            Route::read("settings", "/settings", "format q", self, |it, request| {
                Box::pin(async { it.settings(request) })
            })
            .on_push_listener(),
            Route::write("action", "POST", "/-/action", "", self, |it, request| {
                Box::pin(it.action(request))
            })
            .role(Role::Admin),
        ]
    }

    /// Runs work that goes through many items, off the threads that serve connections.
    async fn on_pool<T: Send + 'static>(
        &self,
        request: &Request,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Reply> {
        let done = request.server.pools.lists.run(work).await;
        done.map_err(|problem| {
            sender_log::internal_error(format_args!("a page cannot be made: {problem}"));
            self.shell.failure(
                request,
                hyper::StatusCode::INTERNAL_SERVER_ERROR,
                "The page cannot be made; the log has the cause.",
            )
        })
    }
}

/// Whether a browser requests a page.
fn is_for_page(head: &Parts) -> bool {
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    let text = head.uri.query().unwrap_or_default();
    reads && query::wants_page(text, &head.headers)
}
