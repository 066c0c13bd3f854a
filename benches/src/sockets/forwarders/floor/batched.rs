//! As few system calls as can be, and nothing copied: what arrives leaves from where it arrived.

use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;

use super::{BUFFER_BYTES, Calls};
use crate::udp_option::coalesce;

/// Datagrams, or trains of coalesced ones, that are received with one call.
const SLOTS: usize = 32;
/// What the kernel segments of one call at most, in number and in bytes.
const MAX_SEGMENTS: usize = 64;
const MAX_RUN_BYTES: usize = 65_000;

/// Room for one control message, aligned for its header.
type Control = [u64; 8];

/// The headers point into the other fields, of which none is moved or grown again.
pub(super) struct Batched {
    memory: Vec<u8>,
    sources: Vec<libc::sockaddr_in>,
    controls: Vec<Control>,
    slices: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    destinations: Vec<libc::sockaddr_in>,
    /// The datagrams that have arrived, in their slots, and which of them leave together.
    segments: Vec<libc::iovec>,
    runs: Vec<Range<usize>>,
}

impl Batched {
    pub(super) fn new(socket: &UdpSocket, destinations: &[SocketAddr]) -> Result<Self, String> {
        coalesce(socket)?;
        // SAFETY: a socket address of zeros is one.
        let unset: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        let destinations = destinations.iter().map(|address| {
            let SocketAddr::V4(address) = address else {
                return Err("not an IPv4 address".to_owned());
            };
            Ok(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*address.ip()).to_be(),
                },
                ..unset
            })
        });
        let mut batched = Self {
            memory: vec![0; SLOTS * BUFFER_BYTES],
            sources: vec![unset; SLOTS],
            controls: vec![Control::default(); SLOTS],
            slices: Vec::with_capacity(SLOTS),
            headers: Vec::with_capacity(SLOTS),
            destinations: destinations.collect::<Result<_, _>>()?,
            segments: Vec::with_capacity(SLOTS * MAX_SEGMENTS),
            runs: Vec::with_capacity(SLOTS * MAX_SEGMENTS),
        };
        for buffer in batched.memory.chunks_exact_mut(BUFFER_BYTES) {
            batched.slices.push(libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: BUFFER_BYTES,
            });
        }
        let places = batched.sources.iter_mut().zip(&mut batched.controls);
        for (slice, (source, control)) in batched.slices.iter_mut().zip(places) {
            // SAFETY: a header of zeros is one that points to nothing.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = ptr::from_mut(source).cast();
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            batched.headers.push(header);
        }
        Ok(batched)
    }

    /// Returns how many slots have been filled.
    fn receive(&mut self, socket: &UdpSocket) -> usize {
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
                0,
                ptr::null_mut(),
            )
        };
        usize::try_from(filled).unwrap_or(0)
    }

    fn find_segments(&mut self, filled: usize) {
        self.segments.clear();
        for (header, slice) in self.headers[..filled].iter().zip(&self.slices) {
            let bytes = header.msg_len as usize;
            let stride = stride(&header.msg_hdr).unwrap_or(bytes).max(1);
            for start in (0..bytes).step_by(stride) {
                self.segments.push(libc::iovec {
                    // Within the slot, which has more bytes than arrived.
                    iov_base: slice.iov_base.cast::<u8>().wrapping_add(start).cast(),
                    iov_len: stride.min(bytes - start),
                });
            }
        }
    }

    /// Those of one size leave together; the last may be shorter.
    fn find_runs(&mut self) {
        self.runs.clear();
        let mut start = 0;
        while let Some(first) = self.segments.get(start) {
            let (mut end, mut bytes) = (start + 1, first.iov_len);
            while let Some(next) = self.segments.get(end)
                && next.iov_len <= first.iov_len
                && self.segments[end - 1].iov_len == first.iov_len
                && end - start < MAX_SEGMENTS
                && bytes + next.iov_len <= MAX_RUN_BYTES
            {
                bytes += next.iov_len;
                end += 1;
            }
            self.runs.push(start..end);
            start = end;
        }
    }

    fn send(&mut self, socket: &UdpSocket) {
        let mut control = Control::default();
        for destination in &mut self.destinations {
            for run in &self.runs {
                let segments = &mut self.segments[run.clone()];
                // SAFETY: a header of zeros is one that points to nothing.
                let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
                header.msg_name = ptr::from_mut(destination).cast();
                header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
                header.msg_iov = segments.as_mut_ptr();
                header.msg_iovlen = segments.len();
                if segments.len() > 1 {
                    header.msg_control = control.as_mut_ptr().cast();
                    segment(&mut header, segments[0].iov_len as u16);
                }
                // SAFETY: the header points to a destination, a control message and to what has
                // arrived, all of which stay where they are during the call.
                unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, 0) };
                // What there is no room for is lost, as datagrams are.
            }
        }
    }
}

impl Calls for Batched {
    fn forward(&mut self, socket: &UdpSocket) {
        loop {
            let filled = self.receive(socket);
            if filled == 0 {
                break;
            }
            self.find_segments(filled);
            self.find_runs();
            self.send(socket);
        }
    }
}

/// The size of the datagrams that have been coalesced in one slot, if they have.
fn stride(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel has written the control messages, and their length.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: it is one of the messages, which are aligned.
        let is = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if is == (libc::SOL_UDP, libc::UDP_GRO) {
            // SAFETY: this message has an int, aligned or not.
            let size = unsafe {
                libc::CMSG_DATA(message)
                    .cast::<libc::c_int>()
                    .read_unaligned()
            };
            return usize::try_from(size).ok();
        }
        // SAFETY: as of the first.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// Asks the kernel to send as datagrams of this size. The header has room for one control message.
fn segment(header: &mut libc::msghdr, bytes: u16) {
    // SAFETY: it only computes.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) } as usize;
    // SAFETY: the header points to room for a message of this length.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as usize;
        libc::CMSG_DATA(message)
            .cast::<u16>()
            .write_unaligned(bytes);
    }
}
