//! A STUN server: it tells clients by which address the network knows them (RFC 8489, section 12).
//!
//! [`stun`] makes the answers; the program around it moves them. It serves UDP only, asks nobody who
//! they are, and does not know the clients of before 2008 (RFC 3489), whose messages lack the magic
//! cookie.

#![forbid(unsafe_code)]

pub mod stun;
mod wire;
