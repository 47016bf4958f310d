//! The manual page: clap's description of the command line, and the sections that clap cannot
//! write.

use std::io;

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

/// Writes the page.
pub(super) fn write(command: Command, out: &mut impl io::Write) -> io::Result<()> {
    let mut command = command;
    // Adds the options that all commands have.
    command.build();
    let (name, version) = (command.get_name().to_owned(), env!("CARGO_PKG_VERSION"));
    writeln!(
        out,
        ".TH {name} 1 \"\" \"{name} {version}\" \"User Commands\""
    )?;
    let mut more = Roff::new();
    more.control("SH", ["COMMANDS"]);
    for command in command.get_subcommands() {
        describe(&mut more, command, "");
    }
    section(&mut more, "FILES", FILES);
    section(&mut more, "ENVIRONMENT", ENVIRONMENT);
    section(&mut more, "SIGNALS", SIGNALS);
    section(&mut more, "EXIT STATUS", EXIT_STATUS);
    more.control("SH", ["SEE ALSO"]).text([
        bold("prometheus"),
        roman("(1), "),
        bold("systemd.service"),
        roman("(5); the documents in "),
        italic(format!("/usr/share/doc/{name}")),
        roman("."),
    ]);
    let man = Man::new(command);
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    more.to_writer(out)
}

/// A command with its own options, and its subcommands. `above` is the command line before it.
fn describe(page: &mut Roff, command: &Command, above: &str) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{above}{}", command.get_name());
    let mut term = vec![bold(name.clone())];
    for value in command.get_positionals() {
        let value = value.get_id().as_str().to_uppercase();
        term.extend([roman(" "), italic(value)]);
    }
    page.control("TP", []).text(term);
    let about = command.get_long_about().or(command.get_about());
    page.text([roman(about.map(ToString::to_string).unwrap_or_default())]);
    for option in command.get_arguments().filter(|it| !it.is_positional()) {
        // Inherited options are described once, with the program or with the parent command.
        let inherited = option.is_global_set() && !command.has_subcommands();
        if !inherited && option.get_id() != "config" && option.get_id() != "help" {
            describe_option(page, option);
        }
    }
    for inner in command.get_subcommands() {
        describe(page, inner, &format!("{name} "));
    }
}

fn describe_option(page: &mut Roff, option: &Arg) {
    let mut term = Vec::new();
    if let Some(short) = option.get_short() {
        term.extend([bold(format!("-{short}")), roman(", ")]);
    }
    term.push(bold(format!("--{}", option.get_long().unwrap_or_default())));
    let mut help = option.get_help().map(ToString::to_string);
    let help = help.get_or_insert_default();
    if option.get_action().takes_values() {
        for value in option.get_value_names().unwrap_or_default() {
            term.extend([roman(" "), italic(value.to_string())]);
        }
        if let Some(default) = option.get_default_values().first() {
            help.push_str(&format!(" [default: {}]", default.to_string_lossy()));
        }
    }
    page.control("RS", [])
        .control("TP", [])
        .text(term)
        .text([roman(help.as_str())])
        .control("RE", []);
}

fn section(page: &mut Roff, title: &str, items: &[(&str, &str)]) {
    page.control("SH", [title]);
    for (term, text) in items {
        page.control("TP", [])
            .text([bold(*term)])
            .text([roman(*text)]);
    }
}

const FILES: &[(&str, &str)] = &[
    (
        "config.toml",
        "The configuration in the working directory, if --config names no other.",
    ),
    (
        "/etc/exporter-proxy/config.toml",
        "The configuration of the service.",
    ),
    (
        "/var/lib/exporter-proxy",
        "The stored state of the service.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "EXPORTER_PROXY_<TABLE>_<KEY>",
        "Overrides a setting: EXPORTER_PROXY_RECEIVER_FORMAT=json.",
    ),
    (
        "RUST_LOG",
        "Sets what is logged, instead of log.level: info,exporter_proxy::http=debug.",
    ),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS, STATE_DIRECTORY",
        "Set by systemd: notifications, the watchdog, passed sockets, the directory for state.",
    ),
];

const SIGNALS: &[(&str, &str)] = &[
    (
        "SIGTERM, SIGINT",
        "Stop, after work in flight has finished. A second signal stops at once.",
    ),
    ("SIGHUP", "Reload the configuration."),
];

const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Stopped on request; for healthcheck: it works."),
    (
        "1",
        "Could not start, or stopped at once by a second signal; another command failed or rejected its input; for healthcheck: it does not work.",
    ),
    ("2", "Invalid command line."),
    (
        "65",
        "The stored state is damaged, or the input of an import is not a complete export.",
    ),
    (
        "66",
        "The directory of storage was made by another program.",
    ),
    (
        "73",
        "The directory of storage cannot be written, or an import found records in it.",
    ),
    ("74", "A command of storage failed to read or write."),
    ("75", "The directory of storage is in use."),
    ("76", "The stored state was written by a newer version."),
    ("78", "Invalid configuration."),
];
