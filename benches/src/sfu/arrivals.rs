//! Receives many datagrams with one call, and learns when the kernel had them.
//!
//! The kernel's time is what makes the latencies those of the system under test: a load of hundreds of
//! clients on one core reads its sockets late, which no client of one person would.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

/// Datagrams that are received with one call: a frame, and some.
const SLOTS: usize = 16;
const SLOT_BYTES: usize = 2_048;
/// Room for what comes between two looks at a socket. The kernel doubles it.
const BUFFER_BYTES: libc::c_int = 1 << 20;

/// Room for one control message, aligned for its header.
type Control = [u64; 8];

/// The headers point into the other fields, of which none is moved or grown again.
pub(crate) struct Arrivals {
    memory: Vec<u8>,
    sources: Vec<libc::sockaddr_in>,
    controls: Vec<Control>,
    slices: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

/// What has arrived.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) source: SocketAddr,
    /// Since the epoch.
    pub(crate) at: Duration,
    pub(crate) data: &'a [u8],
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        // SAFETY: a socket address of zeros is one.
        let unset: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        let mut arrivals = Self {
            memory: vec![0; SLOTS * SLOT_BYTES],
            sources: vec![unset; SLOTS],
            controls: vec![Control::default(); SLOTS],
            slices: Vec::with_capacity(SLOTS),
            headers: Vec::with_capacity(SLOTS),
        };
        for buffer in arrivals.memory.chunks_exact_mut(SLOT_BYTES) {
            arrivals.slices.push(libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: SLOT_BYTES,
            });
        }
        let places = arrivals.sources.iter_mut().zip(&mut arrivals.controls);
        for (slice, (source, control)) in arrivals.slices.iter_mut().zip(places) {
            // SAFETY: a header of zeros is one that points to nothing.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = ptr::from_mut(source).cast();
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            arrivals.headers.push(header);
        }
        arrivals
    }

    /// Receives what is there, up to a limit: so if it was reached, there may be more.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> Received<'_> {
        for header in &mut self.headers {
            // The kernel has put there what it wrote.
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = size_of::<Control>();
        }
        // SAFETY: every header points to memory of this value, with its true lengths.
        let filled = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                SLOTS as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        Received {
            arrivals: self,
            filled: usize::try_from(filled).unwrap_or(0),
        }
    }
}

/// What one call has received.
pub(crate) struct Received<'a> {
    arrivals: &'a Arrivals,
    filled: usize,
}

impl Received<'_> {
    pub(crate) fn may_be_more(&self) -> bool {
        self.filled == SLOTS
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Arrival<'_>> {
        let all = self.arrivals;
        let slots = all.memory.chunks_exact(SLOT_BYTES).zip(&all.sources);
        let filled = all.headers[..self.filled].iter().zip(slots);
        filled.map(|(header, (slot, source))| {
            let ip = Ipv4Addr::from(u32::from_be(source.sin_addr.s_addr));
            Arrival {
                source: (ip, u16::from_be(source.sin_port)).into(),
                at: timestamp(&header.msg_hdr).unwrap_or_else(super::media::wall_clock),
                data: &slot[..header.msg_len as usize],
            }
        })
    }
}

fn timestamp(header: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the kernel has written the control messages, and their length.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: it is one of the messages, which are aligned.
        let is = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if is == (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS) {
            // SAFETY: this message has a time, aligned or not.
            let time = unsafe {
                libc::CMSG_DATA(message)
                    .cast::<libc::timespec>()
                    .read_unaligned()
            };
            return Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32));
        }
        // SAFETY: as of the first.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// Asks the kernel to note when a datagram comes, and to keep many.
pub(crate) fn prepare(socket: &UdpSocket) -> io::Result<()> {
    set(socket, libc::SO_TIMESTAMPNS, 1)?;
    set(socket, libc::SO_RCVBUF, BUFFER_BYTES)
}

fn set(socket: &UdpSocket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: these options are an int, and there is one.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
