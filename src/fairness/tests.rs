use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::SenderLimits;
use super::*;
use crate::telemetry::Resource;

const SECOND: Duration = Duration::from_secs(1);

fn rates(messages: Option<usize>, bytes: Option<usize>) -> SenderLimits {
    SenderLimits {
        messages_per_second: messages,
        bytes_per_second: bytes,
        ..SenderLimits::default()
    }
}

fn fairness(limits: Limits) -> (Fairness, Instant) {
    let now = Instant::now();
    (Fairness::new(limits, &Arc::default(), now), now)
}

fn peer(address: &str) -> Peer {
    Peer::Forwarded(address.parse().unwrap())
}

#[test]
fn a_sender_is_held_to_its_rate_and_can_save_a_burst() {
    let limits = Limits {
        burst: 2 * SECOND,
        address: rates(Some(10), None),
        ..Limits::default()
    };
    let (fairness, start) = fairness(limits);
    let account = fairness.account(peer("192.0.2.1"), None);
    let mut passed = 0;
    for tenth in 0..100 {
        let now = start + tenth * SECOND / 100;
        while account.check(now).is_ok() {
            account.charge(1, 1000, now);
            passed += 1;
        }
    }
    // The burst, one message that overdraws the bucket, and the amount that came back in a second.
    assert!((29..=31).contains(&passed), "{passed}");
    let now = start + SECOND * 99 / 100;
    let excess = account.check(now).unwrap_err();
    assert_eq!(
        (excess.limited, excess.resource),
        (Limited::Address, Resource::Messages)
    );
    assert_eq!(
        excess.to_string(),
        "this address sends more than 10 messages each second \
         (limits.address.messages_per_second): try again in 1 s"
    );
    assert_eq!(account.check(now + excess.wait), Ok(()));
    // Other senders are not affected.
    assert_eq!(fairness.account(peer("192.0.2.2"), None).check(now), Ok(()));
}

#[test]
fn a_message_above_the_rate_passes_and_is_paid_for() {
    let limits = Limits {
        app: rates(None, Some(100)),
        ..Limits::default()
    };
    let (fairness, now) = fairness(limits);
    let app = fairness.app("shop").unwrap();
    assert_eq!(app.check(now), Ok(()));
    app.charge(1, 1100, now);
    let excess = fairness.app("shop").unwrap().check(now).unwrap_err();
    assert_eq!(excess.wait, 10 * SECOND);
    assert_eq!(fairness.app("bank").unwrap().check(now), Ok(()));
}

#[test]
fn series_and_messages_are_charged_separately() {
    let limits = Limits {
        address: SenderLimits {
            new_series_per_second: Some(10),
            ..SenderLimits::default()
        },
        ..Limits::default()
    };
    let (fairness, now) = fairness(limits);
    let account = fairness.account(peer("192.0.2.1"), None);
    account.charge(1000, 1000, now);
    account.charge_series(0, now);
    assert_eq!(account.check(now), Ok(()));
    account.charge_series(110, now);
    let excess = account.check(now).unwrap_err();
    assert_eq!(excess.wait, 10 * SECOND);
    assert_eq!(
        excess.to_string(),
        "this address sends more than 10 new series each second \
         (limits.address.new_series_per_second): try again in 10 s"
    );
    let other = fairness.account(peer("192.0.2.2"), None);
    assert!(other.check(now).is_ok() && !account.charges_series_like(&other));
    let again = fairness.account(peer("192.0.2.1"), None);
    assert!(account.charges_series_like(&again));
    assert!(Account::default().charges_series_like(&Account::default()));
    assert!(!Account::default().charges_series_like(&account));
}

#[test]
fn senders_are_told_apart_by_network_and_user() {
    let limits = Limits {
        address: rates(Some(1), None),
        user: rates(Some(1), None),
        ..Limits::default()
    };
    let (fairness, now) = fairness(limits);
    let spend = |address: &str, user| fairness.account(peer(address), user).charge(10, 0, now);
    let may = |address: &str, user| fairness.account(peer(address), user).check(now).is_ok();
    spend("2001:db8::1", Some("alice"));
    assert!(!may("2001:db8::2", None));
    assert!(may("2001:db8:0:1::1", None));
    assert!(!may("192.0.2.1", Some("alice")));
    assert!(may("192.0.2.1", Some("bob")));
    // An IPv6-mapped IPv4 address counts as the IPv4 address.
    spend("::ffff:192.0.2.7", None);
    assert!(!may("192.0.2.7", None));
    assert!(may("192.0.2.8", None));
}

#[test]
fn this_machine_is_limited_only_where_the_settings_say_so() {
    let limits = Limits {
        address: rates(Some(1), None),
        ..Limits::default()
    };
    let unix = Peer::Unix { pid: None, uid: 7 };
    let (fairness, _) = fairness(limits.clone());
    for local in [
        peer("127.0.0.1"),
        peer("127.9.9.9"),
        peer("::1"),
        unix,
        Peer::Unknown,
    ] {
        assert!(!fairness.account(local, None).is_limited(), "{local}");
    }
    assert!(fairness.account(peer("192.0.2.1"), None).is_limited());
    fairness.set_limits(Limits {
        loopback: true,
        ..limits
    });
    assert!(fairness.account(unix, None).is_limited());
    assert!(fairness.account(peer("::1"), None).is_limited());
}

#[test]
fn accounts_follow_changed_limits() {
    let (fairness, now) = fairness(Limits::default());
    assert!(!fairness.is_active() && fairness.app("a").is_none());
    let sender = peer("192.0.2.1");
    let mut account = fairness.account(sender, None);
    assert!(!account.is_limited());
    let slow = Limits {
        address: rates(Some(1), None),
        ..Limits::default()
    };
    fairness.set_limits(slow);
    fairness.renew(&mut account, sender, None);
    account.charge(11, 0, now);
    assert_eq!(account.check(now).unwrap_err().wait, 10 * SECOND);
    fairness.set_limits(Limits::default());
    fairness.renew(&mut account, sender, None);
    assert!(!account.is_limited() && account.check(now).is_ok());
}
