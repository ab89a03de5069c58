//! Drivers that do anything at all.

use proptest::prelude::*;

use super::driver::Driver;
use super::*;
use crate::virtio::Interrupt;

#[derive(Debug, Clone)]
enum Step {
    ConfigWrite(u64, Vec<u8>),
    ConfigRead(u64, usize),
    EcamWrite(u64, Vec<u8>),
    EcamRead(u64, usize),
    BarWrite(u64, Vec<u8>),
    BarRead(u64, usize),
    /// The register of the common configuration that the number names, with a value that may be a good one.
    Common(usize, u64),
    BringUp,
    Signal(u16),
}

const REGISTERS: [(u64, usize); 12] = [
    (0, 4),
    (8, 4),
    (12, 4),
    (16, 2),
    (20, 1),
    (22, 2),
    (24, 2),
    (26, 2),
    (28, 2),
    (32, 8),
    (40, 8),
    (48, 8),
];

fn step() -> impl Strategy<Value = Step> {
    let bytes = || proptest::collection::vec(any::<u8>(), 1..=8);
    let value = prop_oneof![0_u64..16, Just(0x1000), Just(0x2000), Just(RAM - 0x1000), any::<u64>()];
    prop_oneof![
        (0_u64..0x100, proptest::collection::vec(any::<u8>(), 1..=4))
            .prop_map(|(at, data)| Step::ConfigWrite(at, data)),
        (0_u64..0x100, 1_usize..=4).prop_map(|(at, length)| Step::ConfigRead(at, length)),
        (0_u64..0x1000, bytes()).prop_map(|(at, data)| Step::EcamWrite(at, data)),
        (0_u64..0x1000, 1_usize..=8).prop_map(|(at, length)| Step::EcamRead(at, length)),
        (0_u64..0x8000, bytes()).prop_map(|(at, data)| Step::BarWrite(at, data)),
        (0_u64..0x40, bytes()).prop_map(|(at, data)| Step::BarWrite(at, data)),
        (0_u64..0x8000, 1_usize..=8).prop_map(|(at, length)| Step::BarRead(at, length)),
        (0..REGISTERS.len(), value).prop_map(|(register, value)| Step::Common(register, value)),
        Just(Step::BringUp),
        any::<u16>().prop_map(Step::Signal),
    ]
}

fn take(machine: &Machine, step: Step, interrupt: &mut Option<Arc<dyn Interrupt>>) {
    let mut data = [0; 8];
    let ecam = 0xe000_0000 + (u64::from(SLOT) << 15);
    match step {
        Step::ConfigWrite(at, data) => machine.config_write(at, &data),
        Step::ConfigRead(at, length) => machine.config_read(at, &mut data[..length]),
        Step::EcamWrite(at, data) => machine.mmio.write(ecam + at, &data),
        Step::EcamRead(at, length) => machine.mmio.read(ecam + at, &mut data[..length]),
        Step::BarWrite(at, data) => machine.mmio.write(BAR + at, &data),
        Step::BarRead(at, length) => machine.mmio.read(BAR + at, &mut data[..length]),
        Step::Common(register, value) => {
            let (at, size) = REGISTERS[register];
            machine.mmio.write(BAR + at, &value.to_le_bytes()[..size]);
        }
        Step::BringUp => {
            // Whatever came before, a reset and the rules bring the device up.
            machine.config_write(0x10, &(BAR as u32).to_le_bytes());
            machine.config_write(0x14, &((BAR >> 32) as u32).to_le_bytes());
            Driver::probe(machine).bring_up();
            let active = machine.log.activation.lock().unwrap();
            *interrupt = Some(active.as_ref().unwrap().interrupt.clone());
        }
        Step::Signal(queue) => {
            if let Some(interrupt) = interrupt {
                interrupt.queue(queue % 4);
                if queue % 8 == 0 {
                    interrupt.needs_reset();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_driver_breaks_the_transport(steps in proptest::collection::vec(step(), 1..60)) {
        let machine = Machine::new();
        let mut interrupt = None;
        machine.config_write(4, &[2, 0]);
        for step in steps {
            take(&machine, step, &mut interrupt);
        }
        take(&machine, Step::BringUp, &mut interrupt);
    }
}
