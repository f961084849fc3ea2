//! Payload pages: the memory that packets' bytes live in. Above: `skb` (fragments of pages), devices (receive buffers).
//! A page is written while exactly one reference to it exists and is read-only afterwards: `Arc::get_mut` is the whole
//! proof, so sharing payload between the retransmit queue, the device and a capture costs one reference count and no
//! `unsafe`. Freed pages go to a per-thread cache and from there, in batches, to a pool that all threads share, so that
//! the steady state of a transfer allocates nothing. Linux: page_frag and page_pool play this part.

use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::Arc;

/// Sizes of pages in bytes, smallest first. 256 serves a small write or an acknowledgement, 2048 one Ethernet frame,
/// 16 KiB and 64 KiB super-packets. The last is larger than 64 KiB so that a whole received super-packet with its
/// headers fits.
pub const CLASSES: [usize; 4] = [256, 2048, 16 * 1024, 66 * 1024];

/// Pages a thread keeps of each class before it gives half of them to the shared pool.
const THREAD_CACHE: [usize; 4] = [256, 256, 64, 32];
/// Pages the shared pool keeps of each class; above that they are freed.
const SHARED_CACHE: [usize; 4] = [4096, 4096, 1024, 256];

/// One page: a fixed-size byte buffer that returns to its pool when dropped.
#[derive(Debug)]
pub struct Page {
    buf: Box<[u8]>,
    class: u8,
}

struct Cache([Vec<Box<[u8]>>; 4]);

thread_local! {
    static LOCAL: RefCell<Cache> = const { RefCell::new(Cache([Vec::new(), Vec::new(), Vec::new(), Vec::new()])) };
}

static SHARED: [Mutex<Vec<Box<[u8]>>>; 4] =
    [Mutex::new(Vec::new()), Mutex::new(Vec::new()), Mutex::new(Vec::new()), Mutex::new(Vec::new())];

impl Drop for Cache {
    /// A thread that ends leaves its pages to the others.
    fn drop(&mut self) {
        for (class, list) in self.0.iter_mut().enumerate() {
            give_back(class, list, 0);
        }
    }
}

fn give_back(class: usize, list: &mut Vec<Box<[u8]>>, keep: usize) {
    let mut shared = SHARED[class].lock();
    while list.len() > keep {
        let Some(buf) = list.pop() else { break };
        if shared.len() < SHARED_CACHE[class] {
            shared.push(buf);
        }
    }
}

impl Page {
    /// A page of at least `want` bytes, or of the largest class when none is that large. Contents are unspecified bytes
    /// left over from earlier use (never uninitialised memory); writers say how much they filled by the fragment they make.
    pub fn alloc(want: usize) -> Arc<Page> {
        let class = CLASSES.iter().position(|&c| c >= want).unwrap_or(CLASSES.len() - 1);
        let buf = LOCAL.try_with(|c| take(&mut c.borrow_mut().0[class], class)).ok().flatten();
        let buf = buf.unwrap_or_else(|| vec![0u8; CLASSES[class]].into_boxed_slice());
        Arc::new(Page { buf, class: class as u8 })
    }

    /// Size in bytes; what memory accounting charges for it.
    #[inline]
    pub fn size(&self) -> usize {
        self.buf.len()
    }

    /// The whole page.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buf
    }

    /// The whole page, to write to. Reached through `Arc::get_mut`, so only while nobody else can see it.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf
    }
}

fn take(local: &mut Vec<Box<[u8]>>, class: usize) -> Option<Box<[u8]>> {
    if let Some(buf) = local.pop() {
        return Some(buf);
    }
    let mut shared = SHARED[class].lock();
    let batch = (THREAD_CACHE[class] / 2).min(shared.len());
    let at = shared.len() - batch;
    local.extend(shared.drain(at..));
    local.pop()
}

impl Drop for Page {
    fn drop(&mut self) {
        let buf = std::mem::take(&mut self.buf);
        let class = self.class as usize;
        // A thread that is ending has no cache any more: the page is simply freed then.
        let _ = LOCAL.try_with(|c| {
            let list = &mut c.borrow_mut().0[class];
            list.push(buf);
            if list.len() > THREAD_CACHE[class] {
                give_back(class, list, THREAD_CACHE[class] / 2);
            }
        });
    }
}

/// A run of bytes in a page. Cloning shares the page.
#[derive(Debug, Clone)]
pub struct Frag {
    /// The page the bytes are in.
    pub page: Arc<Page>,
    /// First byte's offset in the page.
    pub off: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Frag {
    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.page.bytes()[self.off as usize..(self.off + self.len) as usize]
    }

    /// Copies `data` into new pages, one fragment a page. `data` longer than the largest page gives several.
    pub fn from_slice(data: &[u8]) -> Vec<Frag> {
        data.chunks(CLASSES[CLASSES.len() - 1])
            .map(|chunk| {
                let mut page = Page::alloc(chunk.len());
                if let Some(p) = Arc::get_mut(&mut page) {
                    p.bytes_mut()[..chunk.len()].copy_from_slice(chunk);
                }
                Frag { page, off: 0, len: chunk.len() as u32 }
            })
            .collect()
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
        let frags = Frag::from_slice(&data);
        assert!(frags.len() > 1);
        let joined: Vec<u8> = frags.iter().flat_map(|f| f.bytes().to_vec()).collect();
        assert_eq!(joined, data);
    }
}
