use super::*;

fn address(last: u8) -> Holder {
    Holder::Address(IpAddr::from([10, 0, 0, last]))
}

struct Listener {
    slots: Arc<Slots>,
    stats: Arc<ListenerStats>,
}

impl Listener {
    fn new(limit: usize) -> Self {
        let stats = Arc::new(ListenerStats::default());
        Listener {
            slots: Slots::new(limit, Arc::clone(&stats)),
            stats,
        }
    }

    fn open(&self, holder: Holder) -> Claim {
        let permit = self.slots.try_permit();
        self.slots.claim(holder, permit.unwrap())
    }

    fn evicted(&self) -> [u64; 4] {
        Eviction::ALL.map(|why| self.stats.evicted(why))
    }
}

/// Pretends that the connection made its last progress `seconds` ago.
fn still(claim: &Claim, seconds: i64) {
    let at = tick() - seconds * 1000;
    claim.slot.progressed_at.store(at, Ordering::Relaxed);
}

fn is_evicted(claims: &[Claim]) -> Vec<bool> {
    claims.iter().map(|claim| claim.slot.is_evicted()).collect()
}

#[tokio::test]
async fn the_stillest_connection_makes_room() {
    let here = Listener::new(3);
    let claims = [1, 1, 1].map(|from| here.open(address(from)));
    still(&claims[0], 2);
    still(&claims[1], 3);
    here.slots.make_room(&[address(1)]);
    assert_eq!(is_evicted(&claims), [false, true, false]);
    claims[1].slot.evicted().await;
    // One that was asked and has not gone yet is room enough for one.
    here.slots.make_room(&[address(1)]);
    assert_eq!(is_evicted(&claims), [false, true, false]);
    here.slots.make_room(&[address(1), address(1)]);
    assert_eq!(is_evicted(&claims), [true, true, false]);
    // Nobody else is still.
    here.slots.make_room(&[address(1); 3]);
    assert_eq!(here.evicted(), [2, 0, 0, 0]);
    assert_eq!(here.stats.open(), 3);
    drop(claims);
    assert_eq!(here.stats.open(), 0);
}

#[test]
fn bytes_are_no_progress_and_completed_messages_are() {
    let here = Listener::new(4);
    let claims = [1; 4].map(|from| here.open(address(from)));
    claims.iter().for_each(|claim| still(claim, 2));
    for _ in 0..GROWTH - 1 {
        claims[0].slot.grow(1);
    }
    claims[1].slot.grow(GROWTH);
    claims[2].slot.complete();
    here.slots.make_room(&[address(1); 4]);
    assert_eq!(is_evicted(&claims), [true, false, false, true]);
}

#[test]
fn many_small_requests_do_not_add_up() {
    let here = Listener::new(3);
    let claims = [1; 3].map(|from| here.open(address(from)));
    claims.iter().for_each(|claim| still(claim, 2));
    for claim in &claims[..2] {
        for _ in 0..10 {
            claim.slot.begin_request();
            claim.slot.count_read(GROWTH / 2);
            claim.slot.end_request(false);
            claim.slot.count_read(GROWTH);
            claim.slot.count_written(GROWTH);
        }
    }
    // A body that comes, and later an answer that is taken.
    claims[0].slot.begin_request();
    claims[0].slot.count_read(GROWTH);
    claims[2].slot.end_request(true);
    still(&claims[2], 2);
    claims[2].slot.count_written(GROWTH);
    here.slots.make_room(&[address(1); 3]);
    assert_eq!(is_evicted(&claims), [false, true, false]);
}

#[test]
fn one_that_never_completed_anything_goes_first() {
    let here = Listener::new(2);
    let claims = [1; 2].map(|from| here.open(address(from)));
    claims[0].slot.complete();
    still(&claims[0], 3);
    still(&claims[1], 2);
    here.slots.make_room(&[address(1)]);
    assert_eq!(is_evicted(&claims), [false, true]);
}

#[test]
fn a_reserve_is_kept_for_those_that_completed_something() {
    let here = Listener::new(8);
    let claims = [1; 8].map(|from| here.open(address(from)));
    for claim in &claims[..2] {
        claim.slot.complete();
        still(claim, 3);
    }
    // All others came just now, and will be still soon.
    here.slots.make_room(&[address(1)]);
    assert_eq!(is_evicted(&claims), [false; 8]);
    still(&claims[5], 2);
    here.slots.make_room(&[address(1); 2]);
    assert_eq!(here.evicted(), [1, 0, 0, 0]);
    assert!(claims[5].slot.is_evicted());
    // More than the reserve are like others.
    claims[2].slot.complete();
    still(&claims[2], 2);
    here.slots.make_room(&[address(1); 2]);
    assert_eq!(here.evicted(), [2, 0, 0, 0]);
    assert!(claims[..3].iter().any(|claim| claim.slot.is_evicted()));
}

#[test]
fn no_address_has_more_than_its_share_while_another_waits() {
    let here = Listener::new(8);
    let claims: Vec<Claim> = (0..8).map(|_| here.open(address(1))).collect();
    claims.iter().for_each(|claim| claim.slot.complete());
    // Alone, it may have all.
    here.slots.make_room(&[address(1)]);
    assert_eq!(here.evicted(), [0; 4]);
    // Of two, each has four.
    here.slots.make_room(&[address(2); 6]);
    assert_eq!(here.evicted(), [0, 4, 0, 0]);
    // Of many, each has one.
    let many: Vec<Holder> = (2..40).map(address).collect();
    here.slots.make_room(&many);
    assert_eq!(here.evicted(), [0, 7, 0, 0]);
}

#[test]
fn who_has_its_share_does_not_take_that_of_others() {
    let here = Listener::new(4);
    let claims = [1, 1, 2, 2].map(|from| here.open(address(from)));
    claims.iter().for_each(|claim| claim.slot.complete());
    still(&claims[2], 2);
    here.slots.make_room(&[address(1)]);
    assert_eq!(here.evicted(), [0; 4]);
    here.slots.make_room(&[address(2)]);
    assert_eq!(is_evicted(&claims), [false, false, true, false]);
}

#[test]
fn who_has_least_is_served_first_and_who_has_most_is_turned_away() {
    let here = Listener::new(4);
    let _claims = [1, 1, 1, 2].map(|from| here.open(address(from)));
    let waiting = [address(1), address(2), address(1), address(3), address(3)];
    assert_eq!(here.slots.first_served(&waiting), 3);
    assert_eq!(here.slots.turned_away(&waiting), 0);
    assert_eq!(here.slots.turned_away(&waiting[1..]), 1);
    assert_eq!(here.evicted(), [0, 0, 2, 0]);
}

#[test]
fn users_addresses_and_networks_are_holders() {
    let tcp = |address: &str| Holder::from(Peer::Tcp(address.parse().unwrap()));
    assert_eq!(tcp("10.0.0.1:1"), tcp("10.0.0.1:2"));
    assert_eq!(tcp("10.0.0.1:1"), tcp("[::ffff:10.0.0.1]:2"));
    assert_ne!(tcp("10.0.0.1:1"), tcp("10.0.0.2:1"));
    assert_eq!(tcp("[2001:db8:1:2::1]:1"), tcp("[2001:db8:1:2:ffff::]:1"));
    assert_ne!(tcp("[2001:db8:1:2::1]:1"), tcp("[2001:db8:1:3::1]:1"));
    assert_ne!(tcp("[::1]:1"), tcp("[::2]:1"));
    let unix = |uid, pid| Holder::from(Peer::Unix { pid, uid });
    assert_eq!(unix(0, Some(1)), unix(0, Some(2)));
    assert_ne!(unix(0, None), unix(1, None));
}
