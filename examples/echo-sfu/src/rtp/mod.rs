//! RTP as an SFU needs it: what is read of packets, what is changed in them, and what is said about
//! them. State machines and pure functions: no thread, no socket and no clock of their own.

pub(crate) mod codec;
pub(crate) mod history;
pub(crate) mod incoming;
pub(crate) mod outgoing;
pub(crate) mod packet;
#[cfg(test)]
mod random;
pub(crate) mod rate;
pub(crate) mod rtcp;
pub(crate) mod srtp;
pub(crate) mod vp8;
pub(crate) mod wire;
