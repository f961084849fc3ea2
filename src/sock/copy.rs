//! Bytes between the message of a call and packets, copied, or passed by reference where both are in pages. Above:
//! `sendmsg` and `recvmsg` of the protocols. Below: `msg`, `pages`, `skb`. Linux: net/core/datagram.c
//! (skb_copy_datagram_iter), skb_splice_from_iter.

use super::msg::{RecvMsg, SendMsg};
use super::pages::Pages;
use super::skb::{Skb, SkbInner};

impl SendMsg<'_> {
    /// Appends `chunk`, which [`SendMsg::chunk`] returned, to a packet. `hint`: as [`Skb::append`].
    #[inline]
    pub(crate) fn append_to(&self, skb: &mut Skb, chunk: &[u8], hint: usize) {
        match self.runs {
            Some(runs) => runs.frag(self.index, self.offset, chunk.len()).into_iter().for_each(|f| skb.push_frag(f)),
            None => drop(skb.append(chunk, hint)),
        }
    }
}

impl RecvMsg<'_, '_> {
    /// Copies bytes `from..from + len` of a packet, as far as there is room; returns how many.
    #[inline]
    pub fn put_skb(&mut self, skb: &SkbInner, from: usize, len: usize) -> usize {
        match skb.frags() {
            [one] if self.pages.is_none() && skb.head_len() == 0 && from + len <= skb.len() => {
                self.put(&one.bytes()[from..from + len])
            }
            _ => self.put_frags(skb, from, len),
        }
    }

    fn put_frags(&mut self, skb: &SkbInner, from: usize, len: usize) -> usize {
        if let Some(pages) = &mut self.pages {
            let n = len.min(skb.len() - from).min(self.remaining);
            take(pages, skb, from, n);
            self.remaining -= n;
            return n;
        }
        let (mut skip, mut left, mut done) = (from, len, 0);
        for s in skb.slices() {
            if skip >= s.len() {
                skip -= s.len();
                continue;
            }
            let s = &s[skip..s.len().min(skip.saturating_add(left))];
            skip = 0;
            let n = self.put(s);
            done += n;
            left -= n;
            if left == 0 || n < s.len() {
                break;
            }
        }
        done
    }
}

/// Appends bytes `from..from + len` of a packet that was received.
fn take(pages: &mut Pages, skb: &SkbInner, from: usize, len: usize) {
    let (mut skip, mut left) = (from, len);
    let mut next = |n: usize| {
        let at = skip.min(n);
        skip -= at;
        let n = (n - at).min(left);
        left -= n;
        (at, n)
    };
    let (at, n) = next(skb.head_len());
    if n > 0 {
        pages.put(&skb.linear()[at..at + n]);
    }
    for frag in skb.frags() {
        let (at, n) = next(frag.len as usize);
        if n > 0 {
            pages.share(frag, at, n);
        }
    }
}
