//! Counts of operations, by transport and result.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Counter, ResultCounts, SinkStats};
use crate::live::Live;
use crate::reason::Reason;

/// The kind of socket that operations come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// A UDP socket.
    Udp,
    /// A connection to a Unix stream socket.
    Unix,
    /// A Unix datagram socket.
    UnixDatagram,
}

impl Transport {
    /// All transports, sorted by name.
    pub const ALL: [Transport; 4] = [
        Transport::Tcp,
        Transport::Udp,
        Transport::Unix,
        Transport::UnixDatagram,
    ];

    /// The value of the label `transport`.
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
    /// The sink that operations are forwarded to.
    forwarded: Live<SinkStats>,
    mapping: MappingStats,
}

/// Results of the rules for StatsD names.
#[derive(Debug, Default)]
pub struct MappingStats {
    /// Lines that a rule gave a family.
    pub mapped: Counter,
    /// Lines that a rule dropped.
    pub dropped: Counter,
    /// Lines that no rule matched.
    pub unmapped: Counter,
    /// Names found in the cache.
    pub cache_hits: Counter,
    /// Names that had to be compared with the rules.
    pub cache_misses: Counter,
    loaded: Live<Option<Arc<LoadedMapping>>>,
}

impl MappingStats {
    /// Sets the rules in use.
    pub fn load(&self, mapping: Option<Arc<LoadedMapping>>) {
        self.loaded.set(mapping);
    }

    /// The rules in use.
    pub(super) fn loaded(&self) -> Option<Arc<LoadedMapping>> {
        Option::clone(&self.loaded.load())
    }
}

/// Rules for StatsD names that are in use.
#[derive(Debug)]
pub struct LoadedMapping {
    /// The number of rules.
    pub(super) rules: usize,
    cached: Arc<AtomicUsize>,
}

impl LoadedMapping {
    /// A number of rules, and the shared count of names in their cache.
    pub fn new(rules: usize, cached: Arc<AtomicUsize>) -> Self {
        LoadedMapping { rules, cached }
    }

    /// The number of names in the cache.
    pub(super) fn cached(&self) -> usize {
        self.cached.load(Ordering::Relaxed)
    }
}

/// Datagrams that the kernel dropped at our UDP sockets.
#[derive(Debug, Default)]
struct UdpLosses {
    /// The inodes of the open sockets. The kernel lists losses by inode.
    sockets: Vec<u64>,
    /// The sum of the losses of closed sockets; `None` before one was closed, and if the kernel
    /// has no tables.
    closed: Option<u64>,
    last_read: Option<LossReading>,
}

/// One reading of the kernel's tables.
#[derive(Debug, Clone, Copy)]
struct LossReading {
    lost: Option<u64>,
    /// The number of reads from UDP sockets at that time.
    reads: u64,
    at: Instant,
}

/// How long a reading is valid while no datagram arrives. The kernel also drops damaged
/// datagrams, which leave nothing to read.
const MAX_READING_AGE: Duration = Duration::from_secs(10);

/// Counts of one transport.
#[derive(Debug, Default)]
struct TransportStats {
    /// Whether a socket of this transport is configured.
    used: AtomicBool,
    /// Reads that returned bytes or datagrams.
    reads: Counter,
    bytes: Counter,
    messages: ResultCounts,
}

impl OperationStats {
    /// Records that a socket of this transport is configured. Only then are its counts
    /// exposed.
    pub fn use_transport(&self, transport: Transport) {
        self.of(transport).used.store(true, Ordering::Relaxed);
    }

    /// Counts the losses of a UDP socket, named by its inode, until the returned value is
    /// dropped. Drop that before the socket: the kernel lists open sockets only.
    pub fn add_udp_socket(self: &Arc<Self>, inode: u64) -> CountedUdpSocket {
        let mut losses = self.udp_losses();
        losses.sockets.push(inode);
        losses.last_read = None;
        CountedUdpSocket {
            stats: Arc::clone(self),
            inode,
        }
    }

    fn remove_udp_socket(&self, inode: u64, tables: &[String]) {
        let mut losses = self.udp_losses();
        let Some(at) = losses.sockets.iter().position(|socket| *socket == inode) else {
            return;
        };
        losses.sockets.swap_remove(at);
        for table in tables {
            *losses.closed.get_or_insert(0) += dropped(table, &[inode]);
        }
        losses.last_read = None;
    }

    /// Counts bytes that one read returned.
    pub fn count_received(&self, transport: Transport, bytes: usize) {
        let stats = self.of(transport);
        stats.bytes.add(bytes as u64);
        stats.reads.add(1);
    }

    /// Counts messages that were applied, or handed to the sink.
    pub fn count_applied(&self, transport: Transport, messages: usize) {
        let stats = self.of(transport);
        stats.messages.count(Ok(()), messages as u64);
    }

    /// Counts a rejected message.
    pub fn count_rejected(&self, transport: Transport, reason: Reason) {
        self.of(transport).messages.count(Err(reason), 1);
    }

    /// Sets the sink that operations are forwarded to, if there is one.
    pub fn forward_to(&self, sink: Option<&Arc<SinkStats>>) {
        self.forwarded.set_shared(sink.cloned().unwrap_or_default());
    }

    /// The sink that operations are forwarded to; without one, empty statistics.
    pub fn forwarded(&self) -> Arc<SinkStats> {
        self.forwarded.load()
    }

    /// Results of the rules for StatsD names.
    pub fn mapping(&self) -> &MappingStats {
        &self.mapping
    }

    /// Whether any socket is configured.
    pub(super) fn is_used(&self) -> bool {
        self.used().next().is_some()
    }

    /// The transports in use, with the bytes received.
    pub(super) fn bytes(&self) -> Vec<(Transport, u64)> {
        self.used()
            .map(|(transport, stats)| (transport, stats.bytes.value()))
            .collect()
    }

    /// Messages by transport and result.
    pub fn results(&self) -> Vec<(Transport, &'static str, u64)> {
        self.used()
            .flat_map(|(transport, stats)| {
                let counts = stats.messages.counts().into_iter();
                counts.map(move |(result, count)| (transport, result, count))
            })
            .collect()
    }

    /// Datagrams that the kernel dropped because the buffers of our UDP sockets
    /// were full, closed ones included. `None` if there was no such socket, or if the
    /// kernel has no tables.
    ///
    /// Listing all sockets takes the kernel long. So the tables are read again only after a
    /// datagram arrived, since a full buffer always has some to read, or after a while.
    pub(super) fn lost(&self, now: Instant) -> Option<u64> {
        self.lost_by(now, udp_tables)
    }

    fn lost_by(&self, now: Instant, tables: impl FnOnce() -> Vec<String>) -> Option<u64> {
        let mut losses = self.udp_losses();
        if losses.sockets.is_empty() {
            return losses.closed;
        }
        let reads = self.of(Transport::Udp).reads.value();
        let is_current = |last: &LossReading| {
            last.reads == reads && now.saturating_duration_since(last.at) < MAX_READING_AGE
        };
        if let Some(last) = losses.last_read.filter(is_current) {
            return last.lost;
        }
        let mut lost = losses.closed;
        for table in tables() {
            *lost.get_or_insert(0) += dropped(&table, &losses.sockets);
        }
        let at = now;
        losses.last_read = Some(LossReading { lost, reads, at });
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

/// A UDP socket whose losses are counted. Dropping it reads them for the last time.
#[derive(Debug)]
pub struct CountedUdpSocket {
    stats: Arc<OperationStats>,
    inode: u64,
}

impl Drop for CountedUdpSocket {
    fn drop(&mut self) {
        self.stats.remove_udp_socket(self.inode, &udp_tables());
    }
}

/// The kernel's tables of UDP sockets.
fn udp_tables() -> Vec<String> {
    let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"].into_iter();
    tables
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect()
}

/// Sums the drops of these sockets in one of the kernel's tables. `/proc/net/udp`
/// has the inode in the tenth column, and the drops in the last.
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
    fn the_tables_are_read_again_after_a_datagram_or_after_a_while() {
        let stats = Arc::new(OperationStats::default());
        let begun = Instant::now();
        let lost = |seconds, table: &str| {
            let now = begun + Duration::from_secs(seconds);
            stats.lost_by(now, || vec![table.to_owned()])
        };
        let _first = stats.add_udp_socket(4711);
        assert_eq!(lost(0, TABLE), Some(12));
        assert_eq!(lost(9, ""), Some(12), "no datagram arrived");
        stats.count_received(Transport::Unix, 5);
        assert_eq!(lost(9, ""), Some(12), "no UDP datagram arrived");
        stats.count_received(Transport::Udp, 0);
        assert_eq!(lost(9, ""), Some(0));
        assert_eq!(lost(19, TABLE), Some(12), "the reading is too old");
        let _second = stats.add_udp_socket(4712);
        assert_eq!(lost(19, TABLE), Some(42), "a socket was added");
    }

    #[test]
    fn the_losses_of_closed_sockets_still_count() {
        let stats = Arc::new(OperationStats::default());
        let lost = |table: &str| stats.lost_by(Instant::now(), || vec![table.to_owned()]);
        let sockets = [4711, 4712].map(|inode| stats.add_udp_socket(inode));
        assert_eq!(lost(TABLE), Some(42));
        stats.remove_udp_socket(4711, &[TABLE.to_owned()]);
        // A later socket of another program may get the same inode.
        assert_eq!(lost(TABLE), Some(42));
        stats.remove_udp_socket(4712, &[TABLE.to_owned()]);
        assert_eq!(lost(TABLE), Some(42));
        drop(sockets);
        assert_eq!(lost(TABLE), Some(42), "there is no such socket");
        assert_eq!(stats.udp_losses().sockets, [0; 0]);
    }

    #[test]
    fn only_transports_in_use_have_counts() {
        let stats = OperationStats::default();
        let lost = stats.lost(Instant::now());
        assert_eq!((stats.bytes(), lost), (vec![], None));
        stats.use_transport(Transport::Unix);
        stats.count_applied(Transport::Unix, 3);
        stats.count_rejected(Transport::Unix, Reason::BadValue);
        let (unix, bad) = (Transport::Unix, "bad_value");
        assert_eq!(stats.results(), [(unix, bad, 1), (unix, "ok", 3)]);
    }
}
