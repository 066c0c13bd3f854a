//! Handlers that do anything to any socket, by chance: whatever it is, every life of a socket begins
//! and ends once, nothing is told of a life that was ended, and all comes to rest (item 28).

mod worlds;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use socket_server::{SocketServer, TcpHandler, TcpListener, TcpOptions, TcpSocket, TcpState};

use worlds::in_every_world;
use worlds::random::Random;
use worlds::tcp::{OnIncoming, listen};

const SOCKETS: usize = 12;
const ACTIONS: usize = 400;

/// What is to be told of a socket next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Nothing.
    Over,
    /// That it is connected, or has failed.
    Begun,
    /// What happens to a connection, up to its end.
    Connected,
}

struct Slot {
    socket: Option<TcpSocket>,
    life: Rc<Cell<Life>>,
}

struct Chaos {
    server: Rc<dyn SocketServer>,
    slots: RefCell<Vec<Slot>>,
    targets: Vec<SocketAddr>,
    random: RefCell<Random>,
    actions_left: Cell<usize>,
    connected: Cell<usize>,
    closed: Cell<usize>,
}

struct Handler {
    chaos: Rc<Chaos>,
    life: Rc<Cell<Life>>,
}

impl Chaos {
    fn up_to(&self, most: usize) -> usize {
        self.random.borrow_mut().up_to(most)
    }

    fn new_slot(self: &Rc<Self>, socket: TcpSocket, life: Life) -> Slot {
        let life = Rc::new(Cell::new(life));
        socket.set_handler(self.handler(&life));
        Slot {
            socket: Some(socket),
            life,
        }
    }

    fn handler(self: &Rc<Self>, life: &Rc<Cell<Life>>) -> Handler {
        Handler {
            chaos: self.clone(),
            life: life.clone(),
        }
    }

    /// Does something to one of the sockets.
    fn act(self: &Rc<Self>) {
        if self.actions_left.get() == 0 {
            return;
        }
        self.actions_left.set(self.actions_left.get() - 1);
        let slots = &mut *self.slots.borrow_mut();
        let chosen = self.up_to(slots.len()) - 1;
        let slot = &mut slots[chosen];
        let Some(socket) = &slot.socket else {
            let options = TcpOptions::new().half_open(self.up_to(2) == 1);
            let socket = self.server.tcp_socket(&options).unwrap();
            *slot = self.new_slot(socket, Life::Over);
            return;
        };
        match self.up_to(10) {
            1 => {
                socket.close();
                slot.life.set(Life::Over);
            }
            2 => {
                slot.socket = None;
                slot.life.set(Life::Over);
            }
            3 => socket.set_handler(self.handler(&slot.life)),
            4 => {
                let _ = socket.finish();
            }
            5 | 6 => {
                let _ = socket.send(&vec![1; self.up_to(300_000)]);
            }
            _ => {
                let target = self.targets[self.up_to(self.targets.len()) - 1];
                let was_closed = socket.state() == TcpState::Closed;
                let begun = match self.up_to(3) {
                    1 => socket.connect((&*target.ip().to_string(), target.port())),
                    _ => socket.connect(target),
                };
                assert_eq!(was_closed, begun.is_ok(), "{begun:?}");
                if was_closed {
                    slot.life.set(Life::Begun);
                }
            }
        }
    }

    fn act_a_few_times(self: &Rc<Self>) {
        for _ in 1..self.up_to(3) {
            self.act();
        }
    }
}

impl TcpHandler for Handler {
    fn on_connected(&mut self, _socket: &TcpSocket) {
        assert_eq!(Life::Begun, self.life.replace(Life::Connected));
        self.chaos.connected.set(self.chaos.connected.get() + 1);
        self.chaos.act_a_few_times();
    }

    fn on_readable(&mut self, socket: &TcpSocket) {
        assert_eq!(Life::Connected, self.life.get());
        let mut buffer = vec![0; self.chaos.up_to(100_000)];
        let _ = socket.recv(&mut buffer);
        self.chaos.act_a_few_times();
    }

    fn on_writable(&mut self, _socket: &TcpSocket) {
        assert_eq!(Life::Connected, self.life.get());
        self.chaos.act_a_few_times();
    }

    fn on_peer_finished(&mut self, _socket: &TcpSocket) {
        assert_eq!(Life::Connected, self.life.get());
        self.chaos.act_a_few_times();
    }

    fn on_closed(&mut self, socket: &TcpSocket, error: Option<io::Error>) {
        let ended = self.life.replace(Life::Over);
        assert_ne!(Life::Over, ended);
        assert!(error.is_some() || ended == Life::Connected);
        assert_eq!(TcpState::Closed, socket.state());
        self.chaos.closed.set(self.chaos.closed.get() + 1);
        self.chaos.act_a_few_times();
    }
}

/// Keeps what it accepts among the sockets of the chaos.
fn accept_into(chaos: &Rc<Chaos>, listener: &TcpListener) {
    let chaos = chaos.clone();
    listener.set_handler(OnIncoming(move |listener: &TcpListener| {
        while let Ok(socket) = listener.accept() {
            let slot = chaos.new_slot(socket, Life::Connected);
            chaos.slots.borrow_mut().push(slot);
        }
        chaos.act_a_few_times();
    }));
}

#[test]
fn item_28_whatever_handlers_do_each_life_is_told_in_order_and_ends_once() {
    in_every_world(|world| {
        let mut random = world.random();
        for _ in 0..4 {
            let listeners = [listen(world), listen(world)];
            let deserted = listen(world).local_addr();
            let [one, other] = listeners.each_ref().map(TcpListener::local_addr);
            let chaos = Rc::new(Chaos {
                server: world.server(),
                slots: RefCell::default(),
                targets: vec![one, one, other, deserted],
                random: RefCell::new(Random::new(random.next())),
                actions_left: Cell::new(ACTIONS),
                connected: Cell::default(),
                closed: Cell::default(),
            });
            for _ in 0..SOCKETS {
                let socket = world.server().tcp_socket(&TcpOptions::new()).unwrap();
                let slot = chaos.new_slot(socket, Life::Over);
                chaos.slots.borrow_mut().push(slot);
            }
            for listener in &listeners {
                accept_into(&chaos, listener);
            }
            while chaos.actions_left.get() > 0 {
                for _ in 0..chaos.up_to(20) {
                    chaos.act();
                }
                world.settle();
            }
            // Handshakes and names have their own pace.
            world.wait_until("each is told what became of it", || {
                let slots = chaos.slots.borrow();
                slots.iter().all(|slot| slot.life.get() != Life::Begun)
            });
            world.settle();
            assert!(chaos.connected.get() > 0 && chaos.closed.get() > 0);
            for slot in chaos.slots.borrow().iter() {
                let state = slot.socket.as_ref().map(TcpSocket::state);
                match slot.life.get() {
                    Life::Over => assert!(matches!(state, None | Some(TcpState::Closed))),
                    Life::Connected => assert_eq!(Some(TcpState::Connected), state),
                    Life::Begun => panic!("it was never told what became of it: {state:?}"),
                }
            }
            // The sockets' handlers know the chaos, and the chaos the sockets.
            let slots = chaos.slots.take();
            drop(slots);
            drop(listeners);
            world.wait_until("no handler outlives its socket", || {
                Rc::strong_count(&chaos) == 1
            });
        }
    });
}
