//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The arguments of the program.
#[derive(Debug, Parser)]
#[command(
    version,
    about = "Collects metrics from programs that Prometheus cannot reach, and serves them all on one port.",
    after_help = "An environment variable EXPORTER_PROXY_<TABLE>_<KEY> overrides a setting, such as\n\
                  EXPORTER_PROXY_RECEIVER_FORMAT=json. RUST_LOG sets the log level (default: info).\n\
                  Exit codes: 0 stopped on request, 1 could not start, 2 bad command line, 78 bad configuration;\n\
                  storage: 65 damaged, 66 not made by this program, 73 cannot be written, 74 failed,\n\
                  75 in use, 76 made by a newer version."
)]
pub struct Cli {
    /// The configuration file [default: ./config.toml, if it exists]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Reload the configuration when its file changes
    #[arg(long)]
    pub watch: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve (the default)
    Run,
    /// Check the configuration and report every error in it
    CheckConfig,
    /// Print the effective settings as TOML, with secrets redacted
    PrintConfig,
    /// Read a password from standard input and print its bcrypt hash, for
    /// basic_auth_users in web.config_file
    HashPassword,
    /// Look at stored state while no program uses it
    Storage {
        /// What to do.
        #[command(subcommand)]
        command: StorageCommand,
        /// The directory [default: storage.path]
        #[arg(short, long, global = true, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

/// What to do with stored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum StorageCommand {
    /// Read every record, and count them
    Check,
    /// Write all records to standard output as JSON lines
    Export,
    /// Read JSON lines from standard input into a new directory
    Import,
}
