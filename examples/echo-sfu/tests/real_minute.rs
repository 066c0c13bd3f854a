//! Five people for a real minute, on real threads and sockets: they come, mute, switch, go, and leave
//! nothing behind.

mod counting;
#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use counting::bytes_in_use;
use echo_sfu::{Answer, ApiError, RoomName, Sfu, SfuOptions, SfuStats, Signaling};
use rtc_client::Client;
use rtc_thread::ThreadHandle;
use str0m::format::Codec;
use str0m::media::Direction;

const PEOPLE: u64 = 5;
const MINUTE: Duration = Duration::from_secs(60);
/// Who vanishes later than that might not be noticed within the minute.
const VANISHING: Duration = Duration::from_secs(25);
/// What has grown once stays as large.
const MAY_GROW: isize = 512 << 10;
const CODECS: &[Codec] = &[Codec::Opus, Codec::Vp8];

/// One of the five.
struct Person {
    signaling: Signaling,
    random: u64,
    publishing: Option<(Client, Answer)>,
    viewing: Option<(Client, Answer)>,
    muted: bool,
    received: usize,
    actions: usize,
}

fn lobby() -> RoomName {
    "lobby".parse().unwrap()
}

impl Person {
    /// SplitMix64.
    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn live_until(&mut self, start: Instant, end: Instant) {
        while Instant::now() < end {
            self.act(start);
            self.actions += 1;
            let pause = Duration::from_millis(500 + self.below(2_500));
            let until = (Instant::now() + pause).min(end);
            while Instant::now() < until {
                self.exchange();
            }
        }
        self.leave();
    }

    /// Sends what is to be sent, takes in what has come, and waits a little.
    fn exchange(&mut self) {
        if let Some((client, _)) = &mut self.publishing {
            client.exchange();
        }
        if let Some((client, _)) = &mut self.viewing {
            client.turn();
            self.received += client.received.len();
            client.received.clear();
            if client.closed {
                self.viewing = None;
            }
        }
        thread::sleep(Duration::from_millis(10));
    }

    fn act(&mut self, start: Instant) {
        if self.publishing.is_none() {
            self.publish();
            return self.view();
        }
        match self.below(8) {
            0 => self.leave(),
            1 if start.elapsed() < VANISHING => {
                self.publishing = None;
                self.viewing = None;
            }
            1..4 => self.view(),
            _ => self.mute(),
        }
    }

    fn publish(&mut self) {
        let (mut client, offer, pending) = Client::offer(Direction::SendOnly, CODECS);
        let answer = self.signaling.publish(lobby(), None, offer).wait().unwrap();
        client.accept(pending, &answer.sdp);
        client.run_until("a publisher connects", |client| client.connected);
        self.publishing = Some((client, answer));
        self.muted = false;
    }

    /// Views somebody, instead of whomever there was before.
    fn view(&mut self) {
        if let Some((_, answer)) = self.viewing.take() {
            drop(self.signaling.close(answer.session));
        }
        let Ok(info) = self.signaling.room(lobby()).wait() else {
            return;
        };
        let whom = self.below(info.publishers.len() as u64) as usize;
        let whom = info.publishers[whom].id.clone();
        let (mut client, offer, pending) = Client::offer(Direction::RecvOnly, CODECS);
        let answer = match self.signaling.view(lobby(), Some(whom), offer).wait() {
            Ok(answer) => answer,
            // Gone in between.
            Err(ApiError::UnknownPublisher(_) | ApiError::UnknownRoom(_)) => return,
            Err(error) => panic!("{error}"),
        };
        client.accept(pending, &answer.sdp);
        self.viewing = Some((client, answer));
    }

    fn mute(&mut self) {
        if let Some((_, answer)) = &self.publishing {
            self.muted = !self.muted;
            let session = answer.session.clone();
            drop(match self.muted {
                true => self.signaling.pause(session),
                false => self.signaling.resume(session),
            });
        }
    }

    fn leave(&mut self) {
        for (_, answer) in [self.publishing.take(), self.viewing.take()]
            .into_iter()
            .flatten()
        {
            // A viewer's session has ended already if its publisher's has.
            drop(self.signaling.close(answer.session));
        }
    }
}

/// Has each network thread receive as much at once as it ever does. Its buffers grow with that, up to
/// 2 MB, and it is not the matter here when that happens to come.
fn grow_receive_buffers(sfu: &Sfu) {
    let is_network = |thread: &ThreadHandle| thread.name().starts_with("network-");
    let (go_on, pause) = mpsc::channel::<()>();
    let pause = Arc::new(Mutex::new(pause));
    for thread in rtc_thread::threads().iter().filter(|own| is_network(own)) {
        let pause = pause.clone();
        // Until nobody is there any more who could say something.
        let pause = move || assert!(pause.lock().unwrap().recv().is_err());
        thread.post(pause).unwrap();
    }
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for address in sfu.udp_addresses() {
        for _ in 0..500 {
            stranger.send_to(&[0; 100], address).unwrap();
        }
    }
    drop(go_on);
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn is_empty(stats: &SfuStats) -> bool {
    let on_network = |own: &echo_sfu::NetworkStats| {
        own.transports + own.producers + own.consumers + own.fan_outs
    };
    stats.sessions == 0
        && stats.rooms == 0
        && stats.network.iter().map(on_network).sum::<usize>() == 0
        && stats
            .workers
            .iter()
            .map(|own| &own.totals)
            .all(|own| own.routers == 1 && own.transports + own.producers + own.consumers == 0)
}

#[track_caller]
fn wait_until_empty(signaling: &Signaling) -> SfuStats {
    let start = Instant::now();
    loop {
        let stats = signaling.stats().wait().unwrap();
        if is_empty(&stats) {
            return stats;
        }
        assert!(start.elapsed() < MINUTE, "something is left: {stats:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// All five, from now on for so long. Returns how many packets they have received, and how often they
/// have done something.
fn live(signaling: &Signaling, seed: u64, duration: Duration) -> (usize, usize) {
    let start = Instant::now();
    let person = |number: u64| {
        let mut person = Person {
            signaling: signaling.clone(),
            random: seed.wrapping_add(number << 32),
            publishing: None,
            viewing: None,
            muted: false,
            received: 0,
            actions: 0,
        };
        thread::spawn(move || {
            person.live_until(start, start + duration);
            (person.received, person.actions)
        })
    };
    let people: Vec<_> = (0..PEOPLE).map(person).collect();
    let outcomes = people.into_iter().map(|person| person.join().unwrap());
    outcomes.fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1))
}

#[test]
fn five_people_for_a_minute_leave_nothing_behind() {
    let seed = match std::env::var("RTC_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
    };
    println!("RTC_SEED={seed}");
    let descriptors = open_descriptors();
    let sfu = Sfu::start(SfuOptions {
        udp_bind: Ipv4Addr::LOCALHOST.into(),
        workers: 2,
        network_threads: 2,
        ..SfuOptions::default()
    })
    .unwrap();
    let signaling = sfu.signaling();
    // Whatever is made once, is made now.
    grow_receive_buffers(&sfu);
    live(&signaling, seed, Duration::from_secs(3));
    wait_until_empty(&signaling);
    let (before, descriptors_in_use) = (bytes_in_use(), open_descriptors());

    let (received, actions) = live(&signaling, seed, MINUTE);
    let stats = wait_until_empty(&signaling);
    let grown = bytes_in_use() - before;
    println!("{actions} actions, {received} packets received, {grown} bytes more");
    assert!(received > 1_000, "{stats:#?}");
    assert_eq!(descriptors_in_use, open_descriptors());
    assert!(grown < MAY_GROW, "{grown} bytes more than before");
    sfu.shutdown().unwrap();
    assert_eq!(descriptors, open_descriptors());
}
