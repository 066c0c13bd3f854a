//! Signals through a pipe.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

use mio::Interest;
use mio::net::UnixStream;

use super::ServerCore;
use crate::registry::Key;
use crate::signal::{Signal, SignalSource};

/// A pipe that a signal handler writes to, and the poll watches. The handler proper is
/// signal-hook's: writing a byte is all that it does, because there is little else that may be done
/// there.
pub(super) struct Pipe {
    server: Rc<ServerCore>,
    reader: RefCell<UnixStream>,
    registration: signal_hook::SigId,
}

impl Pipe {
    pub(super) fn new(server: Rc<ServerCore>, key: Key, signal: Signal) -> io::Result<Self> {
        let number = signal.number();
        if signal_hook::consts::FORBIDDEN.contains(&number) {
            let message = format!("signal {number} cannot be handled");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (mut reader, writer) = UnixStream::pair()?;
        server.register(&mut reader, key, Interest::READABLE)?;
        let registration = signal_hook::low_level::pipe::register(number, writer)
            .inspect_err(|_| server.deregister(&mut reader))?;
        Ok(Self {
            server,
            reader: RefCell::new(reader),
            registration,
        })
    }
}

impl SignalSource for Pipe {
    fn take(&self) -> bool {
        let mut raised = false;
        let mut bytes = [0; 256];
        // A full pipe drops bytes, not the signal: there is one to be read.
        while matches!(self.reader.borrow_mut().read(&mut bytes), Ok(read) if read > 0) {
            raised = true;
        }
        raised
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.registration);
        self.server.deregister(self.reader.get_mut());
    }
}
