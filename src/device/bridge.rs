//! Two devices joined by a simulated link: a bad network between two kernels, or a kernel and a stack, where the kernel
//! has no netem. Above: `usersock link`. Below: `impaired`.

use super::gso::wire_frames;
use super::impaired::Impaired;
use super::link::LinkConfig;
use super::{Device, LinkType};
use crate::base::env::{Clock, RealClock};
use crate::sock::skb::Skb;
use crate::sys::poll::{PollFd, poll};
use std::io;
use std::sync::Arc;

/// Packets that are taken from a device before the other one has its turn.
const BUDGET: usize = 64;

/// Passes packets between two devices of one queue each, both with descriptors and both of IP, over a link whose
/// `forth` is from `a` to `b`. Returns only with an error: EINVAL (the devices, the link's settings), EMFILE, or a
/// device's.
pub fn join(a: Arc<dyn Device>, b: Arc<dyn Device>, link: &LinkConfig, seed: u64) -> io::Result<()> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let fits = |d: &Arc<dyn Device>| d.caps().link == LinkType::Ip && d.poll_fd(0).is_some();
    if !fits(&a) || !fits(&b) {
        return Err(invalid());
    }
    // Of a device with a link in front, `forth` is what its user sends.
    let a = Impaired::new(a, &LinkConfig { forth: link.back, back: link.forth, ..link.clone() }, seed)?;
    let (Some(fa), Some(fb)) = (a.poll_fd(0), b.poll_fd(0)) else { return Err(invalid()) };
    let clock = RealClock::new();
    loop {
        let mut fds = [PollFd::new(fa, libc::POLLIN), PollFd::new(fb, libc::POLLIN)];
        match poll(&mut fds, None) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        let now = clock.now();
        // What a full device does not take is lost, as at any router.
        a.recv(0, now, BUDGET, &mut |skb| drop(b.xmit(0, now, skb)))?;
        b.recv(0, now, BUDGET, &mut |skb| {
            wire_frames(&skb, 0, &mut |frame| drop(a.xmit(0, now, Skb::from_slice(frame))));
        })?;
    }
}
