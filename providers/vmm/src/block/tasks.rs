//! The futures of one thread: each request is one, polled when what it waits for has happened.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::Engine;

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Futures in flight, each with a result of type `T`.
pub struct Tasks<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    ready: Arc<Ready>,
}

struct Slot<T> {
    task: Option<Task<T>>,
    waker: Waker,
}

impl<T> Tasks<T> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), ready: Arc::default() }
    }

    /// Adds one; it is first polled by [`run`](Self::run).
    pub fn spawn(&mut self, task: impl Future<Output = T> + Send + 'static) {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = self.slots.len();
            let waker = Waker::from(Arc::new(Wakeup { index, ready: self.ready.clone() }));
            self.slots.push(Slot { task: None, waker });
            index
        });
        self.slots[index].task = Some(Box::pin(task));
        self.ready.push(index);
    }

    /// How many are not done.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether all are done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Polls all that were woken, until none is; hands each result to `done`. Returns whether there was any.
    pub fn run(&mut self, mut done: impl FnMut(T)) -> bool {
        let mut any = false;
        while let Some(index) = self.ready.pop() {
            any = true;
            let slot = &mut self.slots[index];
            // A waker may outlive its task, and then wakes whoever has the slot now, which does no harm.
            let Some(task) = slot.task.as_mut() else { continue };
            if let Poll::Ready(result) = task.as_mut().poll(&mut Context::from_waker(&slot.waker)) {
                slot.task = None;
                self.free.push(index);
                done(result);
            }
        }
        any
    }
}

impl<T> Default for Tasks<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<usize>>);

impl Ready {
    fn push(&self, index: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(index);
    }

    fn pop(&self) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

struct Wakeup {
    index: usize,
    ready: Arc<Ready>,
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.index);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.push(self.index);
    }
}

/// Runs one future to its end, waiting in this thread for what `engine` does for it.
pub fn block_on<T: Send + 'static>(engine: &Engine, task: impl Future<Output = T> + Send + 'static) -> T {
    let mut tasks = Tasks::new();
    tasks.spawn(task);
    let mut result = None;
    loop {
        tasks.run(|value| result = Some(value));
        if let Some(result) = result.take() {
            return result;
        }
        engine.wait();
    }
}
