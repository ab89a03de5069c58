//! What is wanted of a machine, and how it has ended: shared by its vCPU threads and whoever holds a [`Handle`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use super::Exit;
use crate::hypervisor::Kicker;

/// The button's effect on the guest.
pub(super) type Button = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    paused: bool,
    /// How many vCPUs stand still because of it.
    parked: usize,
    exit: Option<Exit>,
    vcpus: Vec<JoinHandle<()>>,
}

/// The machine's switchboard.
#[derive(Default)]
pub(super) struct Control {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether vCPUs have to look at `state` before they run on.
    interrupted: AtomicBool,
    button: OnceLock<Button>,
}

impl Control {
    /// Says how the machine ends, unless that has been said; calls all vCPUs out of the guest.
    pub(super) fn end(&self, exit: Exit) {
        let mut state = self.state();
        if state.exit.is_none() {
            state.exit = Some(exit);
            self.call(&state);
        }
    }

    /// Whether a vCPU has to come to [`checkpoint`](Self::checkpoint).
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    /// Where a vCPU stands still as long as the machine is paused. Returns whether it is to run on, and whether it
    /// stood still.
    pub(super) fn checkpoint(&self) -> (bool, bool) {
        let mut state = self.state();
        let mut stood = false;
        while state.paused && state.exit.is_none() {
            if !stood {
                stood = true;
                state.parked += 1;
                self.changed.notify_all();
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if stood {
            state.parked -= 1;
        }
        (state.exit.is_none(), stood)
    }

    /// Takes over the threads of the vCPUs, so that they can be called.
    pub(super) fn adopt(&self, vcpus: Vec<JoinHandle<()>>) {
        let mut state = self.state();
        state.vcpus = vcpus;
        if state.exit.is_some() || state.paused {
            self.call(&state);
        }
    }

    /// Gives the threads of the vCPUs back; they can be called no more.
    pub(super) fn release(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.state().vcpus)
    }

    pub(super) fn set_button(&self, button: Button) {
        // Set once, by the builder.
        let _ = self.button.set(button);
    }

    /// Waits for the machine's end.
    pub(super) fn wait(&self) -> Exit {
        let mut state = self.state();
        loop {
            if let Some(exit) = &state.exit {
                return exit.clone();
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn call(&self, state: &State) {
        self.interrupted.store(true, Ordering::Release);
        self.changed.notify_all();
        for vcpu in &state.vcpus {
            Kicker::kick(vcpu);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hold on a machine: asks it to do things. Outlives it harmlessly.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Control>);

impl Handle {
    /// Presses the power button. What comes of it is the guest's decision.
    pub fn press_power_button(&self) {
        if let Some(button) = self.0.button.get() {
            button();
        }
    }

    /// Stops all vCPUs where they are; returns when none runs. Nothing where it is so already, or over.
    pub fn pause(&self) {
        let mut state = self.0.state();
        if !state.paused {
            state.paused = true;
            self.0.call(&state);
        }
        while state.paused && state.exit.is_none() && state.parked < state.vcpus.len() {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the vCPUs run on.
    pub fn resume(&self) {
        let mut state = self.0.state();
        state.paused = false;
        if state.exit.is_none() {
            self.0.interrupted.store(false, Ordering::Release);
        }
        self.0.changed.notify_all();
    }

    /// Ends the machine at once.
    pub fn kill(&self) {
        self.0.end(Exit::Killed);
    }

    /// Ends the machine because its kernel was seen to have given up.
    pub fn panicked(&self) {
        self.0.end(Exit::Panicked);
    }

    /// How it has ended; `None` where it runs.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.0.state().exit.clone()
    }
}
