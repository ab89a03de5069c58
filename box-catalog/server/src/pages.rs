//! The pages that people see. What comes from outside is escaped by the templates' engine; nothing on a page is
//! fetched from elsewhere, and nothing needs a script.

use serde::Serialize;
use tera::{Context, Tera};

use crate::document::{BoxDocument, State, VersionDocument};
use crate::mirror::{MirrorDocument, MirrorFile, MirrorVersion, host};
use crate::names::{BoxName, Part};

/// The style of all pages.
pub(crate) const STYLE: &str = include_str!("../templates/style.css");

/// The templates.
pub(crate) struct Pages(Result<Tera, tera::Error>);

/// A box on the front page.
#[derive(Serialize)]
struct Line<'a> {
    name: String,
    summary: &'a str,
    version: String,
    date: String,
    architectures: Vec<&'a str>,
    providers: Vec<&'a str>,
    size: String,
    versions: usize,
    /// Of which catalog, where of another one.
    from: Option<String>,
}

/// A version on a box's page.
#[derive(Serialize)]
struct Version<'a> {
    version: String,
    date: String,
    stamp: String,
    yanked: bool,
    open: bool,
    files: Vec<File<'a>>,
}

#[derive(Serialize)]
struct File<'a> {
    provider: &'a str,
    architecture: &'a str,
    size: String,
    sha256: String,
    url: String,
}

impl Pages {
    pub(crate) fn new() -> Self {
        let mut tera = Tera::default();
        // Names that end in .html: values are escaped in them.
        let added = tera.add_raw_templates([
            ("page.html", include_str!("../templates/page.html")),
            ("index.html", include_str!("../templates/index.html")),
            ("box.html", include_str!("../templates/box.html")),
            ("refusal.html", include_str!("../templates/refusal.html")),
        ]);
        Self(added.map(|()| tera))
    }

    fn render(&self, name: &str, context: &Context) -> Result<String, String> {
        let tera = self.0.as_ref().map_err(ToString::to_string)?;
        tera.render(name, context).map_err(|error| format!("{error:?}"))
    }

    /// The front page: the boxes whose name or description has `query` in it.
    pub(crate) fn index(
        &self,
        boxes: &[BoxDocument],
        mirrored: &[MirrorDocument],
        query: &str,
        base: &str,
    ) -> Result<String, String> {
        let wanted = query.to_lowercase();
        let is_wanted = |name: &BoxName, description: &str| {
            name.to_string().to_lowercase().contains(&wanted) || description.to_lowercase().contains(&wanted)
        };
        let own = boxes.iter().filter(|document| is_wanted(&document.name, &document.description)).map(line);
        let others = mirrored.iter().filter(|document| is_wanted(&document.name, &document.description));
        let lines: Vec<_> = own.chain(others.map(mirrored_line)).collect();
        let mut context = Context::new();
        context.insert("boxes", &lines);
        context.insert("all", &(boxes.len() + mirrored.len()));
        context.insert("query", query);
        context.insert("base", base);
        self.render("index.html", &context)
    }

    /// The page of a box.
    pub(crate) fn of_box(&self, document: &BoxDocument, base: &str) -> Result<String, String> {
        let versions: Vec<_> = document.versions.iter().map(|there| version(document, there, base)).collect();
        let newest = document.released().next().or(document.versions.first());
        let mut context = Context::new();
        context.insert("name", &document.name.to_string());
        context.insert("description", &document.description);
        context.insert("versions", &versions);
        context.insert("newest", &newest.map(|version| version.version.to_string()).unwrap_or_default());
        context.insert("base", base);
        self.render("box.html", &context)
    }

    /// The page of a box of another catalog.
    pub(crate) fn of_mirrored(&self, document: &MirrorDocument, base: &str) -> Result<String, String> {
        let versions: Vec<_> =
            document.versions.iter().map(|there| mirrored_version(document, there, base)).collect();
        let newest = document.newest();
        let mut context = Context::new();
        context.insert("name", &document.name.to_string());
        context.insert("description", &document.description);
        context.insert("versions", &versions);
        context.insert("newest", &newest.map(|version| version.version.to_string()).unwrap_or_default());
        context.insert("base", base);
        context.insert("from", &host(&document.upstream));
        self.render("box.html", &context)
    }

    /// The page that says why there is none.
    pub(crate) fn refusal(&self, message: &str, hint: Option<&str>) -> Result<String, String> {
        let mut context = Context::new();
        context.insert("message", message);
        context.insert("hint", &hint);
        self.render("refusal.html", &context)
    }
}

fn line(document: &BoxDocument) -> Line<'_> {
    let newest = document.released().next().or(document.versions.first());
    let mut providers: Vec<&str> =
        newest.iter().flat_map(|version| &version.files).map(|file| file.provider.as_str()).collect();
    let mut architectures: Vec<&str> =
        newest.iter().flat_map(|version| &version.files).map(|file| file.architecture.as_str()).collect();
    for list in [&mut providers, &mut architectures] {
        list.sort_unstable();
        list.dedup();
    }
    let largest = newest.iter().flat_map(|version| &version.files).map(|file| file.size).max();
    Line {
        name: document.name.to_string(),
        summary: document.description.lines().next().unwrap_or_default(),
        version: newest.map(|version| version.version.to_string()).unwrap_or_default(),
        date: newest.map(date).unwrap_or_default(),
        architectures,
        providers,
        size: size(largest.unwrap_or_default()),
        versions: document.versions.len(),
        from: None,
    }
}

/// A box of another catalog; its size is that of what is here.
fn mirrored_line(document: &MirrorDocument) -> Line<'_> {
    let newest = document.newest();
    let files = || newest.iter().flat_map(|version| &version.files);
    let mut providers: Vec<&str> = files().map(|file| file.provider.as_str()).collect();
    let mut architectures: Vec<&str> =
        files().filter_map(|file| file.architecture.as_ref()).map(Part::as_str).collect();
    for list in [&mut providers, &mut architectures] {
        list.sort_unstable();
        list.dedup();
    }
    Line {
        name: document.name.to_string(),
        summary: document.description.lines().next().unwrap_or_default(),
        version: newest.map(|version| version.version.to_string()).unwrap_or_default(),
        date: newest.map(day).unwrap_or_default(),
        architectures,
        providers,
        size: size(document.kept().map(|kept| kept.size).sum()),
        versions: document.versions.len(),
        from: Some(host(&document.upstream)),
    }
}

/// The day of a version of another catalog.
fn day(version: &MirrorVersion) -> String {
    version.created_at.iter().flat_map(|time| time.get(..10)).collect()
}

fn version<'a>(document: &'a BoxDocument, version: &'a VersionDocument, base: &str) -> Version<'a> {
    let home = format!("{base}/{}/versions/{}", document.name, version.version);
    let file = |file: &'a crate::document::FileEntry| File {
        provider: file.provider.as_str(),
        architecture: file.architecture.as_str(),
        size: size(file.size),
        sha256: file.sha256.to_string(),
        url: format!("{home}/{}/{}/vagrant.box", file.provider, file.architecture),
    };
    Version {
        version: version.version.to_string(),
        date: date(version),
        stamp: version.released.unwrap_or(version.created).to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        yanked: version.state == State::Yanked,
        open: version.state == State::Open,
        files: version.files.iter().map(file).collect(),
    }
}

fn mirrored_version<'a>(document: &'a MirrorDocument, version: &'a MirrorVersion, base: &str) -> Version<'a> {
    let home = format!("{base}/{}/versions/{}", document.name, version.version);
    let file = |file: &'a MirrorFile| File {
        provider: file.provider.as_str(),
        architecture: file.architecture.as_ref().map_or("unknown", Part::as_str),
        size: match (&file.kept, file.size) {
            (Some(kept), _) => size(kept.size),
            (None, Some(bytes)) => format!("{}, not here yet", size(bytes)),
            (None, None) => "not here yet".to_owned(),
        },
        sha256: file
            .kept
            .as_ref()
            .map(|kept| kept.sha256)
            .or(file.promised())
            .map_or_else(String::new, |it| it.to_string()),
        url: format!("{home}/{}/{}/vagrant.box", file.provider, file.architecture_in_path()),
    };
    Version {
        version: version.version.to_string(),
        date: day(version),
        stamp: version.created_at.clone().unwrap_or_default(),
        yanked: false,
        open: false,
        files: version.files.iter().map(file).collect(),
    }
}

fn date(version: &VersionDocument) -> String {
    version.released.unwrap_or(version.created).format("%Y-%m-%d").to_string()
}

/// A number of bytes as people read it.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::document::FileEntry;
    use crate::names::{BoxName, Part, VersionName};

    fn document_text() -> String {
        "<script>alert(1)</script> & \"quoted\" '><img src=x onerror=alert(2)>\nmore".into()
    }

    fn hostile() -> BoxDocument {
        let mut document = BoxDocument::new(BoxName::parse("team/web").unwrap());
        document.description = document_text();
        let part = |text| Part::parse(text).unwrap();
        let file = FileEntry {
            provider: part("libvirt"),
            architecture: part("amd64"),
            size: 5 << 20,
            sha256: Sha256([7; 32]),
            added: chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            signature: None,
        };
        document.put_file(&VersionName::parse("1.0").unwrap(), file);
        document.versions[0].state = State::Released;
        document
    }

    #[test]
    fn what_comes_from_outside_is_text() {
        let pages = Pages::new();
        let document = hostile();
        let query = "\"><script>alert(3)</script>";
        for page in [
            pages.of_box(&document, "http://host:7070").unwrap(),
            pages.index(std::slice::from_ref(&document), &[], "", "http://host:7070").unwrap(),
            pages.index(&[document], &[], query, "http://host:7070").unwrap(),
            pages.refusal(query, Some(query)).unwrap(),
        ] {
            assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        }
        let text = serde_json::json!({"description": document_text(), "versions": [{"version": "1", "created_at": "<script>",
            "providers": [{"name": "lxc", "url": "a?<script>"}]}]});
        let (name, url) =
            (BoxName::parse("team/web").unwrap(), url::Url::parse("http://other/<img").unwrap());
        let now = chrono::DateTime::UNIX_EPOCH;
        let mirrored = crate::mirror::parse(text.to_string().as_bytes(), &name, &url, &url, now).unwrap();
        for page in [
            pages.of_mirrored(&mirrored, "http://host:7070").unwrap(),
            pages.index(&[], &[mirrored], "", "http://host:7070").unwrap(),
        ] {
            assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
            assert!(page.contains("mirrored from other"), "{page}");
        }
        let page = pages.of_box(&hostile(), "http://host:7070").unwrap();
        assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    }

    #[test]
    fn a_box_shows_what_one_needs_to_use_it() {
        let page = Pages::new().of_box(&hostile(), "https://boxes.example").unwrap();
        for text in ["team/web", "5.0 MiB", "amd64", "libvirt", "2027-01-15", "config.vm.box = \"team/web\""]
        {
            assert!(page.contains(text), "{text} in {page}");
        }
    }

    #[test]
    fn the_front_page_finds_boxes() {
        let (pages, boxes) = (Pages::new(), [hostile()]);
        assert!(pages.index(&boxes, &[], "WEB", "http://x").unwrap().contains("href=\"/team/web\""));
        assert!(!pages.index(&boxes, &[], "nothing", "http://x").unwrap().contains("href=\"/team/web\""));
    }
}
