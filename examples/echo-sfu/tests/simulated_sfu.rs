//! The SFU in simulation: twenty people come, mute, switch, lose packets and go, for an hour of
//! virtual time.

mod counting;
#[allow(dead_code, reason = "each test uses its part of it")]
mod simulated;

use std::time::{Duration, Instant};

use counting::bytes_in_use;
use rtc_thread::Simulation;
use simulated::crowd::Crowd;
use simulated::{Stage, bad_link, is_empty};

const HOUR: Duration = Duration::from_secs(3600);
const LAP: Duration = Duration::from_secs(240);
/// What an hour may leave behind in memory. A few hundred sessions come and go, each of some hundred
/// kilobytes: one in which each left a few kilobytes would show. What does grow is small: tables of
/// threads and of the simulated network, and some 250 bytes for each client, the SFU left aside.
const MAY_GROW: isize = 2 << 20;

#[test]
fn an_hour_of_twenty_people_leaves_nothing_behind() {
    let simulation = Simulation::from_env("RTC_SEED");
    let seed = simulation.seed().unwrap();
    println!("RTC_SEED={seed}");
    let wall = Instant::now();
    let stage = Stage::new(simulation);
    let sfu = stage.sfu(|options| {
        options.network_threads = 2;
        options.workers = 2;
    });
    let signaling = sfu.signaling();
    let mut crowd = Crowd::new(&stage, sfu.signaling(), seed, 20, &bad_link());
    // What is in use whenever everybody has gone, the test's own record not counted.
    let mut in_use = Vec::new();
    for lap in 0.. {
        crowd.live(LAP);
        crowd.settle_and_check();
        if lap % 3 == 0 {
            crowd.go();
            let stats = signaling.stats().wait().unwrap();
            assert!(is_empty(&stats), "{stats:#?}");
            in_use.push(bytes_in_use() - crowd.trace_bytes());
            if stage.network.time().elapsed() > HOUR {
                break;
            }
        }
    }
    let grown = in_use[in_use.len() - 1] - in_use[0];
    let stats = signaling.stats().wait().unwrap();
    let media: u64 = stats.network.iter().map(|own| own.media_packets_in).sum();
    println!(
        "{} events, {media} media packets, {} steps, in use {in_use:?}, in {:?}",
        crowd.trace.len(),
        stage.simulation.steps(),
        wall.elapsed()
    );
    assert!(grown < MAY_GROW, "{in_use:?}");
    sfu.shutdown().unwrap();
}
