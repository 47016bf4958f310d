//! The command line.

pub mod commands;
mod man;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::settings::duration_of;

/// The arguments of the program.
#[derive(Debug, Parser)]
#[command(
    version,
    about = "Collects metrics from programs that Prometheus cannot reach, and serves them all on one port.",
    after_help = "An environment variable EXPORTER_PROXY_<TABLE>_<KEY> overrides a setting, such as\n\
                  EXPORTER_PROXY_RECEIVER_FORMAT=json. RUST_LOG sets the log level (default: info).\n\
                  Exit codes: 0 done or stopped on request, 1 could not start or the command failed,\n\
                  2 bad command line, 78 bad configuration;\n\
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
    /// Ask the running program whether it works: exit code 0 or 1
    ///
    /// For supervisors that run a command, such as Docker. It asks /-/healthy on the first
    /// address of lifecycle.listen, or else of exporter.scrape_expose_endpoint.
    Healthcheck {
        /// Ask /-/ready: whether it also accepts pushes, and is not about to stop
        #[arg(long)]
        ready: bool,
        /// How long to wait for the answer
        #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time_limit)]
        timeout: Duration,
    },
    /// Print completions for a shell, to be sourced or installed
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, for man
    Man,
    /// Read metrics from standard input and show what each relabelling rule does with
    /// each series
    Relabel(RelabelOptions),
    /// Read StatsD lines from standard input and show what the rules of a mapping file make
    /// of each
    StatsdMap {
        /// The file, in statsd_exporter's form [default: operations.statsd_mapping]
        file: Option<PathBuf>,
    },
    /// Check, export or import stored state while no program uses it
    Storage {
        /// What to do.
        #[command(subcommand)]
        command: StorageCommand,
        /// The directory [default: storage.path]
        #[arg(short, long, global = true, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

/// The rules to show, and what they apply to.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RelabelOptions {
    /// A file with a list of rules in Prometheus' own form, in YAML
    #[arg(long, value_name = "FILE", conflicts_with = "sink")]
    pub rules: Option<PathBuf>,
    /// The sink of the configuration whose rules are used [default: the only one that has
    /// rules]
    #[arg(long, value_name = "NAME")]
    pub sink: Option<String>,
    /// Show what shaping does with the text of this app
    #[arg(long, value_name = "NAME", conflicts_with_all = ["rules", "sink"])]
    pub app: Option<String>,
    /// Show what relabelling does with this target, and shaping with its text
    #[arg(long, value_name = "NAME", conflicts_with_all = ["rules", "sink", "app"])]
    pub target: Option<String>,
    /// Show what shaping does with a push to this group, such as '{job="backup"}'
    #[arg(long, value_name = "LABELS", conflicts_with_all = ["rules", "sink", "app", "target"])]
    pub group: Option<String>,
    /// Read a list of targets in the format of file_sd, and show what the rules of this
    /// discovery, named as in /api/v1/targets, do with each entry
    #[arg(long, value_name = "NAME", conflicts_with_all = ["rules", "sink", "app", "target", "group"])]
    pub discovery: Option<String>,
    /// The address or path of the listener that the text arrives at
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["rules", "sink", "target", "discovery"])]
    pub listener: Option<String>,
}

/// What to do with stored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum StorageCommand {
    /// Read every record, and count them
    Check,
    /// Write all records to standard output as JSON lines
    Export,
    /// Read JSON lines from standard input into a new or an empty directory
    Import,
}

/// Writes completions for a shell.
///
/// # Errors
///
/// `out` fails.
pub fn completions(shell: Shell, out: &mut impl io::Write) -> io::Result<()> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // The generator panics if it cannot write.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    out.write_all(&text)
}

/// Writes the manual page.
///
/// # Errors
///
/// `out` fails.
pub fn manual(out: &mut impl io::Write) -> io::Result<()> {
    man::write(Cli::command(), out)
}

/// A positive duration, as settings have it: `500ms`, `3s`.
fn time_limit(written: &str) -> Result<Duration, String> {
    duration_of(written)
        .filter(|limit| !limit.is_zero())
        .ok_or_else(|| "must be a time such as 500ms or 3s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn completions_know_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = text(|out| completions(shell, out).unwrap());
            for command in Cli::command().get_subcommands() {
                assert!(
                    text.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
            assert!(text.contains("ready"), "{shell}");
        }
    }

    #[test]
    fn the_manual_describes_commands_options_files_and_exit_codes() {
        let page = text(|out| manual(out).unwrap());
        for words in [
            ".TH exporter-proxy 1",
            ".SH NAME",
            ".SH SYNOPSIS",
            ".SH COMMANDS",
            "\\fBstorage export\\fR",
            "\\fB\\-\\-timeout\\fR \\fITIME\\fR\nHow long to wait for the answer [default: 3s]\n",
            "check\\-config",
            "hash\\-password",
            "healthcheck",
            "\\-\\-directory",
            "\\-\\-watch",
            ".SH FILES",
            "\\fB/etc/exporter\\-proxy/config.toml\\fR",
            ".SH ENVIRONMENT",
            "RUST_LOG",
            ".SH \"EXIT STATUS\"",
            ".SH SIGNALS",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
    }

    #[test]
    fn time_limits_are_positive() {
        assert_eq!(time_limit("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "0s", "-1s", "soon"] {
            assert!(time_limit(wrong).is_err(), "{wrong}");
        }
    }
}
