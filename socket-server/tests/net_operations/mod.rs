//! What may be done to sockets, and chance that decides what is.

use socket_server::{Dscp, Ecn};

use crate::worlds::random::Random;

/// UDP sockets, and listeners, that there may be at a time.
pub(crate) const SLOTS: usize = 5;
/// Ports that a case uses besides those that the system gives out.
pub(crate) const PORTS: usize = 3;

/// Where sockets are bound, and where they send to.
const IPS: [&str; 9] = [
    "127.0.0.1",
    "127.0.0.1",
    "127.0.0.2",
    "0.0.0.0",
    "::1",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:0.0.0.0",
];
const SIZES: [usize; 12] = [
    0, 12, 13, 100, 1200, 1472, 9000, 65_487, 65_488, 65_507, 65_508, 65_536,
];

/// Which port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// Any that is free; of a destination, none at all.
    Zero,
    /// One of those that the case uses.
    Chosen(usize),
    /// That of the socket in this slot.
    Of(usize),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Bind {
        slot: usize,
        ip: &'static str,
        port: Port,
        only_v6: bool,
    },
    Drop {
        slot: usize,
    },
    Send {
        slot: usize,
        ip: &'static str,
        port: Port,
        size: usize,
        /// So many in a batch, or one alone.
        count: Option<usize>,
        from_ip: Option<&'static str>,
        ecn: Option<Ecn>,
        dscp: Option<Dscp>,
    },
    Read {
        slot: usize,
        /// One into a buffer so long, or many.
        buffer: Option<usize>,
    },
    Set {
        slot: usize,
        dont_fragment: bool,
        ecn: Option<Ecn>,
        dscp: Dscp,
    },
    Options {
        slot: usize,
    },
    Listen {
        slot: usize,
        ip: &'static str,
        port: Port,
        only_v6: bool,
    },
    Hush {
        slot: usize,
    },
    /// To a listener, and what then becomes of it.
    Connect {
        ip: &'static str,
        slot: usize,
        from_ip: Option<&'static str>,
    },
}

/// The first of a case are all to open sockets, so that there is something to work with.
pub(crate) fn operation(random: &mut Random, is_first: bool) -> Operation {
    let slot = random.below(SLOTS);
    let ip = random.of(&IPS);
    let port = match random.below(8) {
        0 => Port::Zero,
        1..=4 => Port::Chosen(random.below(PORTS)),
        _ => Port::Of(random.below(SLOTS)),
    };
    let ecn = random.of(&[None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)]);
    let dscp = random.of(&[Dscp::DEFAULT, Dscp::CS1, Dscp::EF]);
    let only_v6 = random.one_in(4);
    let from_ip = random.one_in(8).then(|| random.of(&IPS));
    match if is_first { 0 } else { random.below(20) } {
        0..=3 => Operation::Bind {
            slot,
            ip,
            port,
            only_v6,
        },
        4 => Operation::Drop { slot },
        5..=11 => {
            let size = match random.below(4) {
                0 => random.of(&SIZES),
                _ => 12 + random.below(500),
            };
            let most = if size < 2000 { 5 } else { 2 };
            Operation::Send {
                slot,
                ip,
                // Mostly to somebody.
                port: match random.below(3) {
                    0 => port,
                    _ => Port::Of(random.below(SLOTS)),
                },
                size,
                count: random.one_in(4).then(|| 1 + random.below(most)),
                from_ip,
                ecn: random.one_in(2).then_some(ecn).flatten(),
                dscp: random.one_in(2).then_some(dscp),
            }
        }
        12..=14 => Operation::Read {
            slot,
            buffer: random.of(&[None, Some(0), Some(20), Some(70_000)]),
        },
        15 => Operation::Set {
            slot,
            dont_fragment: random.one_in(2),
            ecn,
            dscp,
        },
        16 => Operation::Options { slot },
        17 => Operation::Listen {
            slot,
            ip,
            port,
            only_v6,
        },
        18 if random.one_in(3) => Operation::Hush { slot },
        _ => Operation::Connect { ip, slot, from_ip },
    }
}
