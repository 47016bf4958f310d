//! Notifications to a service manager: the protocol of systemd's `sd_notify(3)`.
//!
//! Without `NOTIFY_SOCKET` in the environment, nothing is sent.

use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Signs of life within the time limit of the watchdog; systemd recommends two.
const SIGNS_IN_TIME: u32 = 2;

/// Notifies that the program is ready, with a `status` for people. Starts a task that notifies when
/// the program begins to stop (`leaving`) and, if the manager has a watchdog for it, sends signs of
/// life. Before each, it calls `probe`, which must block while the program hangs.
pub fn start(status: &str, leaving: CancellationToken, probe: impl Fn() + Send + 'static) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    tokio::spawn(async move {
        tokio::select! {
            () = leaving.cancelled() => {
                notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
            }
            () = live(sd_notify::watchdog_enabled(), probe) => {}
        }
    });
}

/// Notifies that the configuration is being reloaded.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(problem) => log::warn!("the clock cannot be read for the service manager: {problem}"),
    }
}

/// Notifies that a reload has ended, with either outcome.
pub fn reloaded() {
    notify(&[NotifyState::Ready]);
}

/// Sends signs of life, for ever.
async fn live(limit: Option<Duration>, probe: impl Fn()) {
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return pending().await;
    };
    let mut ticks = interval(limit / SIGNS_IN_TIME);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        probe();
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(problem) = sd_notify::notify(state) {
        log::warn!("the service manager cannot be notified (NOTIFY_SOCKET): {problem}");
    }
}
