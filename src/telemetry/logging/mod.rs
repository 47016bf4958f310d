//! The program's log on standard error. Each entry is one line: control characters
//! are escaped.

pub mod config;
mod json;

use std::io::{self, Write as _};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use env_logger::fmt::Formatter;
use env_logger::{Builder, Env, Logger};
use log::{LevelFilter, Log, Metadata, Record};

use self::config::{Config, Format};
use super::{dates, escaped};
use crate::clock;

/// The logger of the process, with the settings in use.
static LOGGER: OnceLock<Current> = OnceLock::new();

/// Starts logging. `RUST_LOG` selects what is logged, otherwise `log.level`.
///
/// # Panics
///
/// Something else in this process already logs.
pub fn init(config: &Config) {
    let (logger, level) = logger(config);
    let current = LOGGER.get_or_init(|| Current(ArcSwap::from_pointee(logger)));
    log::set_logger(current).expect("the program starts logging once");
    log::set_max_level(level);
}

/// Applies changed settings. If the log belongs to an embedding program, nothing changes.
pub fn apply(config: &Config) {
    if let Some(current) = LOGGER.get() {
        let (logger, level) = logger(config);
        current.0.store(Arc::new(logger));
        log::set_max_level(level);
    }
}

/// A logger that a reload replaces.
struct Current(ArcSwap<Logger>);

impl Log for Current {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.load().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.0.load().log(record);
    }

    fn flush(&self) {
        self.0.load().flush();
    }
}

/// The logger for these settings, and the highest level that it logs.
fn logger(config: &Config) -> (Logger, LevelFilter) {
    let format = match config.format {
        Format::Text => write_text,
        Format::Json => write_json,
    };
    let logger = Builder::from_env(Env::default().default_filter_or(&*config.level))
        // The verifier logs every rejected certificate as an error at every poll.
        // The poller logs it once, with the target's name.
        .filter_module("rustls_platform_verifier", LevelFilter::Off)
        // The profiler logs the begin and end of each profile.
        .filter_module("pprof", LevelFilter::Off)
        // Storage itself reports its engine's errors, with the directory and the consequences.
        .filter_module("fjall", LevelFilter::Off)
        .filter_module("lsm_tree", LevelFilter::Off)
        .format(format)
        .build();
    let level = logger.filter();
    (logger, level)
}

fn write_text(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let style = out.default_level_style(record.level());
    let time = dates::second(clock::wall());
    let (level, target) = (record.level(), record.target());
    let message = record.args().to_string();
    let message = escaped(&message);
    writeln!(
        out,
        "[{time} {style}{level:<5}{style:#} {target}] {message}"
    )
}

fn write_json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    json::write(out, &dates::rfc3339(clock::wall()), record)
}
