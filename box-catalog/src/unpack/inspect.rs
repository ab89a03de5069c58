//! What an unpacked tree says of itself: whether it can run, on what, and who logs in.

use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{self, FileType, OFlags};
use serde::Deserialize;

use super::refusal::Refusal;
use super::tree::open_in;
use crate::metadata::{self, BoxMetadata, Form, Os};

/// Most bytes read of a file that describes.
const MAX_TEXT: u64 = 1024 * 1024;
const INITS: [&str; 5] =
    ["sbin/init", "usr/sbin/init", "usr/lib/systemd/systemd", "lib/systemd/systemd", "init"];
/// Where a box built by Posada says what it is.
const DECLARATION: &str = "usr/lib/posada/box.json";

/// What a box built by Posada says of itself.
#[derive(Debug, Default, Deserialize)]
pub struct Declaration {
    pub user: Option<String>,
    pub recipe: Option<crate::Digest>,
}

impl Declaration {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        serde_json::from_str(text)
            .map_err(|error| Refusal::Contradiction(format!("its /{DECLARATION} cannot be read: {error}")))
    }
}

/// Looks at the tree below `root`; `user`, where given, is who logs in whatever the tree says.
pub fn inspect(root: BorrowedFd<'_>, user: Option<&str>) -> Result<BoxMetadata, Refusal> {
    let init = INITS.iter().find_map(|path| program(root, path.as_bytes()));
    let Some(init) = init else {
        return Err(Refusal::NoRootfs(format!("none of /{} is there", INITS.join(", /"))));
    };
    let declaration = match text(root, DECLARATION) {
        Some(text) => Declaration::parse(&text)?,
        None => Declaration::default(),
    };
    let accounts = metadata::accounts(&text(root, "etc/passwd").unwrap_or_default());
    let user = user.or(declaration.user.as_deref());
    if let Some(user) = user
        && !accounts.iter().any(|account| account.name == *user)
    {
        return Err(Refusal::Contradiction(format!("it does not have the login user `{user}`")));
    }
    let release =
        text(root, "etc/os-release").or_else(|| text(root, "usr/lib/os-release")).unwrap_or_default();
    Ok(BoxMetadata {
        user: user.map_or_else(|| metadata::login_user(&accounts), str::to_owned),
        architecture: architecture(root, init),
        os: Os::from_release(&release),
        provides: [Form::Rootfs].into(),
        recipe: declaration.recipe,
    })
}

fn text(root: BorrowedFd<'_>, path: &str) -> Option<String> {
    let file = regular(root, path.as_bytes())?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// A regular file that may be executed.
fn program(root: BorrowedFd<'_>, path: &[u8]) -> Option<OwnedFd> {
    regular(root, path).filter(|file| fs::fstat(file).is_ok_and(|stat| stat.st_mode & 0o111 != 0))
}

/// A regular file, opened without waiting, as a hostile box may have a pipe there.
pub fn regular(root: BorrowedFd<'_>, path: &[u8]) -> Option<OwnedFd> {
    let file = open_in(root, path, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    let is_file = |stat: fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    fs::fstat(&file).is_ok_and(is_file).then_some(file)
}

/// By the init's ELF header, or the shell's where the init is a script.
fn architecture(root: BorrowedFd<'_>, init: OwnedFd) -> Option<String> {
    machine_of(init).or_else(|| machine_of(program(root, b"bin/sh")?))
}

fn machine_of(program: OwnedFd) -> Option<String> {
    let mut header = [0; 20];
    std::fs::File::from(program).read_exact(&mut header).ok()?;
    metadata::architecture_of_elf(&header).map(str::to_owned)
}
