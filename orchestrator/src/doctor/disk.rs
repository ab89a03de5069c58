//! Whether there is room for boxes and machines.

use super::{Check, Site};

const NAME: &str = "disk space";
const GIB: u64 = 1 << 30;
/// Below this a box may not fit.
const SHORT: u64 = 5 * GIB;
/// Below this nothing fits.
const FULL: u64 = GIB;

pub(super) fn check(site: &Site) -> Check {
    let place = site.home.ancestors().find(|dir| dir.exists()).unwrap_or(&site.root);
    match rustix::fs::statvfs(place) {
        Ok(stat) => verdict(stat.f_bavail.saturating_mul(stat.f_frsize), &place.display().to_string()),
        Err(error) => Check::warn(
            NAME,
            format!("{} cannot be looked at ({error})", place.display()),
            "see that the directory is yours, or set POSADA_HOME to one that is",
        ),
    }
}

fn verdict(free: u64, place: &str) -> Check {
    let finding = format!("{:.1} GiB free at {place}", free as f64 / GIB as f64);
    let remedy = "make room there, or set POSADA_HOME to a place that has it";
    if free < FULL {
        Check::bad(NAME, finding, remedy)
    } else if free < SHORT {
        Check::warn(NAME, finding, remedy)
    } else {
        Check::ok(NAME, finding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn says_how_much_is_left() {
        assert_eq!(verdict(10 * GIB, "/").finding, "10.0 GiB free at /");
        assert_eq!(verdict(10 * GIB, "/").verdict, Verdict::Ok);
        assert_eq!(verdict(2 * GIB, "/").verdict, Verdict::Warn);
        assert_eq!(verdict(GIB / 2, "/").verdict, Verdict::Bad);
    }

    #[test]
    fn a_home_to_be_made_is_judged_by_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let site = Site { home: dir.path().join("not/yet"), path: "".into(), root: "/".into() };
        assert!(check(&site).finding.ends_with(&dir.path().display().to_string()));
    }
}
