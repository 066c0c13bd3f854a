//! RTP as an SFU needs it: what is read of packets, what is changed in them, and what is said about
//! them. State machines and pure functions: no thread, no socket and no clock of their own.

#[cfg_attr(not(test), expect(dead_code, reason = "no transport uses it yet"))]
pub(crate) mod codec;
#[cfg_attr(not(test), expect(dead_code, reason = "no transport uses it yet"))]
pub(crate) mod history;
#[cfg_attr(not(test), expect(dead_code, reason = "no transport uses it yet"))]
pub(crate) mod outgoing;
#[expect(dead_code, reason = "no transport uses it yet")]
pub(crate) mod packet;
#[cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "nothing is said by way of it yet")
)]
pub(crate) mod rtcp;
#[expect(
    unnameable_types,
    unreachable_pub,
    unused_imports,
    reason = "keys are for applications, which cannot say them yet"
)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "nothing is sent by way of it yet")
)]
pub(crate) mod srtp;
#[cfg(test)]
mod test_random;
#[cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "nothing is sent by way of it yet")
)]
pub(crate) mod wire;
#[cfg(test)]
mod random;
pub(crate) mod rate;
#[cfg_attr(not(test), expect(dead_code, reason = "no transport uses it yet"))]
pub(crate) mod vp8;
