//! Parses the command line, starts logging, runs the program, and sets the exit code.

mod allocator;

use std::env;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::Context;
use clap::Parser;
use exporter_proxy::app::reload::Source;
use exporter_proxy::app::{App, StartError};
use exporter_proxy::cli::{self, Cli, Command, RelabelOptions, commands};
use exporter_proxy::config::{self, Config, DEFAULT_FILE, Loaded};
use exporter_proxy::context::Reloads;
use exporter_proxy::healthcheck::{self, Check};
use exporter_proxy::net::passed;
use exporter_proxy::service;
use exporter_proxy::settings::ConfigError;
use exporter_proxy::shutdown::{Asked, Signals};
use exporter_proxy::storage::tool::ToolError;
use exporter_proxy::telemetry::logging;
use exporter_proxy::watched::FileState;
use tokio::runtime::{Builder, Runtime};

/// The exit code for an invalid configuration: `EX_CONFIG` of `sysexits.h`.
const BAD_CONFIGURATION: u8 = 78;

const CANNOT_PRINT: &str = "cannot write to standard output";

fn main() -> ExitCode {
    allocator::give_memory_back_soon();
    let cli = Cli::parse();

    // These commands need no configuration, and must work while it is incomplete.
    let done = match &cli.command {
        Some(Command::HashPassword) => {
            Some(commands::hash_password().map(|hash| println!("{hash}")))
        }
        Some(Command::Completions { shell }) => {
            Some(cli::completions(*shell, &mut io::stdout()).context(CANNOT_PRINT))
        }
        Some(Command::Relabel(RelabelOptions {
            rules: Some(file), ..
        })) => Some(commands::relabel_by_file(file)),
        Some(Command::StatsdMap { file: Some(file) }) if cli.config.is_none() => {
            Some(commands::statsd_map(&Config::default(), Some(file.clone())))
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
        Command::Relabel(options) => commands::relabel(&loaded.config, &options),
        Command::StatsdMap { file } => commands::statsd_map(&loaded.config, file),
        Command::Storage { command, directory } => {
            commands::storage(&loaded.config, command, directory)
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
