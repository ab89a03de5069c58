//! How the guest switches itself off, resets itself, says that it gave up, and hears of its power button: ACPI's fixed
//! registers (ACPI 6.5, section 4.8.3), the reset register, the keyboard controller's reset line, pvpanic.

use std::sync::Arc;

use super::layout::{PM1A_CONTROL, PM1A_EVENT, RESET_REGISTER, RESET_VALUE, SLEEP_TYPE_S5};
use crate::bus::BusDevice;

/// What the guest asks of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerRequest {
    /// Switch it off.
    PowerOff,
    /// Begin anew.
    Reset,
    /// Its kernel has given up.
    Panicked,
}

/// Who hears what the guest asks. Called on a vCPU thread: must not wait for that vCPU.
pub type PowerListener = Arc<dyn Fn(PowerRequest) + Send + Sync>;

/// A level-triggered interrupt line: `true` raises it, `false` lowers it.
pub type Line = Box<dyn Fn(bool) + Send>;

/// `PWRBTN_STS` and `PWRBTN_EN`.
const POWER_BUTTON: u16 = 1 << 8;
/// What can be enabled: global release (bit 5), power button, sleep button, real-time clock.
const ENABLE_BITS: u16 = 1 << 5 | POWER_BUTTON | 1 << 9 | 1 << 10;
/// `SCI_EN`: ACPI mode, the only one there is.
const SCI_ENABLED: u16 = 1;
/// `SLP_EN`, write-only.
const SLEEP_ENABLE: u16 = 1 << 13;
/// `SLP_TYP`.
const SLEEP_TYPE_SHIFT: u16 = 10;

/// The PM1a registers and the reset register, at [`super::layout::POWER_PORTS`].
pub struct PowerBlock {
    status: u16,
    enable: u16,
    control: u16,
    raised: bool,
    sci: Line,
    listener: PowerListener,
}

impl PowerBlock {
    /// Registers that raise `sci` for events and tell `listener` of requests.
    #[must_use]
    pub fn new(sci: Line, listener: PowerListener) -> Self {
        Self { status: 0, enable: 0, control: SCI_ENABLED, raised: false, sci, listener }
    }

    /// Presses the power button, for a moment.
    pub fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
        self.update_line();
    }

    fn update_line(&mut self) {
        let raised = self.status & self.enable != 0;
        if raised != self.raised {
            self.raised = raised;
            (self.sci)(raised);
        }
    }

    fn byte(&self, offset: u64) -> u8 {
        let [status, enable, control] = [self.status, self.enable, self.control].map(u16::to_le_bytes);
        match offset {
            PM1A_EVENT => status[0],
            1 => status[1],
            2 => enable[0],
            3 => enable[1],
            PM1A_CONTROL => control[0],
            5 => control[1],
            _ => 0,
        }
    }

    fn write_byte(&mut self, offset: u64, value: u8) {
        let shift = 8 * (offset % 2);
        let (value, mask) = (u16::from(value) << shift, 0xff << shift);
        match offset {
            0 | 1 => self.status &= !value,
            2 | 3 => self.enable = self.enable & !mask | value & ENABLE_BITS,
            4 | 5 => {
                self.control = self.control & !mask | value & !SLEEP_ENABLE | SCI_ENABLED;
                let sleep_type = self.control >> SLEEP_TYPE_SHIFT & 7;
                if value & SLEEP_ENABLE != 0 && sleep_type == u16::from(SLEEP_TYPE_S5) {
                    (self.listener)(PowerRequest::PowerOff);
                }
            }
            RESET_REGISTER if value == u16::from(RESET_VALUE) => (self.listener)(PowerRequest::Reset),
            _ => {}
        }
    }
}

impl BusDevice for PowerBlock {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = self.byte(at);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for (at, &byte) in (offset..).zip(data) {
            self.write_byte(at, byte);
        }
        self.update_line();
    }
}

/// The reset line of a keyboard controller without a keyboard, at [`super::layout::I8042_PORTS`].
pub struct ResetLine(PowerListener);

impl ResetLine {
    /// A line that tells `listener`.
    #[must_use]
    pub fn new(listener: PowerListener) -> Self {
        Self(listener)
    }
}

/// The keyboard controller's command and status port, from [`super::layout::I8042_PORTS`].
const I8042_COMMAND: u64 = 4;
/// "Pulse output line 0", which is wired to the processor's reset.
const I8042_PULSE_RESET: u8 = 0xfe;

impl BusDevice for ResetLine {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        // Status zero: ready for a command. A kernel that resets waits for that.
        if offset == I8042_COMMAND {
            data.fill(0);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if offset == I8042_COMMAND && data == [I8042_PULSE_RESET] {
            (self.0)(PowerRequest::Reset);
        }
    }
}

/// The reset control register, at [`super::layout::CF9_PORT`].
pub struct ResetControl(PowerListener);

impl ResetControl {
    /// A register that tells `listener`.
    #[must_use]
    pub fn new(listener: PowerListener) -> Self {
        Self(listener)
    }
}

impl BusDevice for ResetControl {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) {
        if data.first().is_some_and(|value| is_cf9_reset(*value)) {
            (self.0)(PowerRequest::Reset);
        }
    }
}

/// Whether a byte written to [`super::layout::CF9_PORT`] resets the machine: system reset or more, and the reset bit.
#[must_use]
pub fn is_cf9_reset(value: u8) -> bool {
    value & 0b110 == 0b110
}

/// Where the guest's kernel says that it gave up (QEMU's pvpanic), at [`super::layout::PVPANIC_PORTS`].
pub struct PanicPort(PowerListener);

/// The event "panicked", the only one that is taken.
const PVPANIC_PANICKED: u8 = 1;

impl PanicPort {
    /// A port that tells `listener`.
    #[must_use]
    pub fn new(listener: PowerListener) -> Self {
        Self(listener)
    }
}

impl BusDevice for PanicPort {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
        data[0] = PVPANIC_PANICKED;
    }

    fn write(&mut self, _offset: u64, data: &[u8]) {
        if data[0] & PVPANIC_PANICKED != 0 {
            (self.0)(PowerRequest::Panicked);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    type Log<T> = Arc<Mutex<Vec<T>>>;

    fn listener() -> (PowerListener, Log<PowerRequest>) {
        let log = Log::default();
        let written = log.clone();
        (Arc::new(move |request| written.lock().unwrap().push(request)), log)
    }

    fn block() -> (PowerBlock, Log<bool>, Log<PowerRequest>) {
        let levels = Log::default();
        let written = levels.clone();
        let (listener, requests) = listener();
        let sci = Box::new(move |level| written.lock().unwrap().push(level));
        (PowerBlock::new(sci, listener), levels, requests)
    }

    fn read16(block: &mut PowerBlock, offset: u64) -> u16 {
        let mut data = [0xaa; 2];
        block.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    #[test]
    fn the_power_button_raises_the_line_until_its_status_is_cleared() {
        let (mut block, levels, _) = block();
        block.write(2, &0x0100u16.to_le_bytes());
        block.press_power_button();
        block.press_power_button();
        assert_eq!(read16(&mut block, 0), 0x0100);
        block.write(0, &0x0020u16.to_le_bytes());
        assert_eq!((read16(&mut block, 0), levels.lock().unwrap().as_slice()), (0x0100, &[true][..]));
        block.write(0, &0x0100u16.to_le_bytes());
        assert_eq!((read16(&mut block, 0), levels.lock().unwrap().as_slice()), (0, &[true, false][..]));
    }

    #[test]
    fn a_button_pressed_before_it_is_enabled_is_heard_afterwards() {
        let (mut block, levels, _) = block();
        block.press_power_button();
        assert!(levels.lock().unwrap().is_empty());
        block.write(2, &0x0120u16.to_le_bytes());
        assert_eq!(read16(&mut block, 2), 0x0120);
        assert_eq!(*levels.lock().unwrap(), [true]);
        block.write(3, &[0]);
        assert_eq!((read16(&mut block, 2), levels.lock().unwrap().len()), (0x20, 2));
    }

    #[test]
    fn only_soft_off_with_sleep_enable_switches_off() {
        let (mut block, _, requests) = block();
        for harmless in [0x0000u16, 5 << 10, 1 << 13, 4 << 10 | 1 << 13] {
            block.write(4, &harmless.to_le_bytes());
        }
        assert!(requests.lock().unwrap().is_empty());
        block.write(4, &(5u16 << 10 | 1 << 13).to_le_bytes());
        assert_eq!(*requests.lock().unwrap(), [PowerRequest::PowerOff]);
        assert_eq!(read16(&mut block, 4), 5 << 10 | 1);
    }

    #[test]
    fn resets() {
        let (mut block, _, requests) = block();
        block.write(8, &[0]);
        assert!(requests.lock().unwrap().is_empty());
        block.write(8, &[RESET_VALUE]);
        assert_eq!(*requests.lock().unwrap(), [PowerRequest::Reset]);

        let (listener, requests) = listener();
        let mut line = ResetLine::new(listener);
        line.write(0, &[0xfe]);
        line.write(4, &[0xd1]);
        assert!(requests.lock().unwrap().is_empty());
        let mut status = [0xff];
        line.read(4, &mut status);
        line.write(4, &[0xfe]);
        assert_eq!((status, requests.lock().unwrap().as_slice()), ([0], &[PowerRequest::Reset][..]));
        assert!(is_cf9_reset(6) && is_cf9_reset(0xe) && !is_cf9_reset(2) && !is_cf9_reset(4));
    }

    #[test]
    fn a_panic_is_told() {
        let (listener, requests) = listener();
        let mut port = PanicPort::new(listener);
        let mut events = [0];
        port.read(0, &mut events);
        port.write(0, &[2]);
        assert!(requests.lock().unwrap().is_empty());
        port.write(0, &[1]);
        assert_eq!((events, requests.lock().unwrap().as_slice()), ([1], &[PowerRequest::Panicked][..]));
    }
}
