//! The folders that are watched, and what is seen in them.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxFlags, openat, openat2, statx};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::Kind;
use super::own::Inode;
use crate::fuse::Share;

/// Something that was seen.
pub enum Seen {
    Change {
        path: PathBuf,
        kind: Kind,
        folder: Option<Inode>,
        name: OsString,
        inode: Option<Inode>,
    },
    /// There was more than the kernel could remember.
    Lost,
}

struct Folder {
    path: PathBuf,
    inode: Option<Inode>,
}

/// What is in a folder.
type Names = Vec<(OsString, FileType)>;

/// An event, copied out of the kernel's buffer.
struct Event {
    watch: i32,
    flags: ReadFlags,
    name: Vec<u8>,
}

pub struct Tree {
    share: Arc<Share>,
    inotify: OwnedFd,
    folders: HashMap<i32, Folder>,
    most: usize,
}

impl Tree {
    /// A tree of which nothing is watched yet, and at most so many folders will be.
    pub fn new(share: Arc<Share>, most: usize) -> io::Result<Self> {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { share, inotify, folders: HashMap::new(), most })
    }

    /// Watches all that is there.
    pub fn begin(&mut self) {
        self.add(PathBuf::new(), &mut |_, _, _| {});
    }

    /// What is ready when there is something to read.
    pub fn events(&self) -> &OwnedFd {
        &self.inotify
    }

    /// Watches `top` and what is below. Tells `found` what there is: an entry's folder, its path, its name.
    fn add(&mut self, top: PathBuf, found: &mut dyn FnMut(Option<Inode>, PathBuf, &OsStr)) {
        let mut queue = VecDeque::from([top]);
        while let Some(path) = queue.pop_front() {
            // A folder that is gone again, may not be read, or is beyond a limit is not watched.
            let Ok((inode, names)) = self.watch(&path) else { continue };
            for (name, kind) in names {
                let path = path.join(&name);
                found(inode, path.clone(), &name);
                if matches!(kind, FileType::Directory | FileType::Unknown) {
                    queue.push_back(path);
                }
            }
        }
    }

    fn watch(&mut self, path: &Path) -> Result<(Option<Inode>, Names), Errno> {
        let pin = self.pin(path)?;
        let number = DecInt::from_fd(&pin);
        let proc = Path::new("/proc/self/fd").join(number.as_ref());
        if self.folders.len() >= self.most {
            return Err(Errno::NOSPC);
        }
        let watched = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        let watch = add_watch(&self.inotify, &proc, watched)?;
        let inode = inode(&pin, c"");
        self.folders.insert(watch, Folder { path: path.to_owned(), inode });
        // Listed after it is watched: what is made meanwhile is seen twice rather than never.
        let dir = openat(
            self.share.descriptors(),
            number,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut raw = RawDir::new(dir, &mut buffer);
        let mut names = Vec::new();
        while let Some(Ok(entry)) = raw.next() {
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((OsStr::from_bytes(name).to_owned(), entry.file_type()));
            }
        }
        Ok((inode, names))
    }

    /// A folder below the shared one, by a path without symbolic links.
    fn pin(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(
            self.share.root(),
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    }

    /// Watches nothing at and below `top` any more.
    fn remove(&mut self, top: &Path) {
        let inotify = &self.inotify;
        self.folders.retain(|watch, folder| {
            let below = folder.path.starts_with(top);
            if below {
                // Gone already where the folder is.
                let _ = remove_watch(inotify, *watch);
            }
            !below
        });
    }

    /// All that has been seen since the last call.
    pub fn read(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for event in self.take_events() {
            if event.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                seen.push(Seen::Lost);
                // Folders may have been made or moved: the tree is looked at anew.
                self.remove(Path::new(""));
                self.begin();
            } else if event.flags.contains(ReadFlags::IGNORED) {
                self.folders.remove(&event.watch);
            } else {
                self.see(&event, &mut seen);
            }
        }
        seen
    }

    fn take_events(&self) -> Vec<Event> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut events = Vec::new();
        // One buffer full; whoever waits is woken again for more.
        while let Ok(event) = reader.next() {
            events.push(Event {
                watch: event.wd(),
                flags: event.events(),
                name: event.file_name().map(|name| name.to_bytes().to_vec()).unwrap_or_default(),
            });
            if reader.is_buffer_empty() {
                break;
            }
        }
        events
    }

    fn see(&mut self, event: &Event, seen: &mut Vec<Seen>) {
        let Some(folder) = self.folders.get(&event.watch) else { return };
        if event.name.is_empty() {
            // The folder itself, which its own folder tells by name.
            return;
        }
        let (dir, name) = (folder.inode, OsString::from_vec(event.name.clone()));
        let path = folder.path.join(&name);
        let is_folder = event.flags.contains(ReadFlags::ISDIR);
        let kind = if event.flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            Kind::Removed
        } else if event.flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            Kind::Created
        } else {
            Kind::Modified
        };
        let inode = self.pin(folder.path.as_path()).ok().and_then(|pin| self::inode(&pin, &name));
        if is_folder && kind == Kind::Removed {
            self.remove(&path);
        }
        seen.push(Seen::Change { path: path.clone(), kind, folder: dir, name, inode });
        if is_folder && kind == Kind::Created {
            let share = Arc::clone(&self.share);
            self.add(path, &mut |folder, path, name| {
                let inode = openat2(
                    share.root(),
                    &path,
                    OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
                );
                let inode = inode.ok().and_then(|pin| self::inode(&pin, c""));
                seen.push(Seen::Change { path, kind: Kind::Created, folder, name: name.to_owned(), inode });
            });
        }
    }
}

/// What `name` in `dir` is, or `dir` itself where it is empty.
fn inode(dir: &OwnedFd, name: impl rustix::path::Arg) -> Option<Inode> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = statx(dir, name, flags, StatxFlags::INO).ok()?;
    Some(((stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino))
}
