//! Accepted connections that wait for a permit.

use std::time::{Duration, Instant};

use crate::clock;
use crate::net::stream::Socket;
use crate::peer::{Peer, Sender};

/// The limit on connections of one listener that wait for a permit. Further ones wait in
/// the kernel's queue.
pub const MAX_WAITING: usize = 16;

/// The connections that wait, oldest first.
#[derive(Debug, Default)]
pub struct WaitingConnections {
    connections: Vec<WaitingConnection>,
    /// The holders of the connections, in the same order.
    holders: Vec<Sender>,
}

#[derive(Debug)]
pub struct WaitingConnection {
    pub socket: Socket,
    pub peer: Peer,
    since: Instant,
}

impl WaitingConnections {
    pub fn push(&mut self, socket: Socket, peer: Peer) {
        self.holders.push(Sender::from(peer));
        self.connections.push(WaitingConnection {
            socket,
            peer,
            since: clock::tick(),
        });
    }

    pub fn remove(&mut self, index: usize) -> WaitingConnection {
        self.holders.remove(index);
        self.connections.remove(index)
    }

    /// The holders of the connections, in their order.
    pub fn holders(&self) -> &[Sender] {
        &self.holders
    }

    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.connections.len() < MAX_WAITING
    }

    /// Whether all connections have the same holder.
    pub fn have_one_holder(&self) -> bool {
        self.holders.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// How long the oldest has waited.
    pub fn longest(&self) -> Duration {
        self.connections
            .first()
            .map_or(Duration::ZERO, |first| first.since.elapsed())
    }
}
