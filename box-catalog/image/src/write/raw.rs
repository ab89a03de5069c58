//! Raw: the bytes as they are, with holes.

use super::output::Output;
use crate::copy::{Told, copy_to};
use crate::{ReadImage, Result};

pub fn write(image: &dyn ReadImage, out: &Output, told: Told<'_>) -> Result<()> {
    copy_to(image, out.file(), out.path(), u64::MAX, told).map(drop)
}
