//! The tables as a kernel finds them, from the RSDP on; and as ACPICA's disassembler reads them, where it is installed.

use std::process::Command;

use super::*;

fn machine(cpus: u8) -> (GuestRam, u64) {
    let ram = crate::memory::allocate(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let layout = Layout::new(6 << 30, 46).unwrap();
    let rsdp = write_tables(&ram, &layout, cpus).unwrap();
    (ram, rsdp)
}

fn bytes(ram: &GuestRam, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    ram.read_slice(&mut bytes, GuestAddress(address)).unwrap();
    bytes
}

fn number(bytes: &[u8], offset: usize, length: usize) -> u64 {
    bytes[offset..offset + length].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A table with its checksum looked at.
fn table(ram: &GuestRam, address: u64) -> Vec<u8> {
    let length = number(&bytes(ram, address, 8), 4, 4) as usize;
    let table = bytes(ram, address, length);
    if &table[..4] != b"FACS" {
        assert_eq!(sum(&table), 0, "{:?}", String::from_utf8_lossy(&table[..4]));
    }
    table
}

fn all(ram: &GuestRam, rsdp: u64) -> Vec<Vec<u8>> {
    let rsdp = bytes(ram, rsdp, 36);
    assert_eq!((&rsdp[..8], sum(&rsdp[..20]), sum(&rsdp)), (&b"RSD PTR "[..], 0, 0));
    let xsdt = table(ram, number(&rsdp, 24, 8));
    let mut tables: Vec<_> = xsdt[36..].chunks(8).map(|entry| table(ram, number(entry, 0, 8))).collect();
    let fadt = tables[0].clone();
    assert_eq!(number(&fadt, 40, 4), number(&fadt, 140, 8));
    tables.push(table(ram, number(&fadt, 40, 4)));
    tables.push(table(ram, number(&fadt, 36, 4)));
    tables
}

#[test]
fn tables_are_found_from_the_rsdp_on() {
    let (ram, rsdp) = machine(3);
    assert_eq!(rsdp, layout::RSDP);
    let tables = all(&ram, rsdp);
    let signatures: Vec<_> =
        tables.iter().map(|table| String::from_utf8_lossy(&table[..4]).into_owned()).collect();
    assert_eq!(signatures, ["FACP", "APIC", "MCFG", "DSDT", "FACS"]);
    let madt = &tables[1];
    let mut kinds = Vec::new();
    let mut at = 44;
    while at < madt.len() {
        kinds.push(madt[at]);
        at += usize::from(madt[at + 1]);
    }
    assert_eq!(kinds, [0, 0, 0, 1, 2, 2, 4]);
    assert_eq!(number(&tables[2], 44, 8), layout::ECAM.start);
}

#[test]
fn tables_of_the_largest_machine_fit() {
    let (ram, rsdp) = machine(32);
    assert_eq!(all(&ram, rsdp).len(), 5);
}

#[test]
fn the_disassembler_understands_every_table() {
    if Command::new("iasl").arg("-v").output().is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (ram, rsdp) = machine(32);
    let mut shown = String::new();
    for table in all(&ram, rsdp) {
        let name = String::from_utf8_lossy(&table[..4]).into_owned();
        let path = directory.path().join(format!("{name}.dat"));
        fs_err::write(&path, &table).unwrap();
        let run = Command::new("iasl").arg("-d").arg(&path).current_dir(directory.path()).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
        assert!(
            run.status.success() && !said.contains("Error") && !said.contains("Warning"),
            "{name}: {said}"
        );
        shown += &fs_err::read_to_string(path.with_extension("dsl")).unwrap();
    }
    for part in ["PNP0A08", "PNP0501", "QEMU0001", "C01F", "_S5", "PNP0C02"] {
        assert!(shown.contains(part), "{part}");
    }
    // What it has disassembled must also be code that it compiles.
    let run = Command::new("iasl").arg("DSDT.dsl").current_dir(directory.path()).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success() && said.contains("0 Errors, 0 Warnings"), "{said}");
}
