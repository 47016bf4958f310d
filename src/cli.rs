//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    version,
    about = "Collects metrics from programs that Prometheus cannot reach, and serves them all on one port.",
    after_help = "Every setting can be overridden by a variable EXPORTER_PROXY_<TABLE>_<KEY>, such as\n\
                  EXPORTER_PROXY_RECEIVER_FORMAT=json. What is logged is set by RUST_LOG (default: info).\n\
                  Exit codes: 0 stopped when told, 1 could not start, 2 bad command line, 78 bad configuration."
)]
pub struct Cli {
    /// The configuration file [default: ./config.toml, if it is there]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve (the default)
    Run,
    /// Check the configuration, and say all that is wrong with it
    CheckConfig,
    /// Print the settings that hold, as TOML, with secrets masked
    PrintConfig,
}
