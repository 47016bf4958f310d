//! Operations that came in, by transport and result.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Counter, ResultCounts, UsageGauge};
use crate::reason::Reason;

/// How operations come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
    Unix,
    UnixDatagram,
}

impl Transport {
    /// In the order of their names.
    pub const ALL: [Transport; 4] = [
        Transport::Tcp,
        Transport::Udp,
        Transport::Unix,
        Transport::UnixDatagram,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Unix => "unix",
            Transport::UnixDatagram => "unix_datagram",
        }
    }
}

/// Counts of all sockets for operations.
#[derive(Debug, Default)]
pub struct OperationStats {
    transports: [TransportStats; Transport::ALL.len()],
    udp_losses: Mutex<UdpLosses>,
    /// Operations to be sent on.
    pub forwarded: ResultCounts,
    /// Bytes of operations that wait to be sent on.
    pub queued: UsageGauge,
}

/// What the kernel dropped at our UDP sockets.
#[derive(Debug, Default)]
struct UdpLosses {
    /// The kernel's numbers of the sockets, which it counts losses by.
    sockets: Vec<u64>,
    known: Option<KnownLosses>,
}

/// What the kernel told last.
#[derive(Debug, Clone, Copy)]
struct KnownLosses {
    lost: Option<u64>,
    /// How often something had been taken before.
    takes: u64,
    read: Instant,
}

/// For so long it is not asked again while nothing comes. It also drops what is
/// damaged, which leaves nothing to be taken.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// Counts of one transport.
#[derive(Debug, Default)]
struct TransportStats {
    /// Whether there is a socket of it.
    used: AtomicBool,
    /// How often something was taken.
    takes: Counter,
    bytes: Counter,
    messages: ResultCounts,
}

impl OperationStats {
    /// Notes that there is a socket of that transport, so that its counts are
    /// shown.
    pub fn use_transport(&self, transport: Transport) {
        self.of(transport).used.store(true, Ordering::Relaxed);
    }

    /// Notes a UDP socket by the number of its inode.
    pub fn add_udp_socket(&self, inode: u64) {
        let mut losses = self.udp_losses();
        losses.sockets.push(inode);
        losses.known = None;
    }

    /// Counts what was taken at once.
    pub fn count_taken(&self, transport: Transport, bytes: usize) {
        let stats = self.of(transport);
        stats.bytes.add(bytes as u64);
        stats.takes.add(1);
    }

    /// Counts messages that were applied, or sent on.
    pub fn count_applied(&self, transport: Transport, messages: usize) {
        let stats = self.of(transport);
        stats.messages.count(Ok(()), messages as u64);
    }

    pub fn count_refused(&self, transport: Transport, reason: Reason) {
        self.of(transport).messages.count(Err(reason), 1);
    }

    /// Whether operations come in at all.
    pub(super) fn is_used(&self) -> bool {
        self.used().next().is_some()
    }

    /// The transports in use, each with its bytes.
    pub(super) fn bytes(&self) -> Vec<(Transport, u64)> {
        self.used()
            .map(|(transport, stats)| (transport, stats.bytes.value()))
            .collect()
    }

    /// Messages by transport and result.
    pub(super) fn results(&self) -> Vec<(Transport, &'static str, u64)> {
        self.used()
            .flat_map(|(transport, stats)| {
                let counts = stats.messages.counts().into_iter();
                counts.map(move |(result, count)| (transport, result, count))
            })
            .collect()
    }

    /// Datagrams that the kernel dropped since our UDP sockets had no room;
    /// `None` where there is no such socket, or no kernel that tells.
    ///
    /// The kernel takes long to list its sockets, so it is not asked again for
    /// a while where nothing came: a socket that has no room has what is still
    /// to be taken.
    pub(super) fn lost(&self, now: Instant) -> Option<u64> {
        self.lost_by(now, || {
            let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"];
            let tables = tables.into_iter();
            tables
                .filter_map(|path| fs::read_to_string(path).ok())
                .collect()
        })
    }

    fn lost_by(&self, now: Instant, tables: impl FnOnce() -> Vec<String>) -> Option<u64> {
        let mut losses = self.udp_losses();
        if losses.sockets.is_empty() {
            return None;
        }
        let takes = self.of(Transport::Udp).takes.value();
        let is_known = |known: &KnownLosses| {
            known.takes == takes && now.saturating_duration_since(known.read) < KNOWN_FOR
        };
        if let Some(known) = losses.known.filter(is_known) {
            return known.lost;
        }
        let mut lost = None;
        for table in tables() {
            *lost.get_or_insert(0) += dropped(&table, &losses.sockets);
        }
        let read = now;
        losses.known = Some(KnownLosses { lost, takes, read });
        lost
    }

    fn udp_losses(&self) -> MutexGuard<'_, UdpLosses> {
        self.udp_losses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, transport: Transport) -> &TransportStats {
        &self.transports[transport as usize]
    }

    fn used(&self) -> impl Iterator<Item = (Transport, &TransportStats)> {
        Transport::ALL
            .into_iter()
            .map(|transport| (transport, self.of(transport)))
            .filter(|(_, stats)| stats.used.load(Ordering::Relaxed))
    }
}

/// What the kernel's table says was dropped at these sockets.
fn dropped(table: &str, inodes: &[u64]) -> u64 {
    const INODE: usize = 9;
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let inode: u64 = fields.nth(INODE)?.parse().ok()?;
            if !inodes.contains(&inode) {
                return None;
            }
            fields.last()?.parse::<u64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  127: 0100007F:270F 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 12
  128: 0100007F:2710 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 30
";

    #[test]
    fn losses_are_read_from_the_kernels_table() {
        assert_eq!(dropped(TABLE, &[4711]), 12);
        assert_eq!(dropped(TABLE, &[4711, 4712]), 42);
        assert_eq!(dropped(TABLE, &[7]), 0);
        assert_eq!(dropped("", &[7]), 0);
    }

    #[test]
    fn the_kernel_is_asked_again_once_something_came_or_after_a_while() {
        let stats = OperationStats::default();
        let begun = Instant::now();
        let lost = |seconds, table: &str| {
            let now = begun + Duration::from_secs(seconds);
            stats.lost_by(now, || vec![table.to_owned()])
        };
        stats.add_udp_socket(4711);
        assert_eq!(lost(0, TABLE), Some(12));
        assert_eq!(lost(9, ""), Some(12), "nothing came");
        stats.count_taken(Transport::Unix, 5);
        assert_eq!(lost(9, ""), Some(12), "nothing came by UDP");
        stats.count_taken(Transport::Udp, 0);
        assert_eq!(lost(9, ""), Some(0));
        assert_eq!(lost(19, TABLE), Some(12), "it is a while ago");
        stats.add_udp_socket(4712);
        assert_eq!(lost(19, TABLE), Some(42), "there is another socket");
    }

    #[test]
    fn only_what_is_used_is_told() {
        let stats = OperationStats::default();
        let lost = stats.lost(Instant::now());
        assert_eq!((stats.bytes(), lost), (vec![], None));
        stats.use_transport(Transport::Unix);
        stats.count_applied(Transport::Unix, 3);
        stats.count_refused(Transport::Unix, Reason::BadValue);
        let (unix, bad) = (Transport::Unix, "bad_value");
        assert_eq!(stats.results(), [(unix, bad, 1), (unix, "ok", 3)]);
    }
}
