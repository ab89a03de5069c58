//! The registers of the common configuration (virtio 1.2, section 4.1.4.3), under accesses of any size.

use super::state::DeviceState;
use crate::pci::{merge, read_image, touches};

/// How large the structure is.
pub(super) const SIZE: usize = 64;

/// Which of them: byte offset and size. What is not named here cannot be written.
type Field = (usize, usize);

const DEVICE_FEATURE_SELECT: Field = (0, 4);
const DEVICE_FEATURE: Field = (4, 4);
const DRIVER_FEATURE_SELECT: Field = (8, 4);
const DRIVER_FEATURE: Field = (12, 4);
const CONFIG_MSIX_VECTOR: Field = (16, 2);
const NUM_QUEUES: Field = (18, 2);
const DEVICE_STATUS: Field = (20, 1);
const CONFIG_GENERATION: Field = (21, 1);
const QUEUE_SELECT: Field = (22, 2);
const QUEUE_SIZE: Field = (24, 2);
const QUEUE_MSIX_VECTOR: Field = (26, 2);
const QUEUE_ENABLE: Field = (28, 2);
const QUEUE_NOTIFY_OFF: Field = (30, 2);
const QUEUE_DESC: Field = (32, 8);
const QUEUE_DRIVER: Field = (40, 8);
const QUEUE_DEVICE: Field = (48, 8);

/// Those that the driver writes, in the order in which one access takes effect.
const WRITABLE: [Field; 12] = [
    DEVICE_FEATURE_SELECT,
    DRIVER_FEATURE_SELECT,
    DRIVER_FEATURE,
    CONFIG_MSIX_VECTOR,
    DEVICE_STATUS,
    QUEUE_SELECT,
    QUEUE_SIZE,
    QUEUE_MSIX_VECTOR,
    QUEUE_DESC,
    QUEUE_DRIVER,
    QUEUE_DEVICE,
    QUEUE_ENABLE,
];

/// What the driver has selected.
#[derive(Default)]
pub(super) struct Common {
    device_feature_select: u32,
    driver_feature_select: u32,
    queue_select: u16,
}

impl Common {
    /// The driver reads at `offset`.
    pub fn read(&self, state: &mut DeviceState, offset: usize, data: &mut [u8]) {
        let mut image = self.image(state);
        let (at, size) = CONFIG_GENERATION;
        if touches(offset, data.len(), at, size) {
            image[at] = state.config_generation();
        }
        read_image(&image, offset, data);
    }

    /// The driver writes at `offset`. Each register that the access touches gets its old value with the new bytes.
    pub fn write(&mut self, state: &mut DeviceState, offset: usize, data: &[u8]) {
        for field in WRITABLE {
            let image = self.image(state);
            let mut value = [0; 8];
            value[..field.1].copy_from_slice(&image[field.0..field.0 + field.1]);
            if merge(&mut value[..field.1], field.0, offset, data) {
                self.set(state, field, u64::from_le_bytes(value));
            }
        }
    }

    fn image(&self, state: &DeviceState) -> [u8; SIZE] {
        let mut image = [0; SIZE];
        let mut put = |field: Field, value: u64| {
            image[field.0..field.0 + field.1].copy_from_slice(&value.to_le_bytes()[..field.1]);
        };
        put(DEVICE_FEATURE_SELECT, self.device_feature_select.into());
        put(DEVICE_FEATURE, state.device_feature(self.device_feature_select).into());
        put(DRIVER_FEATURE_SELECT, self.driver_feature_select.into());
        put(DRIVER_FEATURE, state.driver_feature(self.driver_feature_select).into());
        put(CONFIG_MSIX_VECTOR, state.signals.config_vector().into());
        put(NUM_QUEUES, state.queues.len() as u64);
        put(DEVICE_STATUS, state.status().into());
        put(QUEUE_SELECT, self.queue_select.into());
        put(QUEUE_MSIX_VECTOR, state.signals.queue_vector(self.queue_select).into());
        // A queue that does not exist has size 0, and nothing else.
        if let Some(queue) = state.queues.get(usize::from(self.queue_select)) {
            put(QUEUE_SIZE, queue.size.into());
            put(QUEUE_ENABLE, queue.enabled.into());
            put(QUEUE_NOTIFY_OFF, self.queue_select.into());
            put(QUEUE_DESC, queue.descriptors);
            put(QUEUE_DRIVER, queue.driver);
            put(QUEUE_DEVICE, queue.device);
        }
        image
    }

    fn set(&mut self, state: &mut DeviceState, field: Field, value: u64) {
        match field {
            DEVICE_FEATURE_SELECT => self.device_feature_select = value as u32,
            DRIVER_FEATURE_SELECT => self.driver_feature_select = value as u32,
            DRIVER_FEATURE => state.set_driver_feature(self.driver_feature_select, value as u32),
            CONFIG_MSIX_VECTOR => state.signals.set_config_vector(value as u16),
            DEVICE_STATUS => {
                state.set_status(value as u8);
                if value == 0 {
                    *self = Self::default();
                }
            }
            QUEUE_SELECT => self.queue_select = value as u16,
            QUEUE_MSIX_VECTOR => state.signals.set_queue_vector(self.queue_select, value as u16),
            QUEUE_ENABLE if value == 1 => state.enable_queue(self.queue_select),
            _ => self.describe_queue(state, field, value),
        }
    }

    /// An enabled queue stays as it is until the device is reset.
    fn describe_queue(&self, state: &mut DeviceState, field: Field, value: u64) {
        let queue = state.queues.get_mut(usize::from(self.queue_select));
        let Some(queue) = queue.filter(|queue| !queue.enabled) else { return };
        match field {
            QUEUE_SIZE => queue.size = value as u16,
            QUEUE_DESC => queue.descriptors = value,
            QUEUE_DRIVER => queue.driver = value,
            QUEUE_DEVICE => queue.device = value,
            _ => {}
        }
    }
}
