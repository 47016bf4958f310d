//! Parses the command line, starts logging, runs the program, and sets the exit code.

mod allocator;

use std::env;
use std::hash::RandomState;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, ensure};
use clap::Parser;
use exporter_proxy::app::reload::Source;
use exporter_proxy::app::{App, READABLE_FORMS, StartError};
use exporter_proxy::cli::{self, Cli, Command, StorageCommand};
use exporter_proxy::config::{self, Config, DEFAULT_FILE, Loaded};
use exporter_proxy::context::Reloads;
use exporter_proxy::exposition::{InputFormat, ParseError, SampleLabels, counted};
use exporter_proxy::healthcheck::{self, Check};
use exporter_proxy::ingest::shaping::{Shapes, config::is_place};
use exporter_proxy::ingest::tool::Sender;
use exporter_proxy::ingest::{Admission, Group};
use exporter_proxy::inputs::operations::mapping::Mapping;
use exporter_proxy::inputs::operations::mapping_tool;
use exporter_proxy::inputs::poller::{self, tool::ShownTarget};
use exporter_proxy::net::passed;
use exporter_proxy::relabel::tool::Stage;
use exporter_proxy::relabel::{self, Rules};
use exporter_proxy::security;
use exporter_proxy::service;
use exporter_proxy::settings::ConfigError;
use exporter_proxy::shutdown::{Asked, Signals};
use exporter_proxy::storage::tool::{self, ToolError};
use exporter_proxy::store::{Producer, SectionId};
use exporter_proxy::telemetry::logging;
use exporter_proxy::watched::FileState;
use tokio::runtime::{Builder, Runtime};

/// The longest line with a password, in bytes. bcrypt takes passwords of up to 72 bytes.
const MAX_PASSWORD_LINE: u64 = 1024;

/// The exit code for an invalid configuration: `EX_CONFIG` of `sysexits.h`.
const BAD_CONFIGURATION: u8 = 78;

const CANNOT_PRINT: &str = "cannot write to standard output";

fn main() -> ExitCode {
    allocator::give_memory_back_soon();
    let cli = Cli::parse();

    // These commands need no configuration, and must work while it is incomplete.
    let done = match &cli.command {
        Some(Command::HashPassword) => Some(hash_password().map(|hash| println!("{hash}"))),
        Some(Command::Completions { shell }) => {
            Some(cli::completions(*shell, &mut io::stdout()).context(CANNOT_PRINT))
        }
        Some(Command::Relabel {
            rules: Some(file), ..
        }) => {
            Some(rules_of_file(file).and_then(|rules| relabel(&relabel::tool::stages(&rules, ""))))
        }
        Some(Command::StatsdMap { file: Some(file) }) if cli.config.is_none() => {
            let mapping = mapping_of_file(file);
            Some(mapping.and_then(|mapping| statsd_map(&Config::default(), file, mapping)))
        }
        Some(Command::Man) => Some(cli::manual(&mut io::stdout()).context(CANNOT_PRINT)),
        _ => None,
    };
    if let Some(result) = done {
        return match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!("{problem:#}");
                ExitCode::FAILURE
            }
        };
    }
    let watched = cli.watch.then(|| {
        let file = cli.config.clone();
        let file = file.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let state = FileState::of(&file);
        (file, state)
    });
    let loaded = match load(cli.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let command = cli.command.unwrap_or(Command::Run);
    match command {
        Command::Run => logging::init(&loaded.config.log),
        // Other commands are run by people, so they log in the default format.
        _ => logging::init(&logging::config::Config::default()),
    }
    // A health check runs every few seconds and would repeat the warnings.
    if !matches!(command, Command::Healthcheck { .. }) {
        for warning in &loaded.warnings {
            log::warn!("{warning}");
        }
    }
    let result = match command {
        Command::CheckConfig => {
            let warnings = match loaded.warnings.len() {
                0 => String::new(),
                1 => " (1 warning)".to_owned(),
                count => format!(" ({count} warnings)"),
            };
            println!("{}: ok{warnings}", loaded.origin);
            Ok(())
        }
        Command::PrintConfig => {
            print!("{}", loaded.config.to_toml());
            Ok(())
        }
        Command::Healthcheck { ready, timeout } => {
            let check = if ready { Check::Ready } else { Check::Healthy };
            match healthcheck::run(&loaded.config, check, timeout) {
                Ok(answer) => println!("{answer}"),
                Err(problem) => {
                    eprintln!("{problem}");
                    return ExitCode::FAILURE;
                }
            }
            Ok(())
        }
        Command::HashPassword | Command::Completions { .. } | Command::Man => {
            unreachable!("they are answered above")
        }
        Command::Relabel {
            sink,
            app,
            target,
            group,
            discovery,
            listener,
            ..
        } => {
            let listener = listener.as_deref();
            let polls = &loaded.config.poll_external;
            match (app, target, group, discovery) {
                _ if listener.is_some_and(|at| !is_place(at)) => Err(anyhow::Error::msg(format!(
                    "--listener must be the address that a listener is bound to, such as \
                     127.0.0.1:6556, or the path of a Unix socket, not {:?}",
                    listener.unwrap_or_default()
                ))),
                (Some(app), ..) => {
                    let sender = Sender::App(SectionId::new(&app, Producer::App));
                    shape(&loaded.config, &sender, listener)
                }
                (_, Some(target), ..) => shape_target(&loaded.config, &target),
                (_, _, Some(group), _) => group_of(&group)
                    .and_then(|group| shape(&loaded.config, &Sender::Group(group), listener)),
                (.., Some(discovery)) => relabel_list(polls, &discovery),
                _ if listener.is_some() => Err(anyhow::Error::msg(
                    "--listener goes with --app or --group: the text that arrives there",
                )),
                _ => {
                    let rules = loaded.config.sinks.rules_of(sink.as_deref());
                    let rules = rules.map_err(anyhow::Error::msg);
                    rules.and_then(|rules| relabel(&relabel::tool::stages(&rules, "")))
                }
            }
        }
        Command::StatsdMap { file } => {
            let configured = loaded.config.operations.statsd_mapping.as_ref();
            match file.or_else(|| configured.map(|file| file.path.clone())) {
                Some(file) => mapping_of_file(&file)
                    .and_then(|mapping| statsd_map(&loaded.config, &file, mapping)),
                None => Err(anyhow::Error::msg(
                    "name a mapping file, or set operations.statsd_mapping",
                )),
            }
        }
        Command::Storage { command, directory } => {
            let directory = directory.or_else(|| loaded.config.storage.directory());
            storage(command, directory.as_deref())
        }
        Command::Run => {
            log::info!(
                "exporter-proxy {} with {}",
                env!("CARGO_PKG_VERSION"),
                loaded.origin
            );
            // A file that was read at the start must exist on a reload.
            let file = cli.config.or(loaded.file);
            run(loaded.config, source(file, watched))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            log::error!("{problem:#}");
            exit_code(&problem)
        }
    }
}

/// Reads the settings on a thread of its own. When it ends, the allocator gives its memory to the
/// next thread, which serves. On the main thread, which allocates little later, memory freed by
/// parsing would stay unused: 4 MB for 1,000 targets.
fn load(file: Option<&Path>) -> Result<Loaded, ConfigError> {
    thread::scope(|scope| {
        let loading = scope.spawn(|| config::load(file, environment()));
        loading.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// The exit code for an error.
fn exit_code(problem: &anyhow::Error) -> ExitCode {
    if let Some(StartError::Storage(problem)) = problem.downcast_ref() {
        return ExitCode::from(problem.exit_code());
    }
    if let Some(problem) = problem.downcast_ref::<ToolError>() {
        return ExitCode::from(problem.exit_code());
    }
    ExitCode::FAILURE
}

/// Runs `exporter-proxy storage`.
fn storage(command: StorageCommand, directory: Option<&Path>) -> anyhow::Result<()> {
    let directory = directory.context("name a directory: --directory, or storage.path")?;
    let mut out = io::stdout().lock();
    match command {
        StorageCommand::Check => tool::check(directory, &mut out)?,
        StorageCommand::Export => {
            tool::export(directory, &READABLE_FORMS, &mut io::BufWriter::new(out))?;
        }
        StorageCommand::Import => {
            let count = tool::import(directory, &READABLE_FORMS, &mut io::stdin().lock())?;
            log::info!("{count} records imported into {}", directory.display());
        }
    }
    Ok(())
}

/// The rules in a file.
fn rules_of_file(file: &Path) -> anyhow::Result<Rules> {
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    Rules::parse_yaml(&text).map_err(|problems| {
        let problems = problems.into_iter();
        positioned(file, problems.map(|problem| (problem.at, problem.message)))
    })
}

/// The rules for StatsD names in a file.
fn mapping_of_file(file: &Path) -> anyhow::Result<Mapping> {
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    Mapping::parse(&text).map_err(|problems| {
        let problems = problems.into_iter();
        positioned(file, problems.map(|problem| (problem.at, problem.message)))
    })
}

/// Runs `exporter-proxy statsd-map`.
fn statsd_map(config: &Config, file: &Path, mapping: Mapping) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut lines = io::stdin().lock();
    let rejected = mapping_tool::show(&config.operations, file, mapping, &mut lines, &mut out)?;
    out.flush()?;
    let values = counted(rejected, "value is", "values are");
    anyhow::ensure!(rejected == 0, "{values} rejected");
    Ok(())
}

/// Errors in a file, with their lines and columns.
fn positioned(
    file: &Path,
    problems: impl Iterator<Item = (Option<(usize, usize)>, String)>,
) -> anyhow::Error {
    let name = file.display();
    let lines = problems.map(|(at, message)| match at {
        Some((line, column)) => format!("{name}:{line}:{column}: {message}"),
        None => format!("{name}: {message}"),
    });
    anyhow::Error::msg(lines.collect::<Vec<_>>().join("\n"))
}

/// The group with these labels.
fn group_of(labels: &str) -> anyhow::Result<Group> {
    Group::from_key(labels).with_context(|| {
        format!("--group must be labels such as {{job=\"backup\"}}, not {labels:?}")
    })
}

/// Runs `exporter-proxy relabel` for the text of an app, a target or a group.
fn shape(config: &Config, sender: &Sender, listener: Option<&str>) -> anyhow::Result<()> {
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
        anyhow::Error::msg(format!("the text is not UTF-8 at byte {at}"))
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
    let mut out = io::BufWriter::new(io::stdout().lock());
    let problems = admission.show_shaping(sender, listener, &text, &mut out);
    out.flush()?;
    readable(&problems?)
}

/// Runs `exporter-proxy relabel --target`.
fn shape_target(config: &Config, name: &str) -> anyhow::Result<()> {
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
    let sender = Sender::Target(SectionId::new(name, Producer::Target), labels);
    shape(config, &sender, None)
}

/// Runs `exporter-proxy relabel --discovery`.
fn relabel_list(config: &poller::config::Config, discovery: &str) -> anyhow::Result<()> {
    let list = io::read_to_string(io::stdin().lock()).context("the list cannot be read")?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let wrong = poller::tool::show_list(config, discovery, &list, &mut out)?;
    out.flush()?;
    let entries = counted(wrong, "entry is", "entries are");
    anyhow::ensure!(wrong == 0, "{entries} wrong");
    Ok(())
}

/// Runs `exporter-proxy relabel`.
fn relabel(stages: &[Stage<'_>]) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let format = InputFormat::Text;
    let problems = relabel::tool::show(stages, format, &mut io::stdin().lock(), &mut out)?;
    out.flush()?;
    readable(&problems)
}

/// Prints what is wrong with lines. It is an error if anything is.
fn readable(problems: &[ParseError]) -> anyhow::Result<()> {
    for problem in problems {
        eprintln!("{problem}");
    }
    anyhow::ensure!(
        problems.is_empty(),
        "{} cannot be read",
        counted(problems.len(), "line", "lines")
    );
    Ok(())
}

/// Where reloads take the configuration from: `file` and the environment, as at the start.
fn source(file: Option<PathBuf>, watched: Option<(PathBuf, FileState)>) -> Source {
    let source = Source::new(move || config::load(file.as_deref(), environment()))
        .notifying(service::reloading, service::reloaded);
    match watched {
        Some((file, state)) => source.watching(file, state),
        None => source,
    }
}

fn run(config: Config, source: Source) -> anyhow::Result<()> {
    passed::adopt()
        .context("cannot use the sockets that the service manager passed (LISTEN_FDS)")?;
    let runtime = runtime(&config).context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let app = App::bind(config).await?.reloading_from(source);
        for place in passed::close_unused() {
            log::warn!("the service manager passed {place}, which no setting names: it is closed");
        }
        let status = format!("serving {}", app.metrics_url());
        service::start(&status, app.leaving(), app.probe());
        let reloads = app.reloads();
        app.run(async move {
            let signal = stop_signal(&mut signals, Some(&reloads)).await;
            log::info!("{signal}: stopping; a second one stops at once");
            tokio::spawn(async move {
                let signal = stop_signal(&mut signals, None).await;
                log::warn!("{signal} again: stopping at once");
                #[expect(clippy::disallowed_methods, reason = "this is what was asked for")]
                std::process::exit(1);
            });
        })
        .await;
        log::info!("stopped");
        Ok(())
    });
    // Do not wait for blocking work, such as a DNS lookup or a file that never answers.
    runtime.shutdown_background();
    result
}

/// Waits for a signal to stop, and returns its name. Requests a reload for each signal to reload,
/// or ignores it once the program stops.
async fn stop_signal(signals: &mut Signals, reloads: Option<&Reloads>) -> &'static str {
    loop {
        match (signals.next().await, reloads) {
            (Asked::Stop(signal), _) => return signal,
            (Asked::Reload, Some(reloads)) => {
                log::info!("SIGHUP: reloading the configuration");
                let reloads = reloads.clone();
                // The outcome is logged.
                tokio::spawn(async move { drop(reloads.request().await) });
            }
            (Asked::Reload, None) => log::warn!("SIGHUP ignored: the program is stopping"),
        }
    }
}

/// The bcrypt hash of the first line of standard input.
fn hash_password() -> anyhow::Result<String> {
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

fn runtime(config: &Config) -> io::Result<Runtime> {
    let mut builder = match config.exporter.worker_threads {
        0 => Builder::new_current_thread(),
        workers => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
    };
    builder.enable_all().build()
}

/// The environment variables whose names are valid UTF-8. Invalid UTF-8 in a value is
/// replaced, so that the setting is rejected rather than ignored.
#[expect(clippy::disallowed_methods, reason = "they become settings")]
fn environment() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, value)| {
        Some((
            name.into_string().ok()?,
            value.to_string_lossy().into_owned(),
        ))
    })
}
