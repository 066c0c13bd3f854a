//! What echo-sfu is to reach.

use super::measured::{CPU, LOST, P99, P99_IN_FRAMES};
use super::{CASES, Case, FLOOR, JANUS, JANUS_ONE, OURS, ROOMS, Sfu, to};
use crate::report::Table;
use crate::targets::{Figures, Target};

/// Where a packet's cost is that of a packet, and not of the loop that there is one.
const MANY: [Case; 4] = [to(50), to(100), to(200), to(300)];

pub(super) fn all(tables: &[Table<Sfu>]) -> Vec<Target> {
    let mut figures = Figures::new(tables);
    // What is not in a quick run is not aimed at in it.
    let measured = |case: &Case| tables.iter().any(|table| table.workload == *case);
    let cases = CASES.iter().filter(|(case, _)| measured(case));
    for (case, what) in cases {
        if MANY.contains(case) {
            figures.at_most((*case, OURS, CPU), 4.0, what);
            figures.ratio((*case, OURS, CPU), FLOOR, 1.5, what);
            figures.at_most((*case, OURS, P99_IN_FRAMES), 1.3, what);
        }
        // As many as Janus can serve.
        if case.viewers <= 100 {
            for janus in [JANUS, JANUS_ONE] {
                figures.ratio((*case, OURS, CPU), janus, 0.2, what);
                figures.ratio((*case, OURS, P99), janus, 0.25, what);
            }
        }
        figures.at_most((*case, OURS, LOST), 0.0, what);
        if let Some((_, theirs)) = MEDIASOUP.iter().find(|(of, _)| of == case) {
            let what = format!("{what}, mediasoup elsewhere");
            figures.at_most((*case, OURS, CPU), *theirs, &what);
        }
    }
    figures.targets
}

/// mediasoup 3.19.3, one worker, on another machine of this kind: µs per packet. It is not in the run,
/// so this is an orientation.
const MEDIASOUP: [(Case, f64); 6] = [
    (to(10), 13.0),
    (to(50), 9.3),
    (to(100), 9.1),
    (to(200), 7.3),
    (to(300), 7.2),
    (ROOMS, 16.0),
];
