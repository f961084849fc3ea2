//! Bytes in pages of packets, in the hands of a program: what it sends from them and what it receives in them is not
//! copied. Above: programs that pass bytes on, as the stack server. Below: `page`; `copy` moves
//! them from and to packets. Linux: MSG_SPLICE_PAGES, and
//! the pages that splice(2) takes from a socket.

use super::page::{CLASSES, Frag, Page, PageRef};
use crate::base::error::Result;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};

/// Runs of at most so many bytes are copied, so that many small ones do not hold a page each.
const COPYBREAK: usize = 1024;
/// The largest page for bytes that are copied; where few are in the queue, it is a smaller one.
const OWN_PAGE: usize = 16 * 1024;

/// Slices of one call, as many as fit without an allocation.
pub type Slices<'a> = SmallVec<[IoSlice<'a>; 32]>;

/// A queue of bytes.
#[derive(Debug, Default)]
pub struct Pages {
    frags: VecDeque<Frag>,
    len: usize,
    /// Pages without bytes, to be filled.
    room: SmallVec<[PageRef; 2]>,
}

impl Pages {
    /// Bytes in the queue.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory for `len` bytes, in the order in which [`Pages::commit`] takes it.
    pub fn reserve(&mut self, len: usize) -> SmallVec<[IoSliceMut<'_>; 8]> {
        let mut left = len;
        let mut pages = 0;
        while left > 0 {
            if pages == self.room.len() {
                self.room.push(Page::alloc(left.min(CLASSES[CLASSES.len() - 1])));
            }
            left = left.saturating_sub(self.room[pages].size());
            pages += 1;
        }
        let mut left = len;
        let room = self.room[..pages].iter_mut().filter_map(|page| page.get_mut());
        room.map(|page| {
            let n = page.size().min(left);
            left -= n;
            IoSliceMut::new(&mut page.bytes_mut()[..n])
        })
        .collect()
    }

    /// The first `len` bytes of what [`Pages::reserve`] gave are written, and join the queue; the rest is given back.
    /// Few bytes in a large page are copied into a smaller one.
    pub fn commit(&mut self, len: usize) {
        let mut left = len;
        let mut room = std::mem::take(&mut self.room);
        for page in room.drain(..) {
            let n = left.min(page.size());
            left -= n;
            if n > 0 && n < page.size() / 8 {
                self.put(&page.bytes()[..n]);
            } else if n > 0 {
                self.frags.push_back(Frag { page, off: 0, len: n as u32 });
                self.len += n;
            }
        }
        self.room = room;
    }

    /// Copies bytes to the end of the queue: into the last page as far as nobody else has it.
    pub fn put(&mut self, mut bytes: &[u8]) {
        let size = self.len.min(OWN_PAGE);
        self.len += bytes.len();
        while !bytes.is_empty() {
            if let Some(last) = self.frags.back_mut()
                && let Some(page) = last.page.get_mut()
            {
                let at = (last.off + last.len) as usize;
                let n = bytes.len().min(page.size() - at);
                page.bytes_mut()[at..at + n].copy_from_slice(&bytes[..n]);
                last.len += n as u32;
                bytes = &bytes[n..];
                if n > 0 {
                    continue;
                }
            }
            self.frags.push_back(Frag { page: Page::alloc(bytes.len().max(size)), off: 0, len: 0 });
        }
    }

    /// Appends `len` bytes at `at` of a packet's page: by reference, or a short run by copying it.
    pub(super) fn share(&mut self, frag: &Frag, at: usize, len: usize) {
        if len > COPYBREAK {
            self.frags.push_back(Frag { page: frag.page.clone(), off: frag.off + at as u32, len: len as u32 });
            self.len += len;
        } else {
            self.put(&frag.bytes()[at..at + len]);
        }
    }

    /// The bytes from the front on, as far as one call takes them: 1024 runs (UIO_MAXIOV) at most.
    pub fn slices(&self) -> Slices<'_> {
        self.frags.iter().take(1024).map(|frag| IoSlice::new(frag.bytes())).collect()
    }

    /// The first run of bytes.
    pub fn first(&self) -> &[u8] {
        self.frags.front().map_or(&[], Frag::bytes)
    }

    /// Removes bytes at the front.
    pub fn advance(&mut self, n: usize) {
        let mut left = n.min(self.len);
        self.len -= left;
        while let Some(first) = self.frags.front_mut()
            && left >= first.len as usize
        {
            left -= first.len as usize;
            self.frags.pop_front();
        }
        if let Some(first) = self.frags.front_mut() {
            first.off += left as u32;
            first.len -= left as u32;
        }
    }

    /// Passes the first `len` bytes to `f`, as slices and where each is, and removes what that took, which `f` returns.
    pub(crate) fn pass(
        &mut self,
        len: usize,
        f: impl FnOnce(&[IoSlice<'_>], Runs<'_>) -> Result<usize>,
    ) -> Result<usize> {
        self.frags.make_contiguous();
        let (frags, _) = self.frags.as_slices();
        let mut left = len;
        let slice = |frag| {
            let bytes = Frag::bytes(frag);
            let n = bytes.len().min(left);
            left -= n;
            (n > 0).then(|| IoSlice::new(&bytes[..n]))
        };
        let slices: Slices<'_> = frags.iter().map_while(slice).collect();
        let n = f(&slices, Runs(frags))?;
        drop(slices);
        self.advance(n);
        Ok(n)
    }
}

impl<const N: usize> From<&[u8; N]> for Pages {
    /// A copy of bytes.
    fn from(bytes: &[u8; N]) -> Pages {
        let mut pages = Pages::default();
        pages.put(bytes);
        pages
    }
}

/// The pages that the slices of a message are in, in the order of the slices.
#[derive(Clone, Copy)]
pub(crate) struct Runs<'a>(&'a [Frag]);

impl Runs<'_> {
    /// `len` bytes at `offset` of a slice, by reference.
    pub(super) fn frag(&self, slice: usize, offset: usize, len: usize) -> Option<Frag> {
        let frag = self.0.get(slice)?;
        Some(Frag { page: frag.page.clone(), off: frag.off + offset as u32, len: len as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::net::{TcpListener, TcpStream};
    use crate::sock::skb::SKB_OVERHEAD;
    use std::net::Ipv4Addr;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect()
    }

    fn fill(pages: &mut Pages, bytes: &[u8]) {
        let mut left = bytes;
        for slice in &mut pages.reserve(bytes.len()) {
            let n = slice.len().min(left.len());
            slice[..n].copy_from_slice(&left[..n]);
            left = &left[n..];
        }
        assert!(left.is_empty());
        pages.commit(bytes.len());
    }

    fn content(pages: &Pages) -> Vec<u8> {
        pages.slices().iter().flat_map(|s| s.to_vec()).collect()
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let mut pages = Pages::default();
        let mut want = Vec::new();
        for len in [1, 300, 5000, 200_000, 1, 70_000, 16_384] {
            let bytes = pattern(len);
            if len % 2 == 0 {
                fill(&mut pages, &bytes)
            } else {
                pages.put(&bytes)
            }
            want.extend(bytes);
            let n = len / 3;
            pages.advance(n);
            want.drain(..n);
            assert_eq!(pages.len(), want.len());
            assert!(content(&pages) == want, "{len}");
        }
        pages.advance(usize::MAX);
        assert!(pages.is_empty() && content(&pages).is_empty());
        pages.put(b"again");
        assert_eq!(content(&pages), b"again");
    }

    #[test]
    fn room_is_as_large_as_was_asked_for_and_joins_the_queue_as_far_as_it_was_written() {
        let mut pages = Pages::default();
        pages.reserve(200_000)[2][0] = 7;
        pages.commit(0);
        assert!(pages.is_empty() && pages.room.is_empty());
        pages.reserve(3)[0].copy_from_slice(b"abc");
        pages.commit(2);
        assert_eq!(content(&pages), b"ab");
        assert_eq!(pages.reserve(150_000).iter().map(|s| s.len()).sum::<usize>(), 150_000);
    }

    #[test]
    fn few_bytes_do_not_hold_a_large_page() {
        let mut pages = Pages::default();
        for len in [612, 20_000, 300] {
            pages.reserve(64 * 1024)[0][..len].fill(b'x');
            pages.commit(len);
        }
        let sizes: Vec<_> = pages.frags.iter().map(|f| (f.len, f.page.size())).collect();
        let large = CLASSES[CLASSES.len() - 1];
        assert_eq!(sizes, [(612, 2048), (20_300, large)], "the last few join a page that has room");
        assert_eq!((pages.len(), content(&pages)), (20_912, vec![b'x'; 20_912]));
    }

    #[test]
    fn bytes_pass_through_sockets_and_pages_are_not_written_while_packets_have_them() {
        let stack = Config::parse("").unwrap().build().unwrap();
        let listener = TcpListener::bind_on(&stack, (Ipv4Addr::LOCALHOST, 0)).unwrap();
        let c = TcpStream::connect_on(&stack, listener.local_addr().unwrap()).unwrap();
        let (a, _) = listener.accept().unwrap();
        let (mut out, mut back) = (Pages::default(), Pages::default());
        let mut received: Vec<u8> = Vec::new();
        let all = pattern(3 << 20);
        let mut left = &all[..];
        while received.len() < all.len() {
            let n = left.len().min(150_001);
            if out.len() < 100_000 && n > 0 {
                fill(&mut out, &left[..n - 1]);
                out.put(&left[n - 1..n]);
                left = &left[n..];
            }
            let _ = c.socket().send_pages(&mut out, 40_001, libc::MSG_DONTWAIT);
            a.socket().recv_pages(&mut back, 200_000, 0).unwrap();
            let n = if left.is_empty() { back.len() } else { back.len() / 2 + 1 };
            received.extend(&content(&back)[..n]);
            back.advance(n);
        }
        assert!(received == all);
    }

    /// By more, and the window, which is made of what packets cost, would become smaller than the sender's segments.
    #[test]
    fn bytes_in_parts_of_two_large_pages_cost_a_receiver_in_this_stack_no_page() {
        const SO_MEMINFO: i32 = 55;
        let stack = Config::parse("").unwrap().build().unwrap();
        let listener = TcpListener::bind_on(&stack, (Ipv4Addr::LOCALHOST, 0)).unwrap();
        let c = TcpStream::connect_on(&stack, listener.local_addr().unwrap()).unwrap();
        let (a, _) = listener.accept().unwrap();
        let large = CLASSES[CLASSES.len() - 1];
        let mut out = Pages::default();
        fill(&mut out, &pattern(2 * large));
        out.advance(large - 10_000);
        assert_eq!(c.socket().send_pages(&mut out, 20_000, libc::MSG_DONTWAIT), Ok(20_000));
        let mut memory = [0; 36];
        a.socket().getsockopt(libc::SOL_SOCKET, SO_MEMINFO, &mut memory).unwrap();
        let received = u32::from_ne_bytes(*memory.first_chunk().unwrap());
        assert_eq!(received, SKB_OVERHEAD + 20_000);
    }
}
