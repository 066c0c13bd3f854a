//! What socket-server is to reach.

use super::workloads::{NS_PER_PACKET, Workload};
use super::{FLOOR, FORWARD, LIBUV, LIBWEBRTC, OURS, Sockets, TOKIO};
use crate::report::Table;
use crate::targets::{Figures, Target};

pub(crate) fn all(tables: &[Table<Sockets>]) -> Vec<Target> {
    let mut figures = Figures::new(tables);
    for (workload, what) in FORWARD {
        let ours = (workload, OURS, NS_PER_PACKET);
        figures.ratio(ours, FLOOR, 1.15, what);
        for peer in [TOKIO, LIBUV, LIBWEBRTC] {
            figures.ratio(ours, peer, 1.0, what);
        }
    }
    let allocations = (Workload::Allocations, OURS, "per packet");
    figures.at_most(allocations, 0.0, "allocations");
    let ping = (Workload::IdlePing, OURS, "p50 µs");
    figures.ratio(ping, FLOOR, 1.1, "idle ping");
    figures.targets
}
