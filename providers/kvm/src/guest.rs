//! A virtual machine as its supervisor serves it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use async_trait::async_trait;
use posada_network::nat::Nat;
use posada_provider_api::{Protocol, ProviderError};
use posada_supervisor::Guest;
use posada_vmm::machine::Handle;

/// After how long a port that refused is first dialled again though nothing stirred.
///
/// Nothing outside of a virtual machine sees that a process in it begins to listen. Its console and what it begins on
/// its network tell of nearly all that matters; a daemon that somebody starts later, or a system that boots without a
/// word, tells nothing, and there asking again is all that is left.
const UNASKED: Duration = Duration::from_millis(250);

/// A running virtual machine.
pub(crate) struct VirtualMachine {
    pub(crate) handle: Handle,
    pub(crate) nat: Nat,
}

#[async_trait]
impl Guest for VirtualMachine {
    fn init_pid(&self) -> Option<i32> {
        None
    }

    fn ask_to_stop(&self) -> io::Result<()> {
        self.handle.press_power_button();
        Ok(())
    }

    fn kill(&self) -> io::Result<()> {
        self.handle.kill();
        Ok(())
    }

    fn suspend(&self) -> Result<(), ProviderError> {
        self.handle.pause();
        Ok(())
    }

    fn resume(&self) -> Result<(), ProviderError> {
        self.handle.resume();
        Ok(())
    }

    async fn dial(&self, protocol: Protocol, port: u16) -> io::Result<OwnedFd> {
        self.nat.dial(protocol, port).await
    }

    fn unasked(&self) -> Option<Duration> {
        Some(UNASKED)
    }
}
