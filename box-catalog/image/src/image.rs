//! What all formats come to.

use crate::Result;

/// A disk image, open for reading, by several threads at once.
pub trait ReadImage: Send + Sync {
    /// How large the disk is, bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` with the disk's bytes from `offset` on.
    ///
    /// # Errors
    /// [`crate::ImageError::Truncated`] (also behind the disk's end), [`crate::ImageError::Corrupt`],
    /// [`crate::ImageError::Io`].
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;

    /// What is at `offset`, which is less than the size: a run that ends where something else may begin.
    ///
    /// # Errors
    /// Those of [`Self::read_at`].
    fn extent(&self, offset: u64) -> Result<Extent>;

    /// Looks at all that the image says of where its bytes are: whether they are there, and whether two places of the
    /// disk lead to the same bytes. To be done once for an image that comes from anywhere.
    ///
    /// # Errors
    /// Those of [`Self::read_at`]; [`crate::ImageError::Cancelled`].
    fn check(&self, cancelled: &dyn Fn() -> bool) -> Result<()>;
}

/// A run of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins, bytes.
    pub offset: u64,
    /// How long it is, bytes; never 0.
    pub length: u64,
    /// Whether the image holds bytes of it. Else it reads as zeros.
    pub data: bool,
}

/// The runs of a disk that hold data, each as long as it can be.
pub struct Extents<'a> {
    image: &'a dyn ReadImage,
    at: u64,
    cancelled: &'a dyn Fn() -> bool,
}

impl<'a> Extents<'a> {
    /// Those of `image`; ends with [`crate::ImageError::Cancelled`] once `cancelled` says so.
    pub fn of(image: &'a dyn ReadImage, cancelled: &'a dyn Fn() -> bool) -> Self {
        Self { image, at: 0, cancelled }
    }

    fn run(&mut self) -> Result<Option<Extent>> {
        let mut found: Option<Extent> = None;
        while self.at < self.image.size() {
            if (self.cancelled)() {
                return Err(crate::ImageError::Cancelled);
            }
            let next = self.image.extent(self.at)?;
            match (&mut found, next.data) {
                (None, false) => {}
                (None, true) => found = Some(next),
                (Some(run), true) => run.length += next.length,
                (Some(_), false) => break,
            }
            self.at += next.length;
        }
        Ok(found)
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        let run = self.run();
        if run.is_err() {
            self.at = u64::MAX;
        }
        run.transpose()
    }
}
