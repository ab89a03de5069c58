//! Whether virtual machines can run.

use posada_kvm::Facts;

use super::{Check, Site};

const NAME: &str = "kvm";

pub(super) fn check(site: &Site) -> Check {
    judge(&Facts::below(&site.root))
}

fn judge(facts: &Facts) -> Check {
    match (facts.obstacle(), facts.extension) {
        (Some((finding, remedy)), _) => {
            Check::warn(NAME, finding, format!("{remedy}; machines run as containers meanwhile"))
        }
        (None, extension) => {
            Check::ok(NAME, format!("/dev/kvm works, CPU has {}", extension.unwrap_or("what it takes")))
        }
    }
}

#[cfg(test)]
mod tests {
    use posada_kvm::Device;

    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn takes_both_the_device_and_the_flag() {
        assert_eq!(judge(&Facts { device: Device::Answers, extension: Some("vmx") }).verdict, Verdict::Ok);
        for facts in [
            Facts { device: Device::Answers, extension: None },
            Facts { device: Device::Forbidden, extension: Some("svm") },
        ] {
            let check = judge(&facts);
            assert_eq!(check.verdict, Verdict::Warn);
            assert!(check.remedy.is_some_and(|remedy| remedy.ends_with("containers meanwhile")));
        }
    }

    #[test]
    fn looks_where_it_is_told() {
        let root = tempfile::tempdir().unwrap();
        fs_err::create_dir(root.path().join("proc")).unwrap();
        fs_err::write(root.path().join("proc/cpuinfo"), "processor\t: 0\nflags\t\t: fpu svm\n").unwrap();
        let site = Site { home: root.path().into(), path: "".into(), root: root.path().into() };
        let check = check(&site);
        assert!(check.finding.contains("the CPU has svm"), "{}", check.finding);
    }
}
