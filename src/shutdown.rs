//! When to stop, and which signals do not stop the program.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that ask the program to stop, and those that would end it unasked.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    ignored: [(&'static str, Signal); 3],
}

impl StopSignals {
    /// From here on, none of the signals ends the process by itself.
    pub fn listen() -> io::Result<Self> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            ignored: [
                ("SIGHUP", signal(SignalKind::hangup())?),
                ("SIGUSR1", signal(SignalKind::user_defined1())?),
                ("SIGUSR2", signal(SignalKind::user_defined2())?),
            ],
        })
    }

    /// Waits for a signal that asks for a stop, and returns its name. Others
    /// are logged.
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
