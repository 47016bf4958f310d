use std::os::unix::fs::PermissionsExt;

use super::*;

const USER: SocketOwner = SocketOwner::Current("current_user");
const GROUP: SocketOwner = SocketOwner::Current("current_group");

fn bind_here(path: &Path) -> Result<UnixListener, String> {
    bind(path, &USER, &GROUP, SocketMode(0o640))
}

#[test]
fn the_file_has_the_mode_and_the_effective_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _listener = bind_here(&path).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    assert_eq!(metadata.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(metadata.gid(), nix::unistd::getegid().as_raw());
}

#[test]
fn a_stale_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    bind_here(&path).unwrap();
}

#[test]
fn datagram_sockets_follow_the_same_rules() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mode = SocketMode(0o620);
    let live = bind_datagram(&path, &USER, &GROUP, mode).unwrap();
    let found = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(found & 0o777, 0o620);
    let taken = "another program is listening there";
    assert_eq!(
        bind_datagram(&path, &USER, &GROUP, mode).unwrap_err(),
        taken
    );
    assert_eq!(bind_here(&path).unwrap_err(), taken);
    drop(live);
    bind_datagram(&path, &USER, &GROUP, mode).unwrap();
}

#[test]
fn live_sockets_and_other_files_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let _owner = UnixListener::bind(&live).unwrap();
    assert_eq!(
        bind_here(&live).unwrap_err(),
        "another program is listening there"
    );

    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(bind_here(&file).unwrap_err().contains("not a socket"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

    let missing = dir.path().join("no/such/dir/s");
    assert_eq!(
        bind_here(&missing).unwrap_err(),
        "its directory does not exist"
    );
}

#[test]
fn unknown_owners_are_rejected_before_a_file_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let nobody = SocketOwner::Name("no-such-user-here".to_owned());
    let error = bind(&path, &nobody, &GROUP, SocketMode(0o660)).unwrap_err();
    assert!(error.contains("receiver.unix_socket_user"), "{error}");
    let error = bind(&path, &USER, &nobody, SocketMode(0o660)).unwrap_err();
    assert!(error.contains("receiver.unix_socket_group"), "{error}");
    assert!(!path.exists());
}

#[test]
fn the_file_is_removed_unless_it_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _listener = bind_here(&path).unwrap();
    drop(SocketFile::new(&path).unwrap());
    assert!(!path.exists());

    let _first = bind_here(&path).unwrap();
    let file = SocketFile::new(&path).unwrap();
    fs::rename(&path, dir.path().join("moved")).unwrap();
    let _second = bind_here(&path).unwrap();
    drop(file);
    assert!(path.exists());
}
