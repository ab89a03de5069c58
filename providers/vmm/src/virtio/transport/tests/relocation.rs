//! The BAR moves while the device is active: registers and kicks move along.

use super::driver::Driver;
use super::*;

const KICKS: u64 = 0x3000;

fn kicks(bar: u64) -> [u64; 2] {
    [bar + KICKS, bar + KICKS + 4]
}

#[test]
fn kicks_and_registers_follow_the_bar() {
    let machine = Machine::new();
    let driver = Driver::probe(&machine);
    assert_eq!(driver.bring_up(), kicks(BAR));
    // Sizing it with memory space enabled, as some do, loses nothing.
    machine.config_write(0x10, &[0xff; 4]);
    machine.config_write(0x14, &[0xff; 4]);
    assert_eq!(machine.config32(0x10), 0xffff_8004);
    assert!(machine.hypervisor.event_addresses().is_empty());
    machine.config_write(0x10, &0x0010_0000_u32.to_le_bytes());
    machine.config_write(0x14, &0x50_u32.to_le_bytes());
    let moved = 0x50_0010_0000;
    assert_eq!(machine.hypervisor.event_addresses(), kicks(moved));
    assert_eq!(machine.read8(BAR + 20), 0xff);
    assert_eq!(machine.read8(moved + 20), 0xf);
    machine.config_write(4, &[0, 0]);
    assert!(machine.hypervisor.event_addresses().is_empty());
    assert_eq!(machine.read8(moved + 20), 0xff);
    machine.config_write(4, &[2, 0]);
    assert_eq!(machine.hypervisor.event_addresses(), kicks(moved));
}

#[test]
fn a_hypervisor_without_events_leaves_kicks_to_the_transport() {
    let machine = Machine::new();
    machine.hypervisor.no_events.store(true, SeqCst);
    let driver = Driver::probe(&machine);
    let kicks = driver.bring_up();
    machine.write16(kicks[1], 1);
    let active = machine.log.activation.lock().unwrap().take().unwrap();
    assert_eq!(active.queues[1].kick().read().unwrap(), 1);
}
