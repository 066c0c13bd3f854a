//! Which session a datagram belongs to, when all sessions share one port.
//!
//! Known by its source address once ICE has validated that; before, a STUN request is known by the
//! user fragment we gave its client. Two look-ups at most, whatever a stranger sends.

use std::collections::HashMap;
use std::net::SocketAddr;

use str0m::ice::StunMessage;

use crate::objects::TransportId;

/// One session's client may be reachable in several ways; a stranger cannot make it more, but a
/// client could.
const MAX_ADDRESSES_PER_SESSION: usize = 16;

/// Finds sessions by address and by ICE user fragment.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    by_address: HashMap<SocketAddr, TransportId>,
    by_ufrag: HashMap<String, TransportId>,
    names: HashMap<TransportId, Names>,
}

#[derive(Debug)]
struct Names {
    ufrag: String,
    /// Oldest first.
    addresses: Vec<SocketAddr>,
}

/// Why a datagram belongs to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// Neither STUN, DTLS, RTP nor RTCP, or a STUN message that cannot be read.
    Malformed,
    /// STUN, for a user fragment that is nobody's, or that names none.
    UnknownUser,
    /// Anything else, from an address that is nobody's.
    UnknownSource,
}

impl Demux {
    pub(crate) fn insert(&mut self, session: TransportId, ufrag: String) {
        self.by_ufrag.insert(ufrag.clone(), session);
        let addresses = Vec::new();
        self.names.insert(session, Names { ufrag, addresses });
    }

    /// A session is known by another user fragment from now on, and no longer by the one before.
    pub(crate) fn rename(&mut self, session: TransportId, ufrag: String) {
        if let Some(names) = self.names.get_mut(&session) {
            let before = std::mem::replace(&mut names.ufrag, ufrag.clone());
            self.by_ufrag.remove(&before);
            self.by_ufrag.insert(ufrag, session);
        }
    }

    /// Notes that ICE has validated an address of the session's client. If another session had it,
    /// that one's client is gone, since the address answers for this one.
    pub(crate) fn learn(&mut self, session: TransportId, address: SocketAddr) {
        let Some(names) = self.names.get_mut(&session) else {
            return;
        };
        match self.by_address.insert(address, session) {
            Some(old) if old == session => return,
            Some(old) => {
                names.addresses.push(address);
                if let Some(old) = self.names.get_mut(&old) {
                    old.addresses.retain(|other| *other != address);
                }
            }
            None => names.addresses.push(address),
        }
        if let Some(names) = self.names.get_mut(&session)
            && names.addresses.len() > MAX_ADDRESSES_PER_SESSION
        {
            let oldest = names.addresses.remove(0);
            self.by_address.remove(&oldest);
        }
    }

    /// A session's client has left all addresses but this one. They may be another's next, whose checks
    /// would go to this session for as long as they are known as its own.
    pub(crate) fn keep_only(&mut self, session: TransportId, address: SocketAddr) {
        let Some(names) = self.names.get_mut(&session) else {
            return;
        };
        let is_kept = |own: &SocketAddr| *own == address;
        let (kept, left) = names
            .addresses
            .iter()
            .partition::<Vec<_>, _>(|own| is_kept(own));
        names.addresses = kept;
        for address in left {
            self.by_address.remove(&address);
        }
    }

    pub(crate) fn remove(&mut self, session: TransportId) {
        if let Some(names) = self.names.remove(&session) {
            self.by_ufrag.remove(&names.ufrag);
            for address in names.addresses {
                self.by_address.remove(&address);
            }
        }
    }

    pub(crate) fn find(
        &self,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Result<TransportId, Stranger> {
        if let Some(session) = self.by_address.get(&source) {
            return Ok(*session);
        }
        // RFC 7983: the first byte tells the protocols apart.
        match datagram.first() {
            Some(0..=3) => {
                let message = StunMessage::parse(datagram).map_err(|_| Stranger::Malformed)?;
                let (ours, _theirs) = message.split_username().ok_or(Stranger::UnknownUser)?;
                self.by_ufrag
                    .get(ours)
                    .copied()
                    .ok_or(Stranger::UnknownUser)
            }
            Some(20..=63 | 128..=191) => Err(Stranger::UnknownSource),
            _ => Err(Stranger::Malformed),
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.by_address.is_empty() && self.by_ufrag.is_empty() && self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn strangers_are_told_apart() {
        let demux = Demux::default();
        let find = |datagram: &[u8]| demux.find(address(1), datagram).unwrap_err();
        assert_eq!(Stranger::Malformed, find(&[]));
        assert_eq!(Stranger::Malformed, find(&[0, 1, 0, 0]));
        assert_eq!(Stranger::Malformed, find(&[200; 40]));
        assert_eq!(Stranger::UnknownSource, find(&[128; 40]));
        assert_eq!(Stranger::UnknownSource, find(&[22; 40]));
        assert_eq!(Stranger::UnknownUser, find(&binding_request(b"abcd:efgh")));
    }

    #[test]
    fn a_check_is_known_by_our_half_of_its_user_name() {
        let mut demux = Demux::default();
        let session = TransportId::next();
        demux.insert(session, "abcd".to_owned());
        assert_eq!(
            Ok(session),
            demux.find(address(1), &binding_request(b"abcd:efgh"))
        );
        let other = demux.find(address(1), &binding_request(b"efgh:abcd"));
        assert_eq!(Err(Stranger::UnknownUser), other);
    }

    #[test]
    fn a_session_that_is_renamed_is_known_by_its_new_name_only() {
        let mut demux = Demux::default();
        let session = TransportId::next();
        demux.insert(session, "abcd".to_owned());
        demux.learn(session, address(2));
        demux.rename(session, "wxyz".to_owned());
        let of = |user: &[u8]| demux.find(address(1), &binding_request(user));
        assert_eq!(Ok(session), of(b"wxyz:efgh"));
        assert_eq!(Err(Stranger::UnknownUser), of(b"abcd:efgh"));
        // Where it was known to be, it still is.
        assert_eq!(Ok(session), demux.find(address(2), &[128]));
        demux.remove(session);
        demux.rename(session, "ijkl".to_owned());
        assert!(demux.is_empty());
    }

    /// RFC 8445: a connectivity check, with some priority and some message integrity.
    fn binding_request(user: &[u8]) -> Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = kind.to_be_bytes().to_vec();
            bytes.extend((value.len() as u16).to_be_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let attributes = [
            attribute(0x0006, user),
            attribute(0x0024, &[1; 4]),
            attribute(0x0008, &[0; 20]),
        ];
        let attributes = attributes.concat();
        let mut message = vec![0, 1];
        message.extend((attributes.len() as u16).to_be_bytes());
        message.extend(0x2112_a442u32.to_be_bytes());
        message.extend([7; 12]);
        message.extend(attributes);
        message
    }

    #[test]
    fn an_address_is_one_sessions_and_goes_with_it() {
        let mut demux = Demux::default();
        let (a, b) = (TransportId::next(), TransportId::next());
        demux.insert(a, "aaaa".to_owned());
        demux.insert(b, "bbbb".to_owned());
        demux.learn(a, address(1));
        demux.learn(a, address(1));
        assert_eq!(Ok(a), demux.find(address(1), &[128]));
        demux.learn(b, address(1));
        assert_eq!(Ok(b), demux.find(address(1), &[128]));
        demux.remove(a);
        assert_eq!(Ok(b), demux.find(address(1), &[128]));
        demux.remove(b);
        assert!(demux.is_empty());
        demux.learn(a, address(2));
        assert!(demux.is_empty());
    }

    #[test]
    fn an_address_that_is_left_may_be_anothers_next() {
        let mut demux = Demux::default();
        let (a, b) = (TransportId::next(), TransportId::next());
        demux.insert(a, "aaaa".to_owned());
        demux.insert(b, "bbbb".to_owned());
        for port in 1..=3 {
            demux.learn(a, address(port));
        }
        let check = binding_request(b"bbbb:x");
        // Nobody can take an address away by naming himself.
        assert_eq!(Ok(a), demux.find(address(1), &check));
        demux.keep_only(a, address(2));
        assert_eq!(Ok(b), demux.find(address(1), &check));
        assert_eq!(Ok(a), demux.find(address(2), &check));
        demux.learn(b, address(3));
        demux.keep_only(a, address(2));
        assert_eq!(Ok(b), demux.find(address(3), &[128]));
        demux.remove(a);
        demux.keep_only(a, address(2));
        demux.remove(b);
        assert!(demux.is_empty());
    }

    #[test]
    fn a_session_cannot_hold_any_number_of_addresses() {
        let mut demux = Demux::default();
        let session = TransportId::next();
        demux.insert(session, "aaaa".to_owned());
        for port in 1..=100 {
            demux.learn(session, address(port));
        }
        assert_eq!(MAX_ADDRESSES_PER_SESSION, demux.by_address.len());
        assert_eq!(Ok(session), demux.find(address(100), &[128]));
        assert_eq!(Err(Stranger::UnknownSource), demux.find(address(1), &[128]));
        demux.remove(session);
        assert!(demux.is_empty());
    }
}
