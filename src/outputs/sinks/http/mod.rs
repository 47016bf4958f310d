//! HTTP requests of sinks: the parts that all such sinks share.
//!
//! A sink builds the body of a request and judges the answer. This module reads the settings of
//! the server, sends the request, and translates the status:
//!
//! | Answer | Items |
//! | --- | --- |
//! | 2xx | are taken |
//! | 400, 405, 406, 409 to 412, 414 to 424, 431, 451 | are refused permanently |
//! | 413 | are sent again in smaller batches; a single item that is too large is refused |
//! | none; 3xx, 401 to 404, 407, 408, 425, 429, 5xx | are sent again, after `Retry-After` if it is given |
//!
//! 401, 403 and 404 come from wrong settings, which can be corrected while the items wait.

mod client;
mod config;

#[cfg(test)]
mod tests;

pub use client::{Answer, HttpClient, content_type};
pub use config::{HttpSettings, ServerTls, ServerUrl};
