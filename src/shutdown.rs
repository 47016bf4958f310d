//! Signals: which ones stop the program, reload the configuration, or are ignored.

use std::io;

use nix::libc::SIGXFSZ;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the program handles.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    ignored: [(&'static str, Signal); 2],
    /// A file reached its limit (`ulimit -f`). The write fails too, which is what the
    /// program reports.
    _file_size: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To stop, by the signal of this name.
    Stop(&'static str),
    /// To reload the configuration: `SIGHUP`.
    Reload,
}

impl Signals {
    /// Installs the handlers. From now on, none of the signals ends the process by itself.
    ///
    /// # Errors
    ///
    /// A handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            ignored: [
                ("SIGUSR1", signal(SignalKind::user_defined1())?),
                ("SIGUSR2", signal(SignalKind::user_defined2())?),
            ],
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// Waits for a signal to stop or to reload. The others are logged and ignored.
    pub async fn next(&mut self) -> Asked {
        let [user1, user2] = &mut self.ignored;
        loop {
            let ignored = tokio::select! {
                _ = self.terminate.recv() => return Asked::Stop("SIGTERM"),
                _ = self.interrupt.recv() => return Asked::Stop("SIGINT"),
                _ = self.hangup.recv() => return Asked::Reload,
                _ = user1.1.recv() => user1.0,
                _ = user2.1.recv() => user2.0,
            };
            log::warn!("{ignored} ignored; SIGHUP reloads the configuration, SIGTERM stops");
        }
    }
}
