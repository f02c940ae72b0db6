//! A hub repository: its kind and name, and the URLs and folders derived from them. Sends no request.

use std::fmt;

/// The kind of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    Dataset,
}

/// A repository, named `owner/name`.
#[derive(Clone, Debug)]
pub struct Repo {
    kind: Kind,
    pub name: String,
}

impl Repo {
    pub fn model(name: &str) -> Repo {
        Repo { kind: Kind::Model, name: name.to_string() }
    }

    pub fn dataset(name: &str) -> Repo {
        Repo { kind: Kind::Dataset, name: name.to_string() }
    }

    /// Display text: "repository" or "dataset repository".
    pub fn noun(&self) -> &'static str {
        match self.kind {
            Kind::Model => "repository",
            Kind::Dataset => "dataset repository",
        }
    }

    /// The URL path of the listing at `revision`.
    pub fn listing(&self, revision: &str) -> String {
        let kind = match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        };
        format!("api/{kind}/{}/revision/{}?blobs=true", self.name, escaped(revision))
    }

    /// The URL path of `file` at `commit`.
    pub fn file(&self, commit: &str, file: &str) -> String {
        let file: Vec<String> = file.split('/').map(escaped).collect();
        format!("{}/resolve/{commit}/{}", self.page(), file.join("/"))
    }

    /// The URL path of its web page.
    pub fn page(&self) -> String {
        match self.kind {
            Kind::Model => self.name.clone(),
            Kind::Dataset => format!("datasets/{}", self.name),
        }
    }

    /// Its folder in the cache of Hugging Face's tools: `datasets--owner--name`.
    pub fn folder(&self) -> String {
        let kind = match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        };
        format!("{kind}--{}", self.name.replace('/', "--"))
    }
}

/// Display text: a model's name, or the kind of repository with its name.
impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Model => f.write_str(&self.name),
            Kind::Dataset => write!(f, "{} {}", self.noun(), self.name),
        }
    }
}

/// `text`, escaped as one segment of a URL's path.
fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_addresses() {
        let (model, data) = (Repo::model("a/b"), Repo::dataset("a/b"));
        assert_eq!(model.listing("refs/pr/1"), "api/models/a/b/revision/refs%2Fpr%2F1?blobs=true");
        assert_eq!(data.listing("main"), "api/datasets/a/b/revision/main?blobs=true");
        assert_eq!(model.file("c0", "config.json"), "a/b/resolve/c0/config.json");
        assert_eq!(data.file("c0", "x y/z#1.csv"), "datasets/a/b/resolve/c0/x%20y/z%231.csv");
        assert_eq!((model.folder(), data.folder()), ("models--a--b".into(), "datasets--a--b".into()));
    }
}
