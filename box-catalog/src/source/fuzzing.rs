//! What servers say of the boxes they have.

use url::Url;

use super::{Wanted, document, streams};
use crate::{Form, Version, VersionReq};

/// A document of a catalog of Vagrant's: what is offered of it lies on a web server.
pub fn catalog(bytes: &[u8]) {
    let Ok(base) = Url::parse("https://h/team/web") else { return };
    let Ok((name, offers)) = document::parse(bytes, &base) else { return };
    assert!(offers.iter().all(|offer| is_on_the_web(&offer.location) && offer.name == name));
    let requirement = VersionReq::parse(">= 1").ok();
    let wanted = Wanted { requirement: requirement.clone(), ..Wanted::newest(Form::Disk) };
    let newest = offers.iter().map(|offer| offer.version.clone()).max();
    if let Ok(chosen) = wanted.choose(&name, offers, "amd64") {
        assert!(requirement.is_some_and(|requirement| requirement.matches(&chosen.version)));
        assert!(newest.is_some_and(|newest: Version| chosen.version <= newest));
    }
}

/// An index of a simplestreams server, and a document of products.
pub fn simplestreams(bytes: &[u8]) {
    let Ok(base) = Url::parse("https://h/sub/") else { return };
    if let Ok(documents) = streams::documents(bytes, &base) {
        assert!(documents.iter().all(|url| is_on_the_web(url.as_str())));
    }
    if let Ok((offers, _)) = streams::offers(bytes, &base, "debian/12", "box") {
        assert!(offers.iter().all(|offer| is_on_the_web(&offer.location) && offer.checksum.is_some()));
    }
}

fn is_on_the_web(location: &str) -> bool {
    location.starts_with("http://") || location.starts_with("https://")
}
