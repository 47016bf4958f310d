//! The certificate and rules of a listener, which follow their files.

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

/// The minimum time between two looks at the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The TLS side of a listener. A handshake uses the newest files that are valid;
/// connections that are open keep what they began with.
#[derive(Debug)]
pub struct TlsServer {
    settings: TlsSettings,
    protocols: Protocols,
    current: RwLock<Arc<ServerConfig>>,
    files: Mutex<Files>,
    stats: Arc<CertificateStats>,
}

/// The files as they were last read.
#[derive(Debug)]
struct Files {
    checked: Instant,
    stamps: Stamps,
    /// The problem of the last attempt, which was logged.
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
    /// Reads the files of `settings`, which are the value of `setting`, such as
    /// `receiver.tls`.
    ///
    /// # Errors
    ///
    /// A file cannot be used, or the settings do not fit together.
    pub fn new(
        settings: &TlsSettings,
        setting: &str,
        protocols: Protocols,
    ) -> Result<Self, TlsError> {
        // Before the files are read: a change meanwhile is then noticed.
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

    /// Whether it was made of these settings.
    pub fn is_of(&self, settings: &TlsSettings, setting: &str, protocols: Protocols) -> bool {
        self.settings == *settings && self.setting() == setting && self.protocols == protocols
    }

    /// Shows the certificate in the own metrics.
    pub fn register(&self, telemetry: &Telemetry) {
        telemetry.add_certificate(&self.stats);
    }

    /// The configuration for a handshake. Once a second at most, the files are looked
    /// at on another thread, and read again if they changed.
    pub(super) async fn config(self: &Arc<Self>) -> Arc<ServerConfig> {
        if self.is_check_due() {
            let server = Arc::clone(self);
            // Only a panic makes it fail; the configuration before stays.
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

    /// Whether the files were not looked at for a while, and no one does now.
    fn is_check_due(&self) -> bool {
        let files = match self.files.try_lock() {
            Ok(files) => files,
            Err(TryLockError::Poisoned(files)) => files.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        files.checked.elapsed() >= CHECK_INTERVAL
    }

    /// Reads the files again if they changed. Files that cannot be used are logged, and
    /// those before stay in use.
    fn check(&self) {
        let files = self.files.lock();
        let mut files = files.unwrap_or_else(PoisonError::into_inner);
        if files.checked.elapsed() < CHECK_INTERVAL {
            return;
        }
        files.checked = clock::tick();
        let stamps = Stamps::take(&self.settings);
        // After a failure, try again: several files may be on the way.
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
                        "{setting}: the changed certificate files cannot be used, and those \
                         before stay in use: {problem}"
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
