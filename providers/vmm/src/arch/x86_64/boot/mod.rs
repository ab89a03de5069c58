//! stub
/// Where
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// a
    Linux64 { /// a
        rip: u64, /// a
        boot_params: u64 },
    /// b
    Pvh { /// a
        rip: u32, /// b
        start_info: u64 },
}
