//! The certificate and rules of a listener. They follow changes of their files.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};

use super::certificate;
use super::error::TlsError;
use super::files::Stamps;
use super::load::{Loaded, Protocols, load};
use super::settings::TlsSettings;
use crate::clock;
use crate::peer::ClientIdentity;
use crate::telemetry::{CertificateStats, Telemetry};

/// The minimum time between two checks of the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The TLS side of a listener. Each handshake uses the newest valid files; open connections
/// keep those that they began with.
#[derive(Debug)]
pub struct TlsServer {
    settings: TlsSettings,
    protocols: Protocols,
    current: RwLock<Arc<ServerConfig>>,
    files: Mutex<Files>,
    stats: Arc<CertificateStats>,
}

/// The files as last read.
#[derive(Debug)]
struct Files {
    checked: Instant,
    stamps: Stamps,
    /// The problem of the last attempt; it has been logged.
    problem: Option<String>,
}

/// Reads the files, and logs a warning about an expired certificate.
fn loaded(settings: &TlsSettings, setting: &str, protocols: Protocols) -> Result<Loaded, TlsError> {
    let loaded = load(settings, protocols)?;
    if let Some(warning) = loaded.warning(settings) {
        log::warn!("{setting}: {warning}");
    }
    Ok(loaded)
}

impl TlsServer {
    /// Reads the files of `settings`. `setting` is their key, such as `receiver.tls`.
    ///
    /// # Errors
    ///
    /// A file is not usable, or the settings do not match.
    pub fn new(
        settings: &TlsSettings,
        setting: &str,
        protocols: Protocols,
    ) -> Result<Self, TlsError> {
        // Take the stamps before reading, so that a change meanwhile is noticed.
        let stamps = Stamps::take(settings);
        let Loaded { config, expiry } = loaded(settings, setting, protocols)?;
        Ok(TlsServer {
            settings: settings.clone(),
            protocols,
            current: RwLock::new(config),
            files: Mutex::new(Files {
                checked: clock::tick(),
                stamps,
                problem: None,
            }),
            stats: Arc::new(CertificateStats::new(setting, expiry)),
        })
    }

    /// The setting of the `tls` table.
    pub fn setting(&self) -> &str {
        &self.stats.setting
    }

    /// Whether it was built from these settings.
    pub fn is_of(&self, settings: &TlsSettings, setting: &str, protocols: Protocols) -> bool {
        self.settings == *settings && self.setting() == setting && self.protocols == protocols
    }

    /// Registers the certificate for the own metrics.
    pub fn register(&self, telemetry: &Telemetry) {
        telemetry.add_certificate(&self.stats);
    }

    /// The configuration for a handshake. At most once a second, the files are checked on
    /// another thread, and read again if they have changed.
    pub(super) async fn config(self: &Arc<Self>) -> Arc<ServerConfig> {
        if self.is_check_due() {
            let server = Arc::clone(self);
            // This fails only if the check panics; the old configuration then stays.
            let _ = tokio::task::spawn_blocking(move || server.check()).await;
        }
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// The verified names of the client of a connection.
    pub(super) fn identity(&self, connection: &ServerConnection) -> Option<ClientIdentity> {
        if !self.settings.client_auth_type.verifies() {
            return None;
        }
        let own = connection.peer_certificates()?.first()?;
        certificate::identity(own).ok()
    }

    /// Whether the last check was some time ago, and no other one is running.
    fn is_check_due(&self) -> bool {
        let files = match self.files.try_lock() {
            Ok(files) => files,
            Err(TryLockError::Poisoned(files)) => files.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        files.checked.elapsed() >= CHECK_INTERVAL
    }

    /// Reads the files again if they have changed. If they are not usable, the problem is
    /// logged, and the old ones stay in use.
    fn check(&self) {
        let files = self.files.lock();
        let mut files = files.unwrap_or_else(PoisonError::into_inner);
        if files.checked.elapsed() < CHECK_INTERVAL {
            return;
        }
        files.checked = clock::tick();
        let stamps = Stamps::take(&self.settings);
        // After a failure, try again even without a change: several files may be in the
        // middle of an update.
        if stamps == files.stamps && files.problem.is_none() {
            return;
        }
        let setting = self.setting();
        match loaded(&self.settings, setting, self.protocols) {
            Ok(Loaded { config, expiry }) => {
                files.problem = None;
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                self.stats.expiry.store(expiry, Ordering::Relaxed);
                self.stats.reloads.add(1);
                log::info!("{setting}: the certificate files changed and are in use");
            }
            Err(problem) => {
                let problem = problem.to_string();
                if stamps != files.stamps || files.problem.as_ref() != Some(&problem) {
                    self.stats.failed_reloads.add(1);
                    log::error!(
                        "{setting}: the changed certificate files cannot be used, so the \
                         previous ones stay in use: {problem}"
                    );
                }
                files.problem = Some(problem);
            }
        }
        files.stamps = stamps;
        let is_current = files.problem.is_none();
        self.stats.is_current.store(is_current, Ordering::Relaxed);
    }
}
