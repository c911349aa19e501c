//! Waits for many sockets at once.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;

use crate::error::Error;

/// Sockets that one wait can find ready; the others are found by the next.
const READY_MAX: usize = 1024;

const MILLISECOND_NS: u32 = 1_000_000;

/// A socket that something can be done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// What it was added with.
    pub(crate) key: u64,
    /// Reading brings bytes, the end, or an error.
    pub(crate) can_read: bool,
    pub(crate) can_write: bool,
}

/// The kernel's list of the sockets that we wait for, all of them for reading, some for writing.
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        Ok(Self { epoll })
    }

    pub(crate) fn add(&self, socket: impl AsFd, key: u64, is_for_writing: bool) -> Result<(), Error> {
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(key), flags(is_for_writing)).map_err(failed)
    }

    pub(crate) fn change(&self, socket: impl AsFd, key: u64, is_for_writing: bool) -> Result<(), Error> {
        epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(key), flags(is_for_writing)).map_err(failed)
    }

    pub(crate) fn remove(&self, socket: impl AsFd) -> Result<(), Error> {
        epoll::delete(&self.epoll, socket).map_err(failed)
    }

    /// Replaces what is in `ready` by the sockets that are; there are none if the time has passed.
    pub(crate) fn wait(&self, timeout: Duration, ready: &mut Vec<Ready>) -> Result<(), Error> {
        ready.clear();
        let mut timeout = timespec(timeout);
        if timeout.tv_nsec % i64::from(MILLISECOND_NS) != 0 {
            // The wait for many sockets counts in whole milliseconds on older kernels; that for a few never did.
            match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => return Ok(()),
                Ok(_) => timeout = timespec(Duration::ZERO),
                Err(error) => return Err(failed(error)),
            }
        }
        // An event may hold a pointer, so a thread could not be given a poller that kept them.
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; READY_MAX];
        let events = match epoll::wait(&self.epoll, &mut room[..], Some(&timeout)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        ready.extend(events.iter().map(|event| {
            let flags = event.flags;
            let has = |wanted| flags.intersects(wanted);
            Ready {
                key: event.data.u64(),
                can_read: has(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR),
                can_write: has(epoll::EventFlags::OUT),
            }
        }));
        Ok(())
    }
}

fn flags(is_for_writing: bool) -> epoll::EventFlags {
    let reading = epoll::EventFlags::IN;
    if is_for_writing { reading | epoll::EventFlags::OUT } else { reading }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

fn failed(error: Errno) -> Error {
    Error::Io { doing: "waiting for sockets", source: error.into() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    #[test]
    fn sockets_are_ready_for_what_was_asked() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let (poller, mut ready) = (Poller::new().unwrap(), Vec::new());
        poller.add(&other, 7, false).unwrap();
        poller.wait(Duration::ZERO, &mut ready).unwrap();
        assert!(ready.is_empty());
        poller.change(&other, 8, true).unwrap();
        poller.wait(Duration::from_secs(5), &mut ready).unwrap();
        assert_eq!(ready, [Ready { key: 8, can_read: false, can_write: true }]);
        one.write_all(b"x").unwrap();
        poller.wait(Duration::from_nanos(5_000_000_001), &mut ready).unwrap();
        assert_eq!(ready, [Ready { key: 8, can_read: true, can_write: true }]);
        poller.remove(&other).unwrap();
        poller.wait(Duration::ZERO, &mut ready).unwrap();
        assert!(ready.is_empty());
    }

    #[test]
    fn a_wait_for_microseconds_takes_no_millisecond_more() {
        let (poller, mut ready) = (Poller::new().unwrap(), Vec::new());
        let begun = Instant::now();
        (0..100).for_each(|_| poller.wait(Duration::from_micros(50), &mut ready).unwrap());
        // A hundred rounded up are a hundred milliseconds.
        assert!(begun.elapsed() < Duration::from_millis(90), "{:?}", begun.elapsed());
    }
}
