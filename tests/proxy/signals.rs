//! Signals without a meaning for the program do not end it.

use crate::harness::{Proxy, eventually};
use crate::support::{Sender, logged, text_of};

#[test]
fn signals_that_would_end_it_are_logged_and_ignored() {
    let mut proxy = Proxy::start("");
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"before\":\"m 1\"}");
    for signal in ["USR1", "USR2"] {
        proxy.signal(signal);
        logged(&proxy, &format!("SIG{signal} ignored"), 1);
    }
    // A second signal of a kind has no other effect.
    proxy.signal("USR1");
    let log = logged(&proxy, "SIGUSR1 ignored", 2);
    assert!(!log.contains("stopping"), "{log}");

    // The earlier connection continues, and stored apps are there.
    sender.send(b"{\"after\":\"m 2\"}");
    for name in ["before", "after"] {
        eventually(|| text_of(&proxy, name), Option::is_some);
    }
    assert!(proxy.unix.exists());

    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    assert!(!proxy.unix.exists());
}

#[test]
fn a_hangup_during_the_stop_does_not_cut_it_short() {
    let mut proxy = Proxy::start("");
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"app\":\"m 1\"}{\"app\":");
    eventually(|| text_of(&proxy, "app"), Option::is_some);
    proxy.signal("TERM");
    logged(&proxy, "SIGTERM: stopping", 1);
    proxy.signal("HUP");
    logged(&proxy, "SIGHUP ignored: ", 1);
    sender.send(b"\"m 2\"}");
    sender.half_close();
    assert_eq!(sender.read_to_end(), "");
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
}
