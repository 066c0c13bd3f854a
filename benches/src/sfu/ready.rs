//! Which of many sockets have something to be received.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// Between looks at the sockets. They are not waited for: to wake somebody costs who sends, and
/// viewers elsewhere would not be woken by the system under test.
pub(crate) const LOOK_EVERY: Duration = Duration::from_micros(500);

pub(crate) struct Ready {
    poll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Ready {
    pub(crate) fn new() -> Result<Self, String> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC);
        Ok(Self {
            poll: poll.map_err(|error| error.to_string())?,
            events: Vec::with_capacity(1_024),
        })
    }

    pub(crate) fn add(&self, socket: &UdpSocket, name: usize) -> Result<(), String> {
        let name = epoll::EventData::new_u64(name as u64);
        epoll::add(&self.poll, socket, name, epoll::EventFlags::IN)
            .map_err(|error| error.to_string())
    }

    /// The names of those that have something now.
    pub(crate) fn look(&mut self, ready: &mut Vec<usize>) {
        self.events.clear();
        let at_once = Timespec::default();
        // Interrupted by a signal, it finds nothing.
        let _ = epoll::wait(&self.poll, spare_capacity(&mut self.events), Some(&at_once));
        ready.clear();
        ready.extend(self.events.iter().map(|event| event.data.u64() as usize));
    }
}
