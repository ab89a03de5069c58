//! Lines with file descriptors over Unix stream sockets (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The longest line that is taken, bytes; more is a fault of the peer.
const MAX_LINE: usize = 1 << 20;

/// Sends `line` whole; `fd` rides on its first byte.
///
/// # Errors
/// Those of `sendmsg`.
pub async fn send(stream: &UnixStream, line: &[u8], fd: Option<&OwnedFd>) -> io::Result<()> {
    let mut sent = 0;
    while sent < line.len() {
        sent += stream
            .async_io(Interest::WRITABLE, || {
                let fds = fd.filter(|_| sent == 0).map(AsFd::as_fd);
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if let Some(fd) = &fds {
                    control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
                }
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                Ok(sendmsg(stream, &[IoSlice::new(&line[sent..])], &mut control, flags)?)
            })
            .await?;
    }
    Ok(())
}

/// Reads lines, and the descriptors that came with them, from a stream.
#[derive(Debug)]
pub struct LineReader {
    buffer: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl LineReader {
    /// One that has read nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { buffer: Vec::new(), fds: Vec::new() }
    }

    /// The next line without its end, or `None` at the end of the stream.
    ///
    /// # Errors
    /// Those of `recvmsg`; `InvalidData` for a line beyond all bounds.
    pub async fn line(&mut self, stream: &UnixStream) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            if self.buffer.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message without end"));
            }
            if self.fill(stream).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The descriptors that have come so far.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    async fn fill(&mut self, stream: &UnixStream) -> io::Result<usize> {
        let mut chunk = [0u8; 4096];
        let (read, fds) = stream
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
                let got = recvmsg(stream, &mut [IoSliceMut::new(&mut chunk)], &mut control, flags)?;
                let mut fds = Vec::new();
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = message {
                        fds.extend(rights);
                    }
                }
                Ok((got.bytes, fds))
            })
            .await?;
        self.buffer.extend_from_slice(&chunk[..read]);
        self.fds.extend(fds);
        Ok(read)
    }
}

impl Default for LineReader {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn a_descriptor_arrives_with_its_line() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        send(&a, b"first\nsecond\n", Some(&far.into())).await.unwrap();
        drop(a);
        let mut reader = LineReader::new();
        assert_eq!(reader.line(&b).await.unwrap().unwrap(), b"first");
        assert_eq!(reader.line(&b).await.unwrap().unwrap(), b"second");
        assert_eq!(reader.line(&b).await.unwrap(), None);
        let fd = reader.take_fds().pop().expect("the descriptor");
        let mut far = std::os::unix::net::UnixStream::from(fd);
        near.write_all(b"x").unwrap();
        let mut byte = [0];
        far.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        let (a, b) = UnixStream::pair().unwrap();
        let writer = tokio::spawn(async move {
            let chunk = vec![b'x'; 1 << 16];
            while send(&a, &chunk, None).await.is_ok() {}
        });
        let refused = LineReader::new().line(&b).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        drop(b);
        writer.await.unwrap();
    }
}
