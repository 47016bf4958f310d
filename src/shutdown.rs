//! Signals that stop the program, and signals that do not.

use std::io;

use nix::libc::SIGXFSZ;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the program handles.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    ignored: [(&'static str, Signal); 3],
    /// A file reached its limit (`ulimit -f`). The write fails too, which is what the
    /// program reports.
    _file_size: Signal,
}

impl StopSignals {
    /// Installs the handlers. From now on, none of the signals ends the process by itself.
    ///
    /// # Errors
    ///
    /// A handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            ignored: [
                ("SIGHUP", signal(SignalKind::hangup())?),
                ("SIGUSR1", signal(SignalKind::user_defined1())?),
                ("SIGUSR2", signal(SignalKind::user_defined2())?),
            ],
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// Waits for `SIGTERM` or `SIGINT`, and returns its name. The other signals are logged
    /// and ignored.
    pub async fn next(&mut self) -> &'static str {
        let [hangup, user1, user2] = &mut self.ignored;
        loop {
            let ignored = tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = hangup.1.recv() => hangup.0,
                _ = user1.1.recv() => user1.0,
                _ = user2.1.recv() => user2.0,
            };
            log::warn!(
                "{ignored} ignored: the configuration is read at start only; \
                 restart the program to apply a change"
            );
        }
    }
}
