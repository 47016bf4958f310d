//! The program under a service manager: notifications and passed sockets.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{PATIENCE, Proxy, eventually, http_request};

/// The lines of the program's next notification.
fn next(manager: &UnixDatagram) -> Vec<String> {
    let mut message = [0; 1000];
    let length = manager.recv(&mut message).expect("a notification comes");
    let text = str::from_utf8(&message[..length]).expect("it is text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_manager_learns_of_the_start_the_life_and_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut proxy = Proxy::launch("", &[], |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "100000")
    });
    let started = next(&manager);
    assert_eq!(started[0], "READY=1");
    assert!(
        started[1].contains(&format!("http://{}/metrics", proxy.http)),
        "{started:?}"
    );
    for _ in 0..3 {
        assert_eq!(next(&manager), ["WATCHDOG=1"]);
    }
    proxy.signal("TERM");
    let stopped = loop {
        let message = next(&manager);
        if message != ["WATCHDOG=1"] {
            break message;
        }
    };
    assert_eq!(stopped[0], "STOPPING=1");
    assert!(proxy.wait().success());
}

#[test]
fn the_manager_learns_when_a_reload_begins_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let proxy = Proxy::launch("", &[], |command| command.env("NOTIFY_SOCKET", &path));
    assert_eq!(next(&manager)[0], "READY=1");
    // Whether the reload succeeds or not.
    for config in ["[push]\nmax_groups = 1\n", "[push]\nmax_groups = x\n"] {
        std::fs::write(proxy.dir.path().join("config.toml"), config).unwrap();
        proxy.signal("HUP");
        let began = next(&manager);
        assert_eq!(began[0], "RELOADING=1");
        let time = began[1].strip_prefix("MONOTONIC_USEC=").expect("the time");
        assert!(time.parse::<u64>().unwrap() > 0);
        assert_eq!(next(&manager), ["READY=1"]);
    }
}

#[test]
fn a_program_that_hangs_gives_no_sign_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let proxy = Proxy::launch("", &[], |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "100000")
    });
    assert_eq!(next(&manager)[0], "READY=1");
    assert_eq!(next(&manager), ["WATCHDOG=1"]);
    proxy.signal("STOP");
    // Notifications from before it stopped, and then no more.
    manager
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut message = [0; 100];
    while manager.recv(&mut message).is_ok() {}
    proxy.signal("CONT");
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(next(&manager), ["WATCHDOG=1"]);
}

#[test]
fn no_manager_is_needed() {
    let nowhere = Proxy::launch("", &[], |command| {
        command.env("NOTIFY_SOCKET", "/nonexistent/notify.sock")
    });
    assert_eq!(nowhere.get("/-/ready").status, 200);
    assert!(nowhere.log().contains("(NOTIFY_SOCKET)"));
}

/// Starts the program with two passed sockets.
fn with_passed(settings: &[(&str, &str)], first: OwnedFd, second: OwnedFd) -> Proxy {
    // `exec` keeps the process id, which the program compares with its own.
    const PASS: &str =
        "LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 4<&1 </dev/null >/dev/null";
    Proxy::launch("", settings, |command| {
        let program = std::mem::replace(command, Command::new("sh"));
        command
            .args(["-c", PASS])
            .arg(program.get_program())
            .args(program.get_args())
            .stdin(first)
            .stdout(second)
            .stderr(Stdio::piped());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    })
}

#[test]
fn passed_sockets_are_used_and_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("receiver.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let settings = [
        ("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", &*address),
        ("RECEIVER_RECEIVER_UNIX_SOCKET", path.to_str().unwrap()),
    ];
    // A client that connects before the start is served after it.
    let early = TcpStream::connect(&address).unwrap();
    let passed = (tcp.try_clone().unwrap(), unix.try_clone().unwrap());
    let mut proxy = with_passed(&settings, passed.0.into(), passed.1.into());
    assert_eq!(proxy.http, address);
    drop(early);
    proxy.unix.clone_from(&path);
    assert_eq!(proxy.push_unix(b"{\"a\":\"m 1\"}"), "");
    let metrics = http_request(&address, "GET", "/metrics", &[]);
    assert!(metrics.text().contains("m 1\n"), "{}", metrics.text());
    assert!(!proxy.log().contains("no setting"), "{}", proxy.log());
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    // The manager keeps both, and can start the program again.
    assert!(path.exists());
    let again = with_passed(&settings, tcp.into(), unix.into());
    assert_eq!(again.get("/-/ready").status, 200);
}

#[test]
fn passed_datagram_sockets_are_read_with_what_came_before_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("statsd.sock");
    let unix = UnixDatagram::bind(&path).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let senders = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UnixDatagram::unbound().unwrap(),
    );
    let send = || {
        senders.0.send_to(b"over_udp:1|c", address).unwrap();
        senders.1.send_to(b"over_unix:1|c", &path).unwrap();
    };
    send();
    let address = address.to_string();
    let settings = [
        ("OPERATIONS_UDP", &*address),
        ("OPERATIONS_UNIX_DATAGRAM_SOCKETS", path.to_str().unwrap()),
    ];
    let passed = (udp.try_clone().unwrap(), unix.try_clone().unwrap());
    let mut proxy = with_passed(&settings, passed.0.into(), passed.1.into());
    assert!(!proxy.log().contains("no setting"), "{}", proxy.log());
    let counts = |proxy: &Proxy| ["over_udp", "over_unix"].map(|name| proxy.sample(name));
    eventually(|| counts(&proxy), |found| *found == [Some(1.0); 2]);
    send();
    eventually(|| counts(&proxy), |found| *found == [Some(2.0); 2]);
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    // Connections made while the program is not running wait for the next start.
    send();
    let again = with_passed(&settings, udp.into(), unix.into());
    eventually(|| counts(&again), |found| *found == [Some(1.0); 2]);
}

#[test]
fn a_passed_socket_that_no_setting_names_is_reported() {
    let one = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = one.local_addr().unwrap().to_string();
    let unused = other.local_addr().unwrap();
    let settings = [("PUSH_LISTEN", &*address)];
    let proxy = with_passed(&settings, one.into(), other.into());
    assert_eq!(proxy.push, address);
    let line = format!("the service manager passed TCP {unused}, which no setting names");
    assert!(proxy.log().contains(&line), "{}", proxy.log());
}
