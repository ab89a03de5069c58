//! Who waits for a socket that the keeper makes.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

type Answer = io::Result<OwnedFd>;

/// Those who wait, by the ticket that their answer will name.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    closed: bool,
}

/// A place among those who wait; given up when dropped.
#[derive(Debug)]
pub struct Place<'a> {
    /// What the answer will name.
    pub ticket: u64,
    waiting: &'a Waiting,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting {
    /// Takes a place.
    ///
    /// # Errors
    /// `BrokenPipe` where no answer can come any more.
    pub fn enter(&self) -> io::Result<Place<'_>> {
        let (tell, answer) = oneshot::channel();
        let mut queue = self.queue();
        if queue.closed {
            return Err(gone());
        }
        let ticket = queue.next;
        queue.next += 1;
        queue.waiting.insert(ticket, tell);
        drop(queue);
        Ok(Place { ticket, waiting: self, answer })
    }

    /// Hands an answer to whoever waits for it. Whoever gave up has no use for it.
    pub fn tell(&self, ticket: u64, answer: Answer) {
        let waiting = self.queue().waiting.remove(&ticket);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    /// Those who wait hear that nothing comes, and those who come hear it at once.
    pub fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.waiting.clear();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// Those of the answer, and `BrokenPipe` where none comes.
    pub async fn answer(mut self) -> Answer {
        (&mut self.answer).await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.queue().waiting.remove(&self.ticket);
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the machine has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[tokio::test]
    async fn answers_find_their_place_in_any_order() {
        let waiting = Waiting::default();
        let (first, second) = (waiting.enter().unwrap(), waiting.enter().unwrap());
        waiting.tell(second.ticket, Err(io::Error::from_raw_os_error(libc::EMFILE)));
        waiting.tell(first.ticket, Ok(fd()));
        assert!(first.answer().await.is_ok());
        assert_eq!(second.answer().await.unwrap_err().raw_os_error(), Some(libc::EMFILE));
    }

    #[tokio::test]
    async fn whoever_gives_up_is_forgotten_and_the_end_is_told() {
        let waiting = Waiting::default();
        let given_up = waiting.enter().unwrap().ticket;
        assert!(waiting.queue().waiting.is_empty());
        waiting.tell(given_up, Ok(fd()));
        let place = waiting.enter().unwrap();
        waiting.close();
        assert_eq!(place.answer().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(waiting.enter().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
