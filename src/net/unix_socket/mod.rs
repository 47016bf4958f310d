//! Creates and removes the file of a Unix socket. The file has its owner and mode from the
//! first moment, never replaces the socket of a running server, and is removed at exit.

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

/// Binds a listener at `path`. A stale socket there is replaced.
///
/// # Errors
///
/// Another program listens at `path`, a file of another kind is there, or the file
/// cannot be made with that owner.
pub fn bind(
    path: &Path,
    user: &SocketOwner,
    group: &SocketOwner,
    mode: SocketMode,
) -> Result<UnixListener, String> {
    bind_with(path, user, group, mode, |path| UnixListener::bind(path))
}

/// Like [`bind`], for a datagram socket.
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

    // The mask keeps the socket from having more permissions than configured, even
    // between `bind` and `chown`. It applies to the whole process, but no other
    // thread makes files while listeners are bound.
    let before = umask(Mode::from_bits_truncate(0o777 & !mode.0));
    let bound = bind(path);
    umask(before);
    let listener = bound.map_err(|problem| explain_bind(&problem))?;

    if uid.is_some() || gid.is_some() {
        chown(path, uid, gid).map_err(|problem| {
            // The socket cannot be served.
            let _ = fs::remove_file(path);
            format!(
                "its owner cannot be set to user {} and group {}: {problem}",
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

/// The user to set; `None` for the effective user, who already owns the file. Neither that
/// user nor a numeric id needs an entry in the user database.
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

/// The group to set. The effective group is also set explicitly: in a directory with the
/// set-group-ID bit, new files get the directory's group.
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
        Err(problem) => {
            return Err(format!(
                "the file that is there cannot be examined: {problem}"
            ));
        }
    };
    if !metadata.file_type().is_socket() {
        return Err(
            "a file that is not a socket is there; remove it or choose another path".to_owned(),
        );
    }
    let in_use = match UnixStream::connect(path) {
        // The socket there is, or was, a datagram socket.
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
            "cannot determine whether the existing socket is in use: {problem}"
        )),
    }
}

/// The file of a bound socket. Dropping this removes the file, unless another program
/// created or replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The device and inode of the file; `None` if another program created it.
    made: Option<(u64, u64)>,
}

impl SocketFile {
    /// Records the file that was just bound at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be examined.
    pub fn new(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(SocketFile {
            path: path.to_owned(),
            made: Some((metadata.dev(), metadata.ino())),
        })
    }

    /// The file at `path`, which another program made and keeps.
    pub fn of_other(path: &Path) -> Self {
        SocketFile {
            path: path.to_owned(),
            made: None,
        }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Some(made) = self.made else { return };
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == made);
        if !ours {
            log::warn!(
                "{} now belongs to another program and is not removed",
                self.path.display()
            );
        } else if let Err(problem) = fs::remove_file(&self.path) {
            log::warn!("{} cannot be removed: {problem}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests;
