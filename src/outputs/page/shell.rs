//! The parts that all pages share: head, navigation, policy, style and script.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ring::digest;

use super::show::url_text;
use crate::http::reply::{self, Reply};
use crate::http::reply_body::ReplyBody;
use crate::http::request::Request;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A drop in a circle: three streams into one.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M2 3l6 5-6 5M2 8h12' fill='none' stroke='%232563c9' stroke-width='2'/%3E%3C/svg%3E";

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");

/// The pages of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Status,
    Sources,
    Aggregated,
    Webhooks,
    Settings,
}

impl Tab {
    const ALL: [Tab; 5] = [
        Tab::Status,
        Tab::Sources,
        Tab::Aggregated,
        Tab::Webhooks,
        Tab::Settings,
    ];

    fn title(self) -> &'static str {
        match self {
            Tab::Status => "Status",
            Tab::Sources => "Sources",
            Tab::Aggregated => "Aggregated",
            Tab::Webhooks => "Webhooks",
            Tab::Settings => "Settings",
        }
    }

    /// Whether the page is only on the listener for pushes.
    fn is_for_push_listener(self) -> bool {
        matches!(self, Tab::Webhooks | Tab::Settings)
    }

    fn path(self) -> &'static str {
        match self {
            Tab::Status => "/",
            Tab::Sources => "/apps",
            Tab::Aggregated => "/aggregated",
            Tab::Webhooks => "/webhooks",
            Tab::Settings => "/settings",
        }
    }
}

/// The frame of the pages.
#[derive(Debug, Clone)]
pub struct Shell {
    /// The prefix of paths in links, without a slash at the end.
    prefix: Arc<str>,
    /// Whether browsers use HTTPS.
    is_secure: bool,
}

/// The Content-Security-Policy: the style and the script of the page by their hashes, forms to
/// this server, and nothing else.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| {
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        format!("'sha256-{}'", STANDARD.encode(digest))
    };
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).expect("base64 and words make a header")
});

impl Shell {
    /// A frame whose links begin with `prefix`.
    pub fn new(prefix: &str, is_secure: bool) -> Self {
        Shell {
            prefix: Arc::from(prefix),
            is_secure,
        }
    }

    /// A path of this server, as browsers see it.
    pub fn link(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The path of cookies.
    pub fn cookie_path(&self) -> String {
        format!("{}/", self.prefix)
    }

    /// Whether browsers use HTTPS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Renders a page.
    pub fn page(
        &self,
        request: &Request,
        status: StatusCode,
        (tab, title): (Tab, &str),
        content: &Markup,
    ) -> Reply {
        let accepts_pushes = request.server.accepts_pushes;
        let tabs = Tab::ALL
            .into_iter()
            .filter(|tab| accepts_pushes || !tab.is_for_push_listener());
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · exporter-proxy" }
                    link rel="icon" href=(PreEscaped(ICON));
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    a.skip href="#content" { "Skip to content" }
                    header.top {
                        a.home href=(self.link("/")) { "exporter-proxy" }
                        nav aria-label="Pages" {
                            @for one in tabs {
                                a href=(self.link(one.path())) aria-current=[(one == tab).then_some("page")] {
                                    (one.title())
                                }
                            }
                        }
                        span #refresh {}
                    }
                    main #content tabindex="-1" { (content) }
                    footer {
                        "exporter-proxy " (env!("CARGO_PKG_VERSION"))
                        span { a href=(self.link("/metrics")) { "metrics" } }
                    }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        let body = ReplyBody::from(Bytes::from(page.into_string()));
        with_policy(reply::reply(status, HTML, body))
    }

    /// Renders a page that says what is wrong.
    pub fn failure(&self, request: &Request, status: StatusCode, problem: &str) -> Reply {
        let title = status.canonical_reason().unwrap_or("Error");
        let content = html! {
            h1 { (title) }
            p.problem { (problem) }
            p { a href=(self.link("/")) { "Back to the status" } }
        };
        self.page(request, status, (Tab::Status, title), &content)
    }

    /// A link to a view of a list with another parameter.
    pub fn link_with(&self, path: &str, parameters: &[(&str, &str)]) -> String {
        let mut link = self.link(path);
        let set = parameters.iter().filter(|(_, value)| !value.is_empty());
        for (place, (name, value)) in set.enumerate() {
            link.push(if place == 0 { '?' } else { '&' });
            link.push_str(name);
            link.push('=');
            link.push_str(&url_text(value));
        }
        link
    }
}

/// Adds the headers that every page has.
fn with_policy(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    let fixed = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Without a referrer, browsers would not send the origin with forms.
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
        (VARY, "Accept"),
        (PERMISSIONS, "camera=(), geolocation=(), microphone=()"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    reply
}

/// The links between the pages of a list.
pub fn pager(
    (page, shown, total): (usize, usize, usize),
    size: usize,
    link: impl Fn(usize) -> String,
) -> Markup {
    let first = (page - 1) * size;
    let last = first + shown;
    html! {
        nav.pager aria-label="Pages of the list" {
            @if shown > 0 {
                span { (super::show::count(first as u64 + 1)) "–" (super::show::count(last as u64)) " of " (super::show::count(total as u64)) }
            }
            @if page > 1 { a href=(link(page - 1)) rel="prev" { "Previous" } }
            @if last < total { a href=(link(page + 1)) rel="next" { "Next" } }
        }
    }
}
