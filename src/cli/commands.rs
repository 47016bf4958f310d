//! The commands `relabel`, `statsd-map`, `storage` and `hash-password`.

use std::fs;
use std::hash::RandomState;
use std::io::{self, BufRead as _, BufWriter, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result, bail, ensure};

use super::{RelabelOptions, StorageCommand};
use crate::app::READABLE_FORMS;
use crate::config::Config;
use crate::exposition::{InputFormat, ParseError, SampleLabels, counted};
use crate::ingest::shaping::{Shapes, config::is_place};
use crate::ingest::tool::ShownSender;
use crate::ingest::{Admission, Group};
use crate::inputs::operations::mapping::Mapping;
use crate::inputs::operations::mapping_tool;
use crate::inputs::poller::{self, tool::ShownTarget};
use crate::relabel::{self, Rules, tool::Stage};
use crate::security;
use crate::storage;
use crate::store::{Producer, SectionId};

/// The longest line with a password, in bytes. bcrypt takes passwords of up to 72 bytes.
const MAX_PASSWORD_LINE: u64 = 1024;

/// Returns the bcrypt hash of the first line of standard input.
///
/// # Errors
///
/// Standard input is not one line, or cannot be read or hashed.
pub fn hash_password() -> Result<String> {
    let mut line = String::new();
    if io::stdin().is_terminal() {
        eprintln!("password (it is shown as you type): ");
    }
    // The limit is well above the longest password, so that a longer one is still noticed.
    let mut input = io::stdin().lock().take(MAX_PASSWORD_LINE);
    input
        .read_line(&mut line)
        .context("cannot read the password from standard input")?;
    let mut more = Vec::new();
    input.read_to_end(&mut more)?;
    ensure!(
        more.is_empty() || !line.ends_with('\n'),
        "standard input has more than one line: a password is one line"
    );
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    Ok(security::hash_password(password)?)
}

/// Shows what the rules of a file do with metrics.
///
/// # Errors
///
/// The rules or lines cannot be read.
pub fn relabel_by_file(file: &Path) -> Result<()> {
    let rules = Rules::parse_yaml(&read(file)?).map_err(|problems| {
        let problems = problems.into_iter();
        positioned(file, problems.map(|problem| (problem.at, problem.message)))
    })?;
    relabel_by(&relabel::tool::stages(&rules, ""))
}

/// Shows what configured rules do with metrics or targets.
///
/// # Errors
///
/// The options name nothing that is configured, or lines cannot be read.
pub fn relabel(config: &Config, options: &RelabelOptions) -> Result<()> {
    let listener = options.listener.as_deref();
    if let Some(at) = listener
        && !is_place(at)
    {
        bail!(
            "--listener must be the address that a listener is bound to, such as \
             127.0.0.1:6556, or the path of a Unix socket, not {at:?}"
        );
    }
    if let Some(app) = &options.app {
        let sender = ShownSender::App(SectionId::new(app, Producer::App));
        shape(config, &sender, listener)
    } else if let Some(target) = &options.target {
        shape_target(config, target)
    } else if let Some(group) = &options.group {
        let group = Group::from_key(group).with_context(|| {
            format!("--group must be labels such as {{job=\"backup\"}}, not {group:?}")
        })?;
        shape(config, &ShownSender::Group(group), listener)
    } else if let Some(discovery) = &options.discovery {
        relabel_list(&config.poll_external, discovery)
    } else {
        ensure!(
            listener.is_none(),
            "--listener goes with --app or --group: the text that arrives there"
        );
        let rules = config.sinks.rules_of(options.sink.as_deref());
        relabel_by(&relabel::tool::stages(&rules.map_err(Error::msg)?, ""))
    }
}

/// Shows what each stage does with metrics.
fn relabel_by(stages: &[Stage<'_>]) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let format = InputFormat::Text;
    let problems = relabel::tool::show(stages, format, &mut io::stdin().lock(), &mut out)?;
    out.flush()?;
    readable(&problems)
}

/// Shows what shaping does with the text of an app, a target or a group.
fn shape(config: &Config, sender: &ShownSender, listener: Option<&str>) -> Result<()> {
    let limit = config.exposition.max_text;
    let mut bytes = Vec::new();
    let mut input = io::stdin().lock().take(limit as u64 + 1);
    input
        .read_to_end(&mut bytes)
        .context("cannot read the text")?;
    ensure!(
        bytes.len() <= limit,
        "the text has more than {limit} bytes (exposition.max_text)"
    );
    let text = String::from_utf8(bytes).map_err(|problem| {
        let at = problem.utf8_error().valid_up_to();
        Error::msg(format!("the text is not UTF-8 at byte {at}"))
    })?;
    let shapes = Shapes {
        list: config.shape.clone(),
        ..Shapes::default()
    };
    let admission = Admission::new(
        config.exposition.clone(),
        config.push.aggregation.clone(),
        config.exporter.own_metrics,
        RandomState::new(),
    )
    .with_shapes(shapes);
    let mut out = BufWriter::new(io::stdout().lock());
    let problems = admission.show_shaping(sender, listener, &text, &mut out);
    out.flush()?;
    readable(&problems?)
}

/// Shows what relabelling does with a target, and shaping with its text.
fn shape_target(config: &Config, name: &str) -> Result<()> {
    let shown = poller::tool::show_target(&config.poll_external, name, &mut io::stdout())?;
    let labels = match shown {
        ShownTarget::Polled(labels) => labels,
        ShownTarget::Dropped => return Ok(()),
        ShownTarget::Unknown => {
            log::warn!(
                "no target {name:?} is configured: shown without the labels that a discovered \
                 target of this name would have"
            );
            SampleLabels::default()
        }
    };
    let sender = ShownSender::Target(SectionId::new(name, Producer::Target), labels);
    shape(config, &sender, None)
}

/// Shows what the rules of a discovery do with a list of targets.
fn relabel_list(config: &poller::config::Config, discovery: &str) -> Result<()> {
    let list = io::read_to_string(io::stdin().lock()).context("the list cannot be read")?;
    let mut out = BufWriter::new(io::stdout().lock());
    let wrong = poller::tool::show_list(config, discovery, &list, &mut out)?;
    out.flush()?;
    let entries = counted(wrong, "entry is", "entries are");
    ensure!(wrong == 0, "{entries} wrong");
    Ok(())
}

/// Prints what is wrong with lines. It is an error if anything is.
fn readable(problems: &[ParseError]) -> Result<()> {
    for problem in problems {
        eprintln!("{problem}");
    }
    let lines = counted(problems.len(), "line", "lines");
    ensure!(problems.is_empty(), "{lines} cannot be read");
    Ok(())
}

/// Shows what the rules of a mapping file make of StatsD lines. Without `file`, it is the
/// configured one.
///
/// # Errors
///
/// There is no file, it cannot be read, or lines are rejected.
pub fn statsd_map(config: &Config, file: Option<PathBuf>) -> Result<()> {
    let configured = config.operations.statsd_mapping.as_ref();
    let file = file.or_else(|| configured.map(|file| file.path.clone()));
    let file = file.context("name a mapping file, or set operations.statsd_mapping")?;
    let mapping = Mapping::parse(&read(&file)?).map_err(|problems| {
        let problems = problems.into_iter();
        positioned(&file, problems.map(|problem| (problem.at, problem.message)))
    })?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut lines = io::stdin().lock();
    let rejected = mapping_tool::show(&config.operations, &file, mapping, &mut lines, &mut out)?;
    out.flush()?;
    let values = counted(rejected, "value is", "values are");
    ensure!(rejected == 0, "{values} rejected");
    Ok(())
}

/// Checks, exports or imports stored state. Without `directory`, it is the configured one.
///
/// # Errors
///
/// There is no directory, or a [`storage::tool::ToolError`].
pub fn storage(config: &Config, command: StorageCommand, directory: Option<PathBuf>) -> Result<()> {
    let directory = directory.or_else(|| config.storage.directory());
    let directory = directory.context("name a directory: --directory, or storage.path")?;
    let mut out = io::stdout().lock();
    match command {
        StorageCommand::Check => storage::tool::check(&directory, &mut out)?,
        StorageCommand::Export => {
            storage::tool::export(&directory, &READABLE_FORMS, &mut BufWriter::new(out))?;
        }
        StorageCommand::Import => {
            let mut input = io::stdin().lock();
            let count = storage::tool::import(&directory, &READABLE_FORMS, &mut input)?;
            log::info!("{count} records imported into {}", directory.display());
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Errors in a file, with their lines and columns.
fn positioned(
    file: &Path,
    problems: impl Iterator<Item = (Option<(usize, usize)>, String)>,
) -> Error {
    let name = file.display();
    let lines = problems.map(|(at, message)| match at {
        Some((line, column)) => format!("{name}:{line}:{column}: {message}"),
        None => format!("{name}: {message}"),
    });
    Error::msg(lines.collect::<Vec<_>>().join("\n"))
}
