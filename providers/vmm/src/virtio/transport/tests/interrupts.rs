//! MSI-X under a device that signals: masks, pending bits, and how often the hypervisor is told.

use super::driver::{Driver, MSI_ADDRESS};
use super::*;
use crate::virtio::Interrupt;

fn interrupt(machine: &Machine) -> Arc<dyn Interrupt> {
    machine.log.activation.lock().unwrap().as_ref().unwrap().interrupt.clone()
}

fn line(machine: &Machine, index: usize) -> Arc<Line> {
    machine.hypervisor.lines.lock().unwrap()[index].clone()
}

fn message(data: u32) -> Option<MsiMessage> {
    Some(MsiMessage { address: MSI_ADDRESS, data })
}

#[test]
fn a_masked_vector_stays_pending() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    driver.bring_up();
    let (interrupt, line) = (interrupt(&machine), line(&machine, 1));
    driver.mask(1, true);
    interrupt.queue(0);
    interrupt.queue(0);
    assert_eq!(machine.read32(driver.pending), 1 << 1);
    assert!(line.delivered.lock().unwrap().is_empty());
    driver.set_message(1, 0x55);
    assert_eq!(*line.routes.lock().unwrap(), [message(1)]);
    driver.mask(1, false);
    assert_eq!(*line.delivered.lock().unwrap(), [message(0x55)]);
    assert_eq!(machine.read32(driver.pending), 0);
    assert_eq!(*line.routes.lock().unwrap(), [message(1), message(0x55)]);
}

#[test]
fn masking_alone_does_not_touch_the_hypervisor() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    driver.bring_up();
    let line = line(&machine, 2);
    for _ in 0..10 {
        driver.mask(2, true);
        driver.mask(2, false);
        machine.config_write(driver.msix + 2, &0xc000_u16.to_le_bytes());
        machine.config_write(driver.msix + 2, &0x8000_u16.to_le_bytes());
    }
    assert_eq!(*line.routes.lock().unwrap(), [message(2)]);
    assert!(line.delivered.lock().unwrap().is_empty());
}

#[test]
fn the_function_mask_holds_all_back() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    driver.bring_up();
    machine.config_write(driver.msix + 2, &0xc000_u16.to_le_bytes());
    let interrupt = interrupt(&machine);
    interrupt.queue(1);
    interrupt.config();
    let mut pending = [0];
    machine.mmio.read(driver.pending, &mut pending);
    assert_eq!(pending, [0b101]);
    machine.config_write(driver.msix + 2, &0x8000_u16.to_le_bytes());
    assert_eq!(*line(&machine, 0).delivered.lock().unwrap(), [message(0)]);
    assert_eq!(*line(&machine, 2).delivered.lock().unwrap(), [message(2)]);
}

#[test]
fn without_msix_the_isr_tells() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    driver.bring_up();
    machine.config_write(driver.msix + 2, &[0, 0]);
    interrupt(&machine).queue(0);
    assert_eq!(machine.read32(driver.pending), 0);
    assert_eq!(machine.read8(driver.isr), 1);
    assert_eq!(machine.read8(driver.isr), 0);
}

#[test]
fn a_vector_that_cannot_be_had_is_none() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    machine.write16(driver.common + 16, 3);
    assert_eq!(machine.read16(driver.common + 16), 0xffff);
    machine.hypervisor.no_more_lines.store(true, SeqCst);
    machine.write16(driver.common + 16, 2);
    assert_eq!(machine.read16(driver.common + 16), 0xffff);
    machine.hypervisor.no_more_lines.store(false, SeqCst);
    machine.write16(driver.common + 16, 2);
    assert_eq!(machine.read16(driver.common + 16), 2);
}

#[test]
fn needs_reset_is_told_once() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    driver.bring_up();
    let interrupt = interrupt(&machine);
    interrupt.needs_reset();
    interrupt.needs_reset();
    assert_eq!(driver.status(), 0x4f);
    assert_eq!(line(&machine, 0).delivered.lock().unwrap().len(), 1);
    driver.bring_up();
}

#[test]
fn nothing_is_signalled_before_the_driver_is_ready() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    driver.bring_up();
    let interrupt = interrupt(&machine);
    driver.reset();
    interrupt.queue(0);
    interrupt.config();
    assert_eq!(machine.read8(driver.isr), 0);
    assert!(line(&machine, 0).delivered.lock().unwrap().is_empty());
}

#[test]
fn the_table_reads_back() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    let mut entry = [0; 8];
    machine.mmio.read(driver.table + 16 + 8, &mut entry);
    assert_eq!(entry, [0, 0, 0, 0, 1, 0, 0, 0]);
    machine.mmio.write(driver.table + 16, &0x1_fee0_1004_u64.to_le_bytes());
    machine.mmio.write(driver.table + 16 + 8, &[0x21, 0, 0, 0, 0, 0, 0, 0]);
    machine.mmio.read(driver.table + 16, &mut entry);
    assert_eq!(u64::from_le_bytes(entry), 0x1_fee0_1004);
    // Across two entries.
    machine.mmio.read(driver.table + 16 + 12, &mut entry);
    assert_eq!(entry, [0; 8]);
    machine.mmio.read(driver.table + 12, &mut entry);
    assert_eq!(entry, [1, 0, 0, 0, 0x04, 0x10, 0xe0, 0xfe]);
    // Behind the last.
    machine.mmio.write(driver.table + 48, &[0xff; 8]);
    assert_eq!(machine.read32(driver.table + 48), 0);
}
