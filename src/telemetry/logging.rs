//! The program's log on standard error. Each entry is one line: control characters
//! are escaped.

use std::io::Write as _;

use super::{dates, escaped};
use crate::clock;

/// Starts logging. `RUST_LOG` selects what is logged; the default is `info`.
pub fn init() {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        // The verifier logs every rejected certificate as an error at every poll.
        // The poller logs it once, with the target's name.
        .filter_module("rustls_platform_verifier", log::LevelFilter::Off)
        // Storage reports its engine's errors, with the directory and what follows.
        .filter_module("fjall", log::LevelFilter::Off)
        .filter_module("lsm_tree", log::LevelFilter::Off)
        .format(|out, record| {
            let style = out.default_level_style(record.level());
            let time = dates::second(clock::wall());
            let (level, target) = (record.level(), record.target());
            let message = record.args().to_string();
            let message = escaped(&message);
            writeln!(
                out,
                "[{time} {style}{level:<5}{style:#} {target}] {message}"
            )
        })
        .init();
}
