//! How owners of a synced folder are shown in a machine of root.

use posada_userns::{Extent, SHARED_ID, SIZE};

/// The id map of a folder that belongs to `owner`, for a machine whose ids begin at `base`: the owner is shown
/// as [`SHARED_ID`], the machine's other ids are themselves, and all others are nobody. An ordinary user's
/// machine has the same view by its own map.
#[must_use]
pub fn folder_map(owner: u32, base: u32) -> Vec<Extent> {
    let shared = base + SHARED_ID;
    let mut map = vec![Extent { inside: owner, outside: shared, count: 1 }];
    let mut cuts = vec![shared];
    if owner != shared && (base..base + SIZE).contains(&owner) {
        // The owner's place is free: the one it takes goes there.
        map.push(Extent { inside: shared, outside: owner, count: 1 });
        cuts.push(owner);
    }
    cuts.sort_unstable();
    let mut from = base;
    for cut in cuts.into_iter().chain([base + SIZE]) {
        if cut > from {
            map.push(Extent { inside: from, outside: from, count: cut - from });
        }
        from = cut + 1;
    }
    map
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const BASE: u32 = 1_000_000_000;

    fn ids(map: &[Extent]) -> HashMap<u32, u32> {
        let mut ids = HashMap::new();
        for extent in map {
            for offset in 0..extent.count {
                assert_eq!(ids.insert(extent.inside + offset, extent.outside + offset), None, "{extent:?}");
            }
        }
        ids
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_owner_is_the_shared_id_and_no_two_are_one(
            owner in prop_oneof![0_u32..70_000, BASE - 2..BASE + SIZE + 2, Just(BASE + SHARED_ID)],
        ) {
            let map = ids(&folder_map(owner, BASE));
            prop_assert_eq!(map[&owner], BASE + SHARED_ID);
            let mut shown: Vec<u32> = map.values().copied().collect();
            shown.sort_unstable();
            prop_assert_eq!(shown, (BASE..BASE + SIZE).collect::<Vec<_>>());
            prop_assert!(map.iter().all(|(disk, _)| *disk == owner || (BASE..BASE + SIZE).contains(disk)));
        }
    }
}
