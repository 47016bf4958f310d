//! `/webhooks`: the last notifications.

use bytes::Bytes;
use hyper::StatusCode;
use maud::html;
use url::form_urlencoded;

use super::families::begin_of_body;
use super::shell::{Tab, pager};
use super::show::{self, count, sent};
use super::{Page, PageResult};
use crate::clock::Now;
use crate::http::query;
use crate::http::request::Request;
use crate::telemetry::clip;

/// The number of webhooks on a page.
const PAGE: usize = 100;

/// The limit of a body on a page, in bytes.
const MAX_BODY: usize = 1000;

/// A webhook as pages show it.
#[derive(Debug, Clone)]
pub struct ShownWebhook {
    /// When it arrived.
    pub at: Now,
    /// Its kind.
    pub kind: &'static str,
    /// The receiver; can be empty.
    pub receiver: String,
    /// Its status.
    pub status: &'static str,
    /// The names of its alerts, on one line.
    pub alerts: String,
    /// The sender.
    pub peer: String,
    /// The size of its body as sent, in bytes.
    pub bytes: usize,
    /// The body as one line of JSON, without secrets; `None` if it was not kept.
    pub body: Option<Bytes>,
}

impl Page {
    pub(super) async fn webhooks(&self, request: &Request) -> PageResult {
        let bad = |problem: &str| {
            let problem = clip(problem.trim_end());
            self.shell
                .failure(request, StatusCode::BAD_REQUEST, &problem)
        };
        let value = |name| query::value(request.query(), name).unwrap_or_default();
        let page: usize = match value("page").as_str() {
            "" => 1,
            text => match text.parse() {
                Ok(page) if page > 0 => page,
                _ => {
                    return Err(bad(&format!(
                        "page must be a whole number from 1, not {text:?}"
                    )));
                }
            },
        };
        let (read, asked) = (self.webhooks.clone(), filled_in(request.query()));
        let webhooks = self.on_pool(request, move || read(&asked)).await?;
        let webhooks = webhooks.map_err(|problem| bad(&problem))?;
        let total = webhooks.len();
        let begin = (page - 1).saturating_mul(PAGE);
        let shown: Vec<ShownWebhook> = webhooks.into_iter().skip(begin).take(PAGE).collect();
        let (kind, status) = (value("kind"), value("status"));
        let (alertname, receiver) = (value("alertname"), value("receiver"));
        let is_all = [&kind, &status, &alertname, &receiver]
            .iter()
            .all(|it| it.is_empty());
        let link = |page: usize| {
            let page = if page > 1 {
                page.to_string()
            } else {
                String::new()
            };
            let parameters = [
                ("kind", kind.as_str()),
                ("status", &status),
                ("alertname", &alertname),
                ("receiver", &receiver),
                ("page", &page),
            ];
            self.shell.link_with("/webhooks", &parameters)
        };
        let now = Now::read();
        let options = |name: &'static str, words: &[&str], is: &str| {
            html! {
                select name=(name) {
                    option value="" { "all" }
                    @for word in words { option value=(word) selected[*word == is] { (word) } }
                }
            }
        };
        let content = html! {
            div.title {
                h1 { "Webhooks" }
                p.summary { (count(total as u64)) @if is_all { " kept" } @else { " match" } }
            }
            @if shown.is_empty() && is_all && page == 1 {
                p.empty {
                    "No webhooks yet. Alertmanager and others send them to " code { (self.shell.link("/webhook")) }
                    ", " code { (self.shell.link("/slack")) } " and " code { (self.shell.link("/pagerduty")) } "."
                }
            } @else {
                form.filters method="get" action=(self.shell.link("/webhooks")) role="search" {
                    label { span { "Kind" } (options("kind", &["webhook", "slack", "pagerduty"], &kind)) }
                    label { span { "Status" } (options("status", &["firing", "acknowledged", "resolved", "unknown"], &status)) }
                    label.search { span { "Alert" } input type="search" name="alertname" value=(alertname) autocomplete="off" spellcheck="false"; }
                    label.search { span { "Receiver" } input type="search" name="receiver" value=(receiver) autocomplete="off" spellcheck="false"; }
                    button { "Show" }
                }
                @if shown.is_empty() {
                    p.empty { "No webhook matches. " a href=(self.shell.link("/webhooks")) { "Show all" } }
                } @else {
                    table.lines.webhooks {
                        thead { tr {
                            th.age scope="col" { "Age" }
                            th.state scope="col" { "Status" }
                            th.name scope="col" { "Alerts" }
                            th.kind scope="col" { "Kind" }
                            th.receiver scope="col" { "Receiver" }
                            th.from scope="col" { "From" }
                            th.size scope="col" { "Size" }
                        } }
                        tbody {
                            @for webhook in &shown {
                                tr {
                                    td.age { (show::age(webhook.at, now)) }
                                    td.state { span class={ "state " (webhook.status) } { (webhook.status) } }
                                    td.name {
                                        @match &webhook.body {
                                            Some(body) => details {
                                                summary { (alerts(webhook)) }
                                                pre tabindex="0" { (sent(&begin_of_body(body, MAX_BODY))) }
                                            },
                                            None => (alerts(webhook)),
                                        }
                                    }
                                    td.kind { (webhook.kind) }
                                    td.receiver { (or_dash(&webhook.receiver)) }
                                    td.from { (webhook.peer) }
                                    td.size { (show::bytes(webhook.bytes)) }
                                }
                            }
                        }
                    }
                    (pager((page, shown.len(), total), PAGE, link))
                }
            }
        };
        Ok(self.shell.page(
            request,
            StatusCode::OK,
            (Tab::Webhooks, "Webhooks"),
            &content,
        ))
    }
}

/// The parameters of a form that have values.
fn filled_in(text: &str) -> String {
    let pairs = form_urlencoded::parse(text.as_bytes()).filter(|(_, value)| !value.is_empty());
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

fn alerts(webhook: &ShownWebhook) -> String {
    or_dash(&webhook.alerts)
}

fn or_dash(text: &str) -> String {
    match text {
        "" => "–".to_owned(),
        text => clip(text),
    }
}
