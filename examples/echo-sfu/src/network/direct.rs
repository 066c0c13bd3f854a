//! Transports to the application, which have no socket.

use super::transport::{Kind, Transport};
use super::{Network, State};
use crate::objects::{RouterAddress, TransportId};

impl Network {
    /// Makes a place for what the application sends and is sent.
    pub(crate) fn open_direct(&mut self, id: TransportId, owner: RouterAddress) {
        self.act(|state, _| state.open_direct(id, owner));
    }
}

impl State {
    fn open_direct(&mut self, id: TransportId, owner: RouterAddress) {
        let transport = Transport::new(Kind::Direct, owner);
        self.transports.insert(id, transport);
        self.count_objects();
    }
}
