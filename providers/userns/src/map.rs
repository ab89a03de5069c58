//! The one id map that all machines of a user live on.

use std::path::Path;

use nix::unistd::{Gid, Uid, User, getegid, geteuid};
use serde::{Deserialize, Serialize};

use crate::subid::{self, Range};
use crate::{IdMapError, Side};

/// How many ids a machine has: 0 to 65535, as every distribution expects.
pub const SIZE: u32 = 65_536;

/// The id inside that shares files with the caller: the first ordinary user of a distribution.
pub const SHARED_ID: u32 = 1000;

/// First id for machines of root where `/etc/subuid` grants root nothing: far above all ids that systems and
/// directory services hand out, and away from systemd-nspawn's.
const ROOT_BASE: u32 = 1_000_000_000;

/// A run of ids: `count` ids from `inside` on are `outside` and up on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First id in the machine.
    pub inside: u32,
    /// First id on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// How the caller gets at the ids of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostKind {
    /// The caller is root. Ids are `base` and up; box trees carry plain ids and are shown through idmapped
    /// mounts.
    Privileged {
        /// Host id of the machines' user 0.
        base_uid: u32,
        /// Host id of the machines' group 0.
        base_gid: u32,
    },
    /// The caller is an ordinary user with subordinate ids, and is itself [`SHARED_ID`] inside.
    Subordinate,
}

/// Which ids a machine's users and groups have on the host. Id 0 of the host is never among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// Users, by rising `inside`.
    pub uids: Vec<Extent>,
    /// Groups, by rising `inside`.
    pub gids: Vec<Extent>,
    /// How the caller gets at them.
    pub host: HostKind,
}

impl IdMap {
    /// The map of whoever runs this process; it does not change as long as `/etc/subuid` and `/etc/subgid` do
    /// not.
    ///
    /// # Errors
    /// [`IdMapError::TooFew`], [`IdMapError::BaseNotMapped`], [`IdMapError::Unreadable`].
    pub fn of_host() -> Result<Self, IdMapError> {
        let (uid, gid) = (geteuid(), getegid());
        let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
        Self::of(uid, gid, name.as_deref(), Path::new("/etc"), Path::new("/proc/self"))
    }

    /// The map of user `uid` with group `gid`, known as `name`, by the files in `etc`; `proc` holds the
    /// `uid_map` and `gid_map` of the namespace that the ids are those of.
    ///
    /// # Errors
    /// Those of [`IdMap::of_host`].
    pub fn of(uid: Uid, gid: Gid, name: Option<&str>, etc: &Path, proc: &Path) -> Result<Self, IdMapError> {
        if uid.is_root() {
            return Self::privileged(etc, proc);
        }
        let who = name.map_or_else(|| format!("user {uid}"), str::to_owned);
        Ok(Self {
            uids: subordinate(etc, Side::Users, &who, name, uid, uid.as_raw())?,
            gids: subordinate(etc, Side::Groups, &who, name, uid, gid.as_raw())?,
            host: HostKind::Subordinate,
        })
    }

    fn privileged(etc: &Path, proc: &Path) -> Result<Self, IdMapError> {
        let base_uid = root_base(etc, Side::Users, &proc.join("uid_map"))?;
        let base_gid = root_base(etc, Side::Groups, &proc.join("gid_map"))?;
        let whole = |outside| vec![Extent { inside: 0, outside, count: SIZE }];
        let host = HostKind::Privileged { base_uid, base_gid };
        Ok(Self { uids: whole(base_uid), gids: whole(base_gid), host })
    }

    /// The host's id of user `inside`.
    #[must_use]
    pub fn uid(&self, inside: u32) -> Option<u32> {
        outside(&self.uids, inside)
    }

    /// The host's id of group `inside`.
    #[must_use]
    pub fn gid(&self, inside: u32) -> Option<u32> {
        outside(&self.gids, inside)
    }

    /// `extents` in the form of `/proc/PID/uid_map`, see user_namespaces(7).
    #[must_use]
    pub fn to_proc(extents: &[Extent]) -> String {
        extents
            .iter()
            .map(|Extent { inside, outside, count }| format!("{inside} {outside} {count}\n"))
            .collect()
    }
}

fn outside(extents: &[Extent], id: u32) -> Option<u32> {
    extents
        .iter()
        .find(|extent| id >= extent.inside && id - extent.inside < extent.count)
        .map(|extent| extent.outside + (id - extent.inside))
}

fn read_grants(etc: &Path, side: Side) -> Result<String, IdMapError> {
    let path = etc.join(side.file());
    match fs_err::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(IdMapError::Unreadable { path, source }),
    }
}

fn root_base(etc: &Path, side: Side, map: &Path) -> Result<u32, IdMapError> {
    let granted = subid::granted(&read_grants(etc, side)?, Some("root"), 0);
    let base = granted.iter().find(|range| range.count >= SIZE).map_or(ROOT_BASE, |range| range.first);
    let text = fs_err::read_to_string(map)
        .map_err(|source| IdMapError::Unreadable { path: map.to_owned(), source })?;
    if holds(&text, base) { Ok(base) } else { Err(IdMapError::BaseNotMapped { side, base }) }
}

/// Whether a `uid_map` has all ids from `base` on.
fn holds(uid_map: &str, base: u32) -> bool {
    uid_map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let [inside, _, count] = numbers[..] else { return false };
        inside <= u64::from(base) && inside + count >= u64::from(base) + u64::from(SIZE)
    })
}

fn subordinate(
    etc: &Path,
    side: Side,
    who: &str,
    name: Option<&str>,
    uid: Uid,
    own: u32,
) -> Result<Vec<Extent>, IdMapError> {
    // The caller's own id takes one place.
    const NEED: u32 = SIZE - 1;
    let mut granted = subid::granted(&read_grants(etc, side)?, name, uid.as_raw());
    granted.retain(|range| own < range.first || own - range.first >= range.count);
    let have: u64 = granted.iter().map(|range| u64::from(range.count)).sum();
    if have < u64::from(NEED) {
        let file = etc.join(side.file());
        return Err(IdMapError::TooFew { user: who.to_owned(), side, file, have, need: NEED });
    }
    let mut supply = Supply { ranges: granted };
    let mut extents = supply.take(0, SHARED_ID);
    extents.push(Extent { inside: SHARED_ID, outside: own, count: 1 });
    extents.extend(supply.take(SHARED_ID + 1, NEED - SHARED_ID));
    Ok(extents)
}

/// Subordinate ids that are not given out yet.
struct Supply {
    ranges: Vec<Range>,
}

impl Supply {
    fn take(&mut self, mut inside: u32, mut count: u32) -> Vec<Extent> {
        let mut extents = Vec::new();
        for range in &mut self.ranges {
            let taken = range.count.min(count);
            if taken > 0 {
                extents.push(Extent { inside, outside: range.first, count: taken });
                range.first += taken;
                range.count -= taken;
                inside += taken;
                count -= taken;
            }
        }
        extents
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = "         0          0 4294967295\n";

    fn host(subuid: &str, subgid: &str, own_map: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in
            [("subuid", subuid), ("subgid", subgid), ("uid_map", own_map), ("gid_map", own_map)]
        {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn of(dir: &tempfile::TempDir, uid: u32, gid: u32, name: Option<&str>) -> Result<IdMap, IdMapError> {
        IdMap::of(Uid::from_raw(uid), Gid::from_raw(gid), name, dir.path(), dir.path())
    }

    #[test]
    fn root_gets_a_range_far_from_everyone_or_its_own() {
        let map = of(&host("ana:100000:65536\n", "", WHOLE), 0, 0, Some("root")).unwrap();
        assert_eq!(map.uids, [Extent { inside: 0, outside: ROOT_BASE, count: SIZE }]);
        let map = of(&host("root:500000:10\nroot:700000:65536\n", "", WHOLE), 0, 0, Some("root")).unwrap();
        assert_eq!(map.host, HostKind::Privileged { base_uid: 700_000, base_gid: ROOT_BASE });
        assert_eq!((map.uid(1000), map.uid(SIZE)), (Some(701_000), None));
    }

    #[test]
    fn root_of_a_container_needs_ids_that_exist_there() {
        let error = of(&host("", "", "0 100000 65536\n"), 0, 0, Some("root")).unwrap_err();
        assert!(matches!(error, IdMapError::BaseNotMapped { side: Side::Users, base: ROOT_BASE }), "{error}");
        let dir = host("root:65536:65536\n", "root:65536:65536\n", "0 100000 1000000\n");
        assert_eq!(of(&dir, 0, 0, None).unwrap().uid(0), Some(65_536));
    }

    #[test]
    fn an_ordinary_user_is_1000_inside() {
        let map =
            of(&host("ana:100000:65536\n", "1007:200000:65536\n", WHOLE), 1007, 100, Some("ana")).unwrap();
        assert_eq!(
            map.uids,
            [
                Extent { inside: 0, outside: 100_000, count: 1000 },
                Extent { inside: 1000, outside: 1007, count: 1 },
                Extent { inside: 1001, outside: 101_000, count: 64_535 },
            ]
        );
        assert_eq!((map.gid(0), map.gid(1000), map.gid(65_535)), (Some(200_000), Some(100), Some(265_534)));
    }

    #[test]
    fn too_few_ids_are_counted_and_named() {
        let error =
            of(&host("ana:100000:65536\n", "ana:5000:10\n", WHOLE), 1007, 100, Some("ana")).unwrap_err();
        let IdMapError::TooFew { side, have, need, .. } = &error else { panic!("{error}") };
        assert_eq!((*side, *have, *need), (Side::Groups, 10, 65_535));
        assert!(error.to_string().starts_with("ana has 10 subordinate group ids in "), "{error}");
        assert!(
            of(&host("", "", WHOLE), 1007, 100, None).unwrap_err().to_string().starts_with("user 1007 has 0")
        );
    }

    proptest! {
        #[test]
        fn every_id_has_one_place_and_it_is_not_root(
            ranges in prop::collection::vec((1_u32..2_000_000, 1_u32..90_000), 1..6),
            uid in 1_u32..2_000_000,
        ) {
            let text: String = ranges.iter().map(|(first, count)| format!("u:{first}:{count}\n")).collect();
            let Ok(map) = of(&host(&text, &text, WHOLE), uid, uid, Some("u")) else { return Ok(()) };
            let mut next = 0;
            let mut taken: Vec<(u32, u32)> = Vec::new();
            for extent in &map.uids {
                prop_assert_eq!(extent.inside, next);
                next += extent.count;
                prop_assert!(extent.outside > 0);
                taken.push((extent.outside, extent.outside + extent.count));
            }
            prop_assert_eq!(next, SIZE);
            taken.sort_unstable();
            prop_assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            prop_assert_eq!(map.uid(SHARED_ID), Some(uid));
        }
    }
}
