//! Sends prepared datagrams at a rate.

use std::io::IoSlice;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::socket::{MsgFlags, MultiHeaders, sendmmsg};

/// Interval at which due datagrams are sent.
const PACE: Duration = Duration::from_millis(1);

/// Datagrams per system call.
const CALL: usize = 64;

/// Sends the datagrams repeatedly at `rate` per second (0: full speed), until `most` are sent or
/// until `end`. Each millisecond it sends what is due with few system calls, so that the sender
/// does not limit the rate. Returns the number sent.
///
/// # Errors
///
/// If the socket takes no more.
pub fn send_until(
    socket: &UdpSocket,
    datagrams: &[Vec<u8>],
    most: usize,
    rate: usize,
    end: Option<Instant>,
) -> Result<usize> {
    let slices: Vec<[IoSlice<'_>; 1]> = datagrams
        .iter()
        .map(|datagram| [IoSlice::new(datagram)])
        .collect();
    let mut headers = MultiHeaders::<()>::preallocate(CALL, None);
    let connected = [None::<()>; CALL];
    let begun = Instant::now();
    let mut sent = 0;
    while sent < most && end.is_none_or(|end| Instant::now() < end) {
        let due = match rate {
            0 => CALL,
            rate => {
                // Each interval's datagrams are sent at its start.
                let passed = (begun.elapsed() + PACE).as_secs_f64();
                ((passed * rate as f64) as usize).saturating_sub(sent)
            }
        };
        let mut left = due.min(most - sent);
        while left > 0 {
            let at = sent % slices.len();
            let now = left.min(CALL).min(slices.len() - at);
            let some = &slices[at..at + now];
            let flags = MsgFlags::empty();
            let fd = socket.as_raw_fd();
            let went = sendmmsg(fd, &mut headers, some, connected, [], flags)?.count();
            sent += went;
            left -= went;
        }
        if rate > 0 {
            let ticks = begun.elapsed().as_nanos() / PACE.as_nanos();
            let next = PACE * (ticks as u32 + 1);
            sleep(next.saturating_sub(begun.elapsed()));
        }
    }
    Ok(sent)
}
