//! The thread that starts threads: what is started inherits its confinement, not that of who asked.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, Builder, JoinHandle};

type Work = Box<dyn FnOnce() + Send>;

struct Order {
    builder: Builder,
    work: Work,
    done: Sender<io::Result<JoinHandle<()>>>,
}

pub(super) struct Spawner(Mutex<Sender<Order>>);

impl Spawner {
    pub(super) fn start() -> io::Result<Self> {
        let (orders, taken) = mpsc::channel::<Order>();
        thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for order in taken {
                // Who asked waits for it.
                let _ = order.done.send(order.builder.spawn(order.work));
            }
        })?;
        Ok(Self(Mutex::new(orders)))
    }

    pub(super) fn spawn(&self, builder: Builder, work: Work) -> io::Result<JoinHandle<()>> {
        let gone = || io::Error::other("the thread that starts threads is gone");
        let (done, started) = mpsc::channel();
        let order = Order { builder, work, done };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).send(order).map_err(|_| gone())?;
        started.recv().map_err(|_| gone())?
    }
}
