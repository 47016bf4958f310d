use std::net::IpAddr;

use super::*;
use crate::peer::Peer;

fn address(last: u8) -> Sender {
    Sender::Address(IpAddr::from([10, 0, 0, last]))
}

struct Listener {
    permits: Arc<Permits>,
    stats: Arc<ListenerStats>,
}

impl Listener {
    fn new(limit: usize) -> Self {
        let stats = Arc::new(ListenerStats::default());
        Listener {
            permits: Permits::new(limit, Arc::clone(&stats)),
            stats,
        }
    }

    fn open(&self, holder: Sender) -> Permit {
        let acquired = self.permits.try_acquire();
        self.permits.assign(holder, acquired.unwrap())
    }

    fn evicted(&self) -> [u64; 4] {
        Eviction::ALL.map(|why| self.stats.evicted(why))
    }
}

/// Moves the connection's last progress to `seconds` ago.
fn idle(connection: &Permit, seconds: i64) {
    let at = tick() - seconds * 1000;
    connection.progress.at.store(at, Ordering::Relaxed);
}

fn is_evicted(connections: &[Permit]) -> Vec<bool> {
    connections
        .iter()
        .map(|connection| connection.progress.is_evicted())
        .collect()
}

#[tokio::test]
async fn the_longest_idle_connection_is_evicted() {
    let here = Listener::new(3);
    let connections = [1, 1, 1].map(|from| here.open(address(from)));
    idle(&connections[0], 2);
    idle(&connections[1], 3);
    here.permits.make_room(&[address(1)]);
    assert_eq!(is_evicted(&connections), [false, true, false]);
    connections[1].progress.evicted().await;
    // An evicted connection that is still open counts as making room for one.
    here.permits.make_room(&[address(1)]);
    assert_eq!(is_evicted(&connections), [false, true, false]);
    here.permits.make_room(&[address(1), address(1)]);
    assert_eq!(is_evicted(&connections), [true, true, false]);
    // No other connection is idle.
    here.permits.make_room(&[address(1); 3]);
    assert_eq!(here.evicted(), [2, 0, 0, 0]);
    assert_eq!(here.stats.open(), 3);
    drop(connections);
    assert_eq!(here.stats.open(), 0);
}

#[test]
fn few_bytes_are_no_progress_but_completed_messages_are() {
    let here = Listener::new(4);
    let connections = [1; 4].map(|from| here.open(address(from)));
    connections
        .iter()
        .for_each(|connection| idle(connection, 2));
    for _ in 0..GROWTH - 1 {
        connections[0].progress.add_bytes(1);
    }
    connections[1].progress.add_bytes(GROWTH);
    connections[2].progress.complete();
    here.permits.make_room(&[address(1); 4]);
    assert_eq!(is_evicted(&connections), [true, false, false, true]);
}

#[test]
fn bytes_of_small_requests_do_not_add_up() {
    let here = Listener::new(3);
    let connections = [1; 3].map(|from| here.open(address(from)));
    connections
        .iter()
        .for_each(|connection| idle(connection, 2));
    for connection in &connections[..2] {
        for _ in 0..10 {
            connection.progress.begin_request();
            connection.progress.count_read(GROWTH / 2);
            connection.progress.end_request(false);
            connection.progress.count_read(GROWTH);
            connection.progress.count_written(GROWTH);
        }
    }
    // First a body that is received, then a response that is sent.
    connections[0].progress.begin_request();
    connections[0].progress.count_read(GROWTH);
    connections[2].progress.end_request(true);
    idle(&connections[2], 2);
    connections[2].progress.count_written(GROWTH);
    here.permits.make_room(&[address(1); 3]);
    assert_eq!(is_evicted(&connections), [false, true, false]);
}

#[test]
fn unproven_connections_are_evicted_first() {
    let here = Listener::new(2);
    let connections = [1; 2].map(|from| here.open(address(from)));
    connections[0].progress.complete();
    idle(&connections[0], 3);
    idle(&connections[1], 2);
    here.permits.make_room(&[address(1)]);
    assert_eq!(is_evicted(&connections), [false, true]);
}

#[test]
fn a_reserve_protects_proven_connections() {
    let here = Listener::new(8);
    let connections = [1; 8].map(|from| here.open(address(from)));
    for connection in &connections[..2] {
        connection.progress.complete();
        idle(connection, 3);
    }
    // The others have just been opened and are not idle yet.
    here.permits.make_room(&[address(1)]);
    assert_eq!(is_evicted(&connections), [false; 8]);
    idle(&connections[5], 2);
    here.permits.make_room(&[address(1); 2]);
    assert_eq!(here.evicted(), [1, 0, 0, 0]);
    assert!(connections[5].progress.is_evicted());
    // Proven connections beyond the reserve are evicted like others.
    connections[2].progress.complete();
    idle(&connections[2], 2);
    here.permits.make_room(&[address(1); 2]);
    assert_eq!(here.evicted(), [2, 0, 0, 0]);
    assert!(
        connections[..3]
            .iter()
            .any(|connection| connection.progress.is_evicted())
    );
}

#[test]
fn an_address_is_cut_to_its_share_while_another_waits() {
    let here = Listener::new(8);
    let connections: Vec<Permit> = (0..8).map(|_| here.open(address(1))).collect();
    connections
        .iter()
        .for_each(|connection| connection.progress.complete());
    // A holder that is alone may take every permit.
    here.permits.make_room(&[address(1)]);
    assert_eq!(here.evicted(), [0; 4]);
    // Two holders share eight permits: four each.
    here.permits.make_room(&[address(2); 6]);
    assert_eq!(here.evicted(), [0, 4, 0, 0]);
    // Among many holders, each gets one.
    let many: Vec<Sender> = (2..40).map(address).collect();
    here.permits.make_room(&many);
    assert_eq!(here.evicted(), [0, 7, 0, 0]);
}

#[test]
fn a_holder_at_its_share_evicts_only_its_own() {
    let here = Listener::new(4);
    let connections = [1, 1, 2, 2].map(|from| here.open(address(from)));
    connections
        .iter()
        .for_each(|connection| connection.progress.complete());
    idle(&connections[2], 2);
    here.permits.make_room(&[address(1)]);
    assert_eq!(here.evicted(), [0; 4]);
    here.permits.make_room(&[address(2)]);
    assert_eq!(is_evicted(&connections), [false, false, true, false]);
}

#[test]
fn the_smallest_holder_is_served_and_the_largest_turned_away() {
    let here = Listener::new(4);
    let _connections = [1, 1, 1, 2].map(|from| here.open(address(from)));
    let waiting = [address(1), address(2), address(1), address(3), address(3)];
    assert_eq!(here.permits.next_served(&waiting), 3);
    assert_eq!(here.permits.turned_away(&waiting), 0);
    assert_eq!(here.permits.turned_away(&waiting[1..]), 1);
    assert_eq!(here.evicted(), [0, 0, 2, 0]);
}

#[test]
fn holders_are_users_addresses_and_networks() {
    let tcp = |address: &str| Sender::from(Peer::Tcp(address.parse().unwrap()));
    assert_eq!(tcp("10.0.0.1:1"), tcp("10.0.0.1:2"));
    assert_eq!(tcp("10.0.0.1:1"), tcp("[::ffff:10.0.0.1]:2"));
    assert_ne!(tcp("10.0.0.1:1"), tcp("10.0.0.2:1"));
    assert_eq!(tcp("[2001:db8:1:2::1]:1"), tcp("[2001:db8:1:2:ffff::]:1"));
    assert_ne!(tcp("[2001:db8:1:2::1]:1"), tcp("[2001:db8:1:3::1]:1"));
    assert_ne!(tcp("[::1]:1"), tcp("[::2]:1"));
    let unix = |uid, pid| Sender::from(Peer::Unix { pid, uid });
    assert_eq!(unix(0, Some(1)), unix(0, Some(2)));
    assert_ne!(unix(0, None), unix(1, None));
}

#[test]
fn a_client_that_a_balancer_names_holds_the_permit() {
    let here = Listener::new(4);
    let balancer = address(1);
    let connections: Vec<Permit> = (0..4).map(|_| here.open(balancer)).collect();
    for (connection, client) in connections.iter().zip([2, 2, 2, 3]) {
        connection.progress().set_client(address(client));
    }
    // Client 2 holds more than its share, and the balancer brings another client.
    assert!(here.permits.make_room(&[balancer]));
    let evicted = is_evicted(&connections);
    assert_eq!(evicted.iter().filter(|it| **it).count(), 1, "{evicted:?}");
    assert!(!evicted[3]);
    assert_eq!(here.evicted(), [0, 1, 0, 0]);
}
