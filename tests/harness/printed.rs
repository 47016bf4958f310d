//! What a child process prints.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Whole lines that a child process has printed. A thread reads its pipe, so that the process
/// never waits.
#[derive(Debug)]
pub struct PrintedLines<P>(Arc<Mutex<Pipe<P>>>);

#[derive(Debug)]
struct Pipe<P> {
    stream: P,
    bytes: Vec<u8>,
    ended: bool,
}

impl<P: Read + AsFd + Send + 'static> PrintedLines<P> {
    /// Reads a pipe until it ends.
    pub fn read(stream: P) -> Self {
        fcntl(&stream, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag of a pipe");
        let readable = stream
            .as_fd()
            .try_clone_to_owned()
            .expect("a second descriptor");
        let pipe = Arc::new(Mutex::new(Pipe {
            stream,
            bytes: Vec::new(),
            ended: false,
        }));
        let shared = Arc::clone(&pipe);
        thread::spawn(move || {
            while !shared.lock().expect("the pipe").drain() {
                let mut events = [PollFd::new(readable.as_fd(), PollFlags::POLLIN)];
                // A signal may interrupt it.
                let _ = poll(&mut events, PollTimeout::NONE);
            }
        });
        PrintedLines(pipe)
    }

    /// The lines so far, with every one that was written before this call.
    pub fn text(&self) -> String {
        let mut pipe = self.0.lock().expect("the pipe");
        let whole = match pipe.drain() {
            true => pipe.bytes.len(),
            false => {
                let newline = pipe.bytes.iter().rposition(|&byte| byte == b'\n');
                newline.map_or(0, |at| at + 1)
            }
        };
        String::from_utf8_lossy(&pipe.bytes[..whole]).into_owned()
    }
}

impl<P: Read> Pipe<P> {
    /// Reads everything there is. Returns whether the pipe has ended.
    fn drain(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        while !self.ended {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(read) => self.bytes.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.ended
    }
}
