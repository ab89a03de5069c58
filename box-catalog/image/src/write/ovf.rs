//! The description of a machine (DMTF DSP0243 1.1, as VirtualBox and VMware take it).

use std::fmt::Write as _;

use super::Machine;

/// Describes a machine with one disk, the file `disk` of `length` bytes that stands for `capacity` bytes.
pub fn describe(name: &str, machine: &Machine, disk: &str, length: u64, capacity: u64) -> String {
    let Machine { cpus, memory, .. } = machine;
    let mut items = String::new();
    let mut item = |number: u32, kind: u32, name: &str, more: &str| {
        // Elements stand in the order of their names, as the schema wants it.
        let mut fields: Vec<(&str, String)> = vec![
            ("ElementName", name.to_owned()),
            ("InstanceID", number.to_string()),
            ("ResourceType", kind.to_string()),
        ];
        fields.extend(
            more.split(';').filter_map(|field| field.split_once('=')).map(|(k, v)| (k, v.to_owned())),
        );
        fields.sort_by_key(|(key, _)| *key);
        let _ = writeln!(items, "      <Item>");
        for (key, value) in fields {
            let _ = writeln!(items, "        <rasd:{key}>{value}</rasd:{key}>");
        }
        let _ = writeln!(items, "      </Item>");
    };
    item(1, 3, &format!("{cpus} virtual CPU"), &format!("VirtualQuantity={cpus};Caption={cpus} virtual CPU"));
    item(
        2,
        4,
        &format!("{memory} MB of memory"),
        &format!("AllocationUnits=MegaBytes;VirtualQuantity={memory}"),
    );
    item(3, 20, "sataController0", "Address=0;ResourceSubType=AHCI");
    item(4, 17, "disk1", "AddressOnParent=0;HostResource=/disk/vmdisk1;Parent=3");
    item(5, 10, "Ethernet adapter on 'NAT'", "AutomaticAllocation=true;Connection=NAT;ResourceSubType=E1000");
    format!(
        r#"<?xml version="1.0"?>
<Envelope ovf:version="1.0" xml:lang="en-US" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <References>
    <File ovf:href="{disk}" ovf:id="file1" ovf:size="{length}"/>
  </References>
  <DiskSection>
    <Info>List of the virtual disks</Info>
    <Disk ovf:capacity="{capacity}" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection>
    <Info>Logical networks used</Info>
    <Network ovf:name="NAT">
      <Description>Network address translation</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{name}">
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="101">
      <Info>The kind of installed operating system</Info>
      <Description>Linux26_64</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware requirements</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType>
      </System>
{items}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#
    )
}
