//! Payload pages: the memory that holds packets' bytes. Above: `skb` (fragments of pages), devices (receive buffers). A
//! page is written only while exactly one reference to it exists and is read-only afterwards, which `Arc::get_mut`
//! enforces, so sharing payload between the retransmit queue, the device and a capture costs one reference count. Freed
//! pages are kept for reuse (`pool`), so that the steady state of a transfer allocates nothing. Linux: page_frag and
//! page_pool.

use super::pool::{Local, Shared};
use crate::sys::kept::{Keep, Kept};
use crate::sys::near::near_local;
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Sizes of pages in bytes, smallest first. 256 serves a small write or an acknowledgement, 2048 one Ethernet frame,
/// 16 KiB and 64 KiB super-packets. The last is larger than 64 KiB so that a whole received super-packet with its
/// headers fits.
pub(crate) const CLASSES: [usize; 4] = [256, 2048, 16 * 1024, 66 * 1024];

/// One page: a fixed-size byte buffer.
pub(crate) struct Page {
    buf: Box<[u8]>,
    class: u8,
}

/// Not its bytes, of which many say nothing.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({})", self.buf.len())
    }
}

/// A reference to a page. When the last reference is dropped, the page is kept for reuse. Cloning shares the page.
#[derive(Debug)]
pub(crate) struct PageRef(Kept<Arc<Page>>);

/// For each size class, the pages kept by all threads together; below, those kept by one thread.
static SHARED: [Shared<Arc<Page>>; 4] = [Shared::new(4096), Shared::new(4096), Shared::new(1024), Shared::new(256)];

near_local! {
    static LOCAL at Pages: RefCell<[Local<Arc<Page>>; 4]> = {
        let [a, b, c, d] = &SHARED;
        RefCell::new([Local::new(256, a), Local::new(256, b), Local::new(64, c), Local::new(32, d)])
    };
}

impl Keep for Arc<Page> {
    /// Keeps the page for reuse when this is the only reference. When two threads drop the last two references at once,
    /// and each sees the other's, the page is freed.
    #[inline]
    fn keep(mut self) {
        if let Some(page) = Arc::get_mut(&mut self) {
            let class = page.class as usize;
            // A thread that is ending has no cache any more: the page is freed.
            let _ = LOCAL.try_with(|c| c.borrow_mut()[class].put(self));
        }
    }
}

impl PageRef {
    /// Whether both refer to the same page.
    #[inline]
    pub(crate) fn same(a: &PageRef, b: &PageRef) -> bool {
        Arc::ptr_eq(&a.0, &b.0)
    }

    /// Whether another reference exists.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The page, writable, if this is the only reference.
    #[inline]
    pub(crate) fn get_mut(&mut self) -> Option<&mut Page> {
        Arc::get_mut(&mut self.0)
    }
}

impl Clone for PageRef {
    #[inline]
    fn clone(&self) -> PageRef {
        PageRef(Kept::new(Arc::clone(&self.0)))
    }
}

impl Deref for PageRef {
    type Target = Page;
    #[inline]
    fn deref(&self) -> &Page {
        &self.0
    }
}

impl Page {
    /// A page of at least `want` bytes, or of the largest class when none is that large. Its contents are whatever an
    /// earlier use left (never uninitialised memory); the fragment made of it says how much was written.
    pub(crate) fn alloc(want: usize) -> PageRef {
        let class = CLASSES.iter().position(|&c| c >= want).unwrap_or(CLASSES.len() - 1);
        let kept = LOCAL.try_with(|c| c.borrow_mut()[class].take()).flatten();
        PageRef(Kept::new(kept.unwrap_or_else(|| {
            Arc::new(Page { buf: vec![0u8; CLASSES[class]].into_boxed_slice(), class: class as u8 })
        })))
    }

    /// Size in bytes, which memory accounting charges.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.buf.len()
    }

    /// The whole page.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf
    }

    /// The whole page, writable. Reached through [`PageRef::get_mut`], so only with a single reference.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf
    }
}

/// A run of bytes in a page. Cloning shares the page.
#[derive(Debug, Clone)]
pub(crate) struct Frag {
    /// The page the bytes are in.
    pub page: PageRef,
    /// Offset of the first byte in the page.
    pub off: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Frag {
    /// The bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.page.bytes()[self.off as usize..(self.off + self.len) as usize]
    }

    /// Copies `data` into new pages, one fragment a page; several if `data` is longer than the largest page.
    pub(crate) fn from_slice(data: &[u8]) -> impl Iterator<Item = Frag> {
        data.chunks(CLASSES[CLASSES.len() - 1]).map(|chunk| {
            let mut page = Page::alloc(chunk.len());
            if let Some(p) = page.get_mut() {
                p.bytes_mut()[..chunk.len()].copy_from_slice(chunk);
            }
            Frag { page, off: 0, len: chunk.len() as u32 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_page_serves_the_next_allocation_of_its_class() {
        let p = Page::alloc(2000);
        let addr = p.bytes().as_ptr() as usize;
        drop(p);
        let q = Page::alloc(1500);
        assert_eq!(q.bytes().as_ptr() as usize, addr);
        assert_eq!(q.size(), 2048);
    }

    #[test]
    fn a_slice_longer_than_a_page_becomes_several_fragments() {
        let data: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let frags: Vec<Frag> = Frag::from_slice(&data).collect();
        assert!(frags.len() > 1);
        let joined: Vec<u8> = frags.iter().flat_map(|f| f.bytes().to_vec()).collect();
        assert_eq!(joined, data);
    }
}
