//! A channel between two processes of one machine: whole messages, in order, with descriptors beside them.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{Interest, unix::AsyncFd};

use super::descriptors;

/// The longest message, in bytes: what the kernel takes at once with its default buffers.
const LONGEST: usize = 128 * 1024;

/// One end. Both ends see when the other is gone, also by SIGKILL. A message is received whole or not at all, so that
/// an end can go to another process between two messages.
#[derive(Debug)]
pub struct Channel(AsyncFd<OwnedFd>);

impl Channel {
    /// How many descriptors go with one message at most.
    pub const MOST_DESCRIPTORS: usize = descriptors::MOST;

    /// Both ends of a new one.
    ///
    /// # Errors
    ///
    /// The system gives no more sockets.
    pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
    }

    /// One end. Call it inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// It is no such socket.
    pub fn new(end: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&end, true)?;
        // SAFETY: an `OwnedFd` is open and the same for as long as it lives, which is inside of what is made here.
        Ok(Self(unsafe { AsyncFd::register(end) }?))
    }

    /// Sends a message; waits while the other end is behind.
    ///
    /// # Errors
    ///
    /// The other end is gone (`BrokenPipe`), or the message is too long (`InvalidInput`).
    pub async fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"));
        }
        self.0.async_io(Interest::WRITABLE, |socket| descriptors::send(socket, &bytes, descriptors)).await
    }

    /// The next message; `None` when the other end is gone. Cancel-safe.
    ///
    /// # Errors
    ///
    /// It is none of `T` (`InvalidData`), or whatever the system says.
    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; LONGEST];
        let received =
            self.0.async_io(Interest::READABLE, |socket| descriptors::receive(socket, &mut bytes)).await;
        let (length, descriptors) = match received {
            Ok(received) => received,
            // The other end was closed with messages unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        };
        if length == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(&bytes[..length])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some((message, descriptors)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Seek as _, Write as _},
    };

    use super::*;

    #[tokio::test]
    async fn messages_stay_apart_and_descriptors_stay_with_theirs() {
        let (one, other) = Channel::pair().unwrap();
        let (one, other) = (Channel::new(one).unwrap(), Channel::new(other).unwrap());
        let (mut reader, mut writer) = io::pipe().unwrap();
        one.send(&"first", &[]).await.unwrap();
        one.send(&2, &[writer.as_fd(), reader.as_fd()]).await.unwrap();
        let (first, none) = other.receive::<String>().await.unwrap().unwrap();
        assert_eq!((&*first, none.len()), ("first", 0));
        let (second, both) = other.receive::<u32>().await.unwrap().unwrap();
        assert_eq!((second, both.len()), (2, 2));
        for descriptor in &both {
            assert!(rustix::io::fcntl_getfd(descriptor).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
        File::from(both.into_iter().next().unwrap()).write_all(b"through").unwrap();
        writer.flush().unwrap();
        let mut text = [0; 7];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"through");
        drop(one);
        assert!(other.receive::<u32>().await.unwrap().is_none());
        assert_eq!(other.send(&1, &[]).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn an_end_that_goes_to_somebody_else_loses_no_message() {
        let (one, other) = Channel::pair().unwrap();
        let one = Channel::new(one).unwrap();
        for number in 0..10 {
            one.send(&number, &[]).await.unwrap();
        }
        let mut other = Channel::new(other).unwrap();
        for number in 0..10 {
            assert_eq!(other.receive::<u32>().await.unwrap().unwrap().0, number);
            let moved = other.as_fd().try_clone_to_owned().unwrap();
            drop(other);
            other = Channel::new(moved).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_too_long_or_something_else_is_an_error_and_the_channel_goes_on() {
        let (one, other) = Channel::pair().unwrap();
        let (one, other) = (Channel::new(one).unwrap(), Channel::new(other).unwrap());
        let text = "x".repeat(LONGEST);
        assert_eq!(one.send(&text, &[]).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        one.send(&&text[..LONGEST - 2], &[]).await.unwrap();
        assert_eq!(other.receive::<String>().await.unwrap().unwrap().0.len(), LONGEST - 2);
        one.send(&"text", &[]).await.unwrap();
        assert_eq!(other.receive::<u32>().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut file = tempfile();
        file.rewind().unwrap();
        let many = vec![file.as_fd(); descriptors::MOST + 1];
        assert_eq!(one.send(&1, &many).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        one.send(&2, &many[1..]).await.unwrap();
        let (number, all) = other.receive::<u32>().await.unwrap().unwrap();
        assert_eq!((number, all.len()), (2, descriptors::MOST));
    }

    fn tempfile() -> File {
        rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into()
    }
}
