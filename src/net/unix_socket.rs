//! The file of a Unix socket: made with the right owner and mode from its
//! first moment, never taken from a live server, removed at exit.

use std::fs;
use std::io;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Group, User};

use crate::settings::listen::{SocketMode, SocketOwner};

/// Binds a listener at `path`. A socket that nobody listens at is replaced; a
/// live one, or a file of another kind, is an error.
pub fn bind(
    path: &Path,
    user: &SocketOwner,
    group: &SocketOwner,
    mode: SocketMode,
) -> Result<UnixListener, String> {
    bind_with(path, user, group, mode, |path| UnixListener::bind(path))
}

/// The same for a socket of datagrams.
pub fn bind_datagram(
    path: &Path,
    user: &SocketOwner,
    group: &SocketOwner,
    mode: SocketMode,
) -> Result<UnixDatagram, String> {
    bind_with(path, user, group, mode, |path| UnixDatagram::bind(path))
}

fn bind_with<T>(
    path: &Path,
    user: &SocketOwner,
    group: &SocketOwner,
    mode: SocketMode,
    bind: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<T, String> {
    let uid = user_id(user)?;
    let gid = group_id(group)?;
    remove_stale(path)?;

    // Under this mask the socket never has more permissions than it is to
    // have, not even between `bind` and `chown`. The mask is the process's,
    // and binding comes before any other thread makes files.
    let before = umask(Mode::from_bits_truncate(0o777 & !mode.0));
    let bound = bind(path);
    umask(before);
    let listener = bound.map_err(|problem| explain_bind(&problem))?;

    if uid.is_some() || gid.is_some() {
        chown(path, uid, gid).map_err(|problem| {
            // Nobody will serve it.
            let _ = fs::remove_file(path);
            format!(
                "it cannot be given to user {} and group {}: {problem}",
                shown(uid),
                shown(gid)
            )
        })?;
    }
    Ok(listener)
}

fn explain_bind(problem: &io::Error) -> String {
    match problem.kind() {
        ErrorKind::NotFound => "its directory does not exist".to_owned(),
        ErrorKind::PermissionDenied => "this user cannot write to its directory".to_owned(),
        _ => problem.to_string(),
    }
}

fn shown(id: Option<u32>) -> String {
    id.map_or_else(|| "unchanged".to_owned(), |id| id.to_string())
}

/// The owner to set: none for the effective user, who owns it anyway. No
/// passwd entry is needed for that, nor for a number.
fn user_id(user: &SocketOwner) -> Result<Option<u32>, String> {
    match user {
        SocketOwner::Current(_) => Ok(None),
        SocketOwner::Id(id) => Ok(Some(*id)),
        SocketOwner::Name(name) => match User::from_name(name) {
            Ok(Some(user)) => Ok(Some(user.uid.as_raw())),
            Ok(None) => Err(format!(
                "this machine has no user {name:?} (receiver.unix_socket_user)"
            )),
            Err(problem) => Err(format!("user {name:?} cannot be looked up: {problem}")),
        },
    }
}

/// The group to set. The effective group is set too, since in a directory
/// with the set-group-id bit new files get the directory's group.
fn group_id(group: &SocketOwner) -> Result<Option<u32>, String> {
    match group {
        SocketOwner::Current(_) => Ok(Some(nix::unistd::getegid().as_raw())),
        SocketOwner::Id(id) => Ok(Some(*id)),
        SocketOwner::Name(name) => match Group::from_name(name) {
            Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
            Ok(None) => Err(format!(
                "this machine has no group {name:?} (receiver.unix_socket_group)"
            )),
            Err(problem) => Err(format!("group {name:?} cannot be looked up: {problem}")),
        },
    }
}

fn remove_stale(path: &Path) -> Result<(), String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(()),
        Err(problem) => return Err(format!("what is there cannot be read: {problem}")),
    };
    if !metadata.file_type().is_socket() {
        return Err(
            "a file that is no socket stands there; remove it or choose another path".to_owned(),
        );
    }
    let in_use = match UnixStream::connect(path) {
        // It is one of datagrams, or was.
        Err(problem) if problem.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => {
            UnixDatagram::unbound().and_then(|socket| socket.connect(path))
        }
        stream => stream.map(drop),
    };
    match in_use {
        Err(problem) if problem.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|problem| format!("the stale socket there cannot be removed: {problem}")),
        Err(problem) if problem.kind() == ErrorKind::NotFound => Ok(()),
        Ok(_) => Err("another program is listening there".to_owned()),
        Err(problem) => Err(format!(
            "a socket stands there, and whether it is in use cannot be told: {problem}"
        )),
    }
}

/// Our socket's file. Dropping it removes the file, if it is still ours.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    pub fn claim(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(SocketFile {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|now| now.dev() == self.device && now.ino() == self.inode);
        if !ours {
            log::warn!(
                "{} is no longer our socket and is left alone",
                self.path.display()
            );
        } else if let Err(problem) = fs::remove_file(&self.path) {
            log::warn!("{} cannot be removed: {problem}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const USER: SocketOwner = SocketOwner::Current("current_user");
    const GROUP: SocketOwner = SocketOwner::Current("current_group");

    fn bind_here(path: &Path) -> Result<UnixListener, String> {
        bind(path, &USER, &GROUP, SocketMode(0o640))
    }

    #[test]
    fn it_has_the_mode_and_the_effective_owner() {
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
    fn sockets_of_datagrams_are_treated_alike() {
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
    fn a_live_socket_and_other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let live = dir.path().join("live");
        let _owner = UnixListener::bind(&live).unwrap();
        assert_eq!(
            bind_here(&live).unwrap_err(),
            "another program is listening there"
        );

        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(bind_here(&file).unwrap_err().contains("no socket"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

        let missing = dir.path().join("no/such/dir/s");
        assert_eq!(
            bind_here(&missing).unwrap_err(),
            "its directory does not exist"
        );
    }

    #[test]
    fn unknown_names_are_refused_before_anything_is_made() {
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
    fn the_file_is_removed_unless_it_became_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = bind_here(&path).unwrap();
        drop(SocketFile::claim(&path).unwrap());
        assert!(!path.exists());

        let _first = bind_here(&path).unwrap();
        let claimed = SocketFile::claim(&path).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let _second = bind_here(&path).unwrap();
        drop(claimed);
        assert!(path.exists());
    }
}
