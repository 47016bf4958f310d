//! Which callers have a role, by settings and connection.

use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::peer::{ClientIdentity, Peer};
use crate::reason::Reason;
use crate::settings::document::parse_toml;
use crate::settings::reader::{Faults, Table};

/// Access by the settings of a `[web]` table.
fn access(web: &str) -> Access {
    let mut errors = Vec::new();
    let entries = parse_toml("test.toml", web, &mut errors);
    let faults = Faults::default();
    let mut table = Table::root(entries, &faults);
    let web = config::read(&mut table);
    table.finish();
    let (found, _) = faults.into_inner();
    assert!(
        errors.is_empty() && found.is_empty(),
        "{errors:?} {found:?}"
    );
    Access::new(&web, &Arc::default()).unwrap()
}

fn tcp(listener: ListenerKind, address: &str) -> Caller {
    Caller {
        listener,
        peer: Peer::Tcp(SocketAddr::new(address.parse().unwrap(), 1)),
        gid: None,
        identity: None,
    }
}

fn unix(uid: u32, gid: u32) -> Caller {
    Caller {
        listener: ListenerKind::Receiver,
        peer: Peer::Unix { pid: None, uid },
        gid: Some(gid),
        identity: None,
    }
}

/// The roles that a caller has by its connection.
fn roles(access: &Access, caller: &Caller) -> Vec<&'static str> {
    let has = |role: &Role| access.authorize_connection(*role, caller).is_ok();
    let roles = Role::ALL.iter().copied().filter(|role| has(role));
    roles.map(Role::as_str).collect()
}

#[test]
fn a_role_without_an_entry_is_everyones_and_admin_follows_write() {
    let anyone = tcp(ListenerKind::Http, "192.0.2.1");
    let friend = tcp(ListenerKind::Http, "10.0.0.1");
    let all = ["read", "write", "admin"];
    assert_eq!(roles(&access(""), &anyone), all);
    let write = access("[[access]]\nrole = \"write\"\nallow_from = \"10.0.0.0/8\"\n");
    assert_eq!(roles(&write, &anyone), ["read"]);
    assert_eq!(roles(&write, &friend), all);
    let bound =
        access("[[access]]\nrole = \"write\"\nallow_from = \"10.0.0.0/8\"\napps = [\"a\"]\n");
    assert_eq!(roles(&bound, &friend), ["read", "write"]);
    let admin = access("[[access]]\nrole = \"admin\"\nallow_from = \"10.0.0.0/8\"\n");
    assert_eq!(roles(&admin, &anyone), ["read", "write"]);
    assert_eq!(roles(&admin, &friend), all);
    let read = access("[[access]]\nrole = \"read\"\nallow_from = \"10.0.0.0/8\"\n");
    assert_eq!(roles(&read, &anyone), ["write", "admin"]);
}

#[test]
fn entries_hold_for_their_listeners() {
    let access = access(
        "[[access]]\nrole = [\"read\", \"write\"]\nallow_from = \"10.0.0.1\"\nlisteners = [\"receiver\"]\n\
         [[access]]\nrole = \"admin\"\nallow_from = \"10.0.0.2\"\n",
    );
    for (listener, address, expected) in [
        (ListenerKind::Receiver, "10.0.0.1", &["read", "write"][..]),
        (ListenerKind::Http, "10.0.0.1", &[]),
        (ListenerKind::Operations, "10.0.0.1", &[]),
        (
            ListenerKind::Operations,
            "10.0.0.2",
            &["read", "write", "admin"],
        ),
        (ListenerKind::Receiver, "10.0.0.3", &[]),
    ] {
        assert_eq!(
            roles(&access, &tcp(listener, address)),
            expected,
            "{address}"
        );
    }
}

#[test]
fn unix_users_and_groups_are_those_of_the_process() {
    let access = access(
        "[[access]]\nrole = \"write\"\nunix_user = 1000\n[[access]]\nrole = \"write\"\nunix_group = 2000\n",
    );
    for (caller, allowed) in [
        (unix(1000, 1), true),
        (unix(1, 2000), true),
        (unix(2000, 1000), false),
        (unix(0, 0), false),
        (tcp(ListenerKind::Receiver, "127.0.0.1"), false),
    ] {
        let found = access.authorize_connection(Role::Write, &caller);
        assert_eq!(found.is_ok(), allowed, "{caller:?}");
    }
}

#[test]
fn names_in_verified_certificates_are_compared() {
    let access = access("[[access]]\nrole = \"write\"\nclient_name = \"*.shop.example\"\n");
    let with = |common: Option<&str>, others: &[&str]| Caller {
        identity: Some(Arc::new(ClientIdentity {
            common_name: common.map(str::to_owned),
            alternative_names: others.iter().map(|&name| name.to_owned()).collect(),
        })),
        ..tcp(ListenerKind::Receiver, "192.0.2.1")
    };
    for (caller, allowed) in [
        (with(None, &["other.example", "a.shop.example"]), true),
        (with(Some("a.shop.example"), &[]), true),
        // Alternative names replace the common name.
        (with(Some("a.shop.example"), &["other.example"]), false),
        (with(None, &["shop.example.evil"]), false),
        (tcp(ListenerKind::Receiver, "192.0.2.1"), false),
    ] {
        let found = access.authorize_connection(Role::Write, &caller);
        assert_eq!(found.is_ok(), allowed, "{caller:?}");
    }
}

#[tokio::test]
async fn bounds_of_several_entries_add_up() {
    let access = access(
        "[[access]]\nrole = \"write\"\nallow_from = \"10.0.0.0/8\"\napps = [\"a\"]\n\
         [[access]]\nrole = \"write\"\nallow_from = \"10.1.0.0/16\"\napps = [\"b\"]\n\
         [[access]]\nrole = \"write\"\nallow_from = \"10.1.1.0/24\"\n",
    );
    for (address, apps) in [
        ("10.0.0.1", "a"),
        ("10.1.0.1", "ab"),
        ("10.1.1.1", "abc"),
        ("192.0.2.1", ""),
    ] {
        let caller = tcp(ListenerKind::Http, address);
        let scope = access.authorize(Role::Write, &caller, None).await;
        let allows = |app: &str| {
            scope
                .as_ref()
                .is_ok_and(|it| it.scope.check_app(app).is_ok())
        };
        for app in ["a", "b", "c"] {
            assert_eq!(allows(app), apps.contains(app), "{address} {app}");
        }
        if apps.is_empty() {
            // No credentials could help, so the reply asks for none.
            let denial = scope.unwrap_err();
            assert_eq!(denial.reason, Reason::Forbidden);
            assert!(!denial.ask_password && !denial.ask_token);
        }
    }
}
