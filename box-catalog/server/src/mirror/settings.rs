//! What is mirrored, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

/// A day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is mirrored, and for how long.
#[derive(Debug, Clone)]
pub struct MirrorSettings {
    /// The catalog, as `vagrant` and `posada` would be told of it.
    pub upstream: Url,
    /// How it is reached, and with which tokens; each is shown to its own server only.
    pub client: posada_fetch::Settings,
    /// How long a document of it is taken to be current.
    pub fresh: Duration,
    /// How many days files stay that nobody asks for; `None` keeps them.
    pub keep: Option<u32>,
    /// How many bytes of files stay, those that were asked for last; `None` keeps all.
    pub size: Option<u64>,
    /// The largest file that is fetched, bytes.
    pub limit: u64,
    /// A directory of this host for what is being fetched.
    pub parts: PathBuf,
}

impl MirrorSettings {
    /// How long what was begun waits for somebody to go on with it.
    pub(super) fn idle(&self) -> Duration {
        DAY * self.keep.unwrap_or(7).max(1)
    }
}
