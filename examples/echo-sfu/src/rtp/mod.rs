//! RTP as an SFU needs it: what is read of packets, what is changed in them, and what is said about
//! them. State machines and pure functions: no thread, no socket and no clock of their own.

pub(crate) mod packet;
