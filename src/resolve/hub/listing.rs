//! The hub's description of a repository: its commit, and each file's size and digest. Independent of the cache's
//! folders.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::plan::key::Digest;

/// A repository at a commit.
#[derive(Debug)]
pub struct Listing {
    pub commit: String,
    pub files: Vec<File>,
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub struct File {
    /// Path relative to the repository, with `/` as separator.
    pub name: String,
    /// In bytes.
    pub size: Option<u64>,
    pub content: Option<Content>,
    /// Git's blob id; for a large file, that of the pointer file.
    pub blob_id: Option<String>,
}

/// The digest of a file's content, which is also its name in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A large file (git LFS).
    Sha256(Digest),
    /// A file stored in git itself: git's SHA-1 of it, in 40 hexadecimal digits.
    Git(String),
    /// A SHA-1 reported by a mirror: either of the plain content or git's. In 40 hexadecimal digits.
    Sha1(String),
}

impl Listing {
    /// Parses the reply to `/api/models/<repo>/revision/<revision>?blobs=true` or `/api/datasets/...`.
    ///
    /// # Errors
    /// Not such a reply; an invalid commit; a file name that would lead out of the repository.
    pub fn parse(json: &[u8]) -> Result<Listing> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Sibling {
            rfilename: String,
            size: Option<u64>,
            blob_id: Option<String>,
            lfs: Option<Lfs>,
        }
        #[derive(Deserialize)]
        struct Lfs {
            sha256: Option<String>,
            size: Option<u64>,
        }
        let answer: Answer = serde_json::from_slice(json).context("the hub's answer cannot be read")?;
        ensure!(is_hex(&answer.sha, 40), "the hub names {:?} as a commit", answer.sha);
        let outside = answer.siblings.iter().find(|sibling| !is_inside(&sibling.rfilename));
        if let Some(outside) = outside {
            bail!("the hub lists {:?}, which is no name of a file in a repository", outside.rfilename);
        }
        let files = answer.siblings.into_iter().map(|sibling| match sibling.lfs {
            // `blobId` is then that of the pointer file.
            Some(lfs) => File {
                name: sibling.rfilename,
                size: lfs.size.or(sibling.size),
                content: lfs.sha256.and_then(|digits| Content::named(&digits)),
                blob_id: sibling.blob_id,
            },
            None => File {
                name: sibling.rfilename,
                size: sibling.size,
                content: sibling.blob_id.as_deref().and_then(Content::named),
                blob_id: sibling.blob_id,
            },
        });
        Ok(Listing { commit: answer.sha, files: files.collect() })
    }
}

impl Content {
    /// Parses the digits of a digest; `None` if they are neither kind.
    pub fn named(digits: &str) -> Option<Content> {
        match digits.len() {
            40 if is_hex(digits, 40) => Some(Content::Git(digits.to_string())),
            64 if is_hex(digits, 64) => digits.parse().ok().map(Content::Sha256),
            _ => None,
        }
    }

    /// Parses an ETag: the hub's, or a mirror's, which contains the content's SHA-1 (Artifactory) or `{SHA1{...}}`
    /// (Nexus).
    pub fn tagged(tag: &str) -> Option<Content> {
        let tag = tag.trim().trim_start_matches("W/").trim_matches('"');
        let digits = tag.strip_prefix("{SHA1{").and_then(|rest| rest.strip_suffix("}}")).unwrap_or(tag);
        Content::named(&digits.to_ascii_lowercase()).map(|content| match content {
            Content::Git(digits) => Content::Sha1(digits),
            content => content,
        })
    }

    /// The file's name in the cache's `blobs/`.
    pub fn blob(&self) -> String {
        match self {
            Content::Sha256(digest) => digest.to_string(),
            Content::Git(digits) | Content::Sha1(digits) => digits.clone(),
        }
    }

    /// A hasher of the same kind, for a file of `size` bytes.
    pub fn hasher(&self, size: u64) -> Hasher {
        use sha1::Digest as _;
        let git = || Sha1::new_with_prefix(format!("blob {size}\0"));
        match self {
            Content::Sha256(_) => Hasher::Sha256(sha2::Digest::new()),
            Content::Git(_) => Hasher::Git(git()),
            Content::Sha1(digits) => Hasher::Sha1 { plain: Sha1::new(), git: git(), wanted: digits.clone() },
        }
    }
}

/// A digest in progress.
pub enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
    Sha1 { plain: Sha1, git: Sha1, wanted: String },
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => sha1::Digest::update(hasher, bytes),
            Hasher::Sha1 { plain, git, .. } => {
                sha1::Digest::update(plain, bytes);
                sha1::Digest::update(git, bytes);
            }
        }
    }

    pub fn finish(self) -> Content {
        match self {
            Hasher::Sha256(hasher) => Content::Sha256(Digest::from_hasher(hasher)),
            Hasher::Git(hasher) => Content::Git(hex::encode(sha1::Digest::finalize(hasher))),
            Hasher::Sha1 { plain, git, wanted } => {
                let git = hex::encode(sha1::Digest::finalize(git));
                Content::Sha1(if git == wanted { git } else { hex::encode(sha1::Digest::finalize(plain)) })
            }
        }
    }
}

/// Whether a file name stays within the repository's folder.
pub fn is_inside(name: &str) -> bool {
    !name.contains('\0') && name.split('/').all(|part| !["", ".", ".."].contains(&part))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The format of the hub's reply for gpt2.
    const ANSWER: &str = r#"{"id": "a/b", "sha": "607a30d783dfa663caf39e06633721c8d4cfcd7e", "siblings": [
        {"rfilename": "config.json", "blobId": "10c66461e4c109db5a2196bff4bb59be30396ed8", "size": 665},
        {"rfilename": "model.safetensors", "blobId": "f7a3cdf5b3e3b8b2e3b0a4a3b4f0a9b3f6a1a6b6", "size": 548105171,
         "lfs": {"sha256": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707", "size": 548105171, "pointerSize": 134}},
        {"rfilename": "vocab.json"}]}"#;

    #[test]
    fn an_answer_is_read() {
        let listing = Listing::parse(ANSWER.as_bytes()).unwrap();
        assert_eq!(listing.commit, "607a30d783dfa663caf39e06633721c8d4cfcd7e");
        let blobs: Vec<_> = listing.files.iter().map(|f| f.content.as_ref().map(Content::blob)).collect();
        assert_eq!(blobs[0].as_deref(), Some("10c66461e4c109db5a2196bff4bb59be30396ed8"));
        assert_eq!(
            blobs[1].as_deref(),
            Some("248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707")
        );
        assert_eq!((blobs[2].as_deref(), listing.files[2].size), (None, None));
    }

    #[test]
    fn what_would_lead_out_of_the_cache_is_refused() {
        let bad = ANSWER.replace("607a30d783dfa663caf39e06633721c8d4cfcd7e", "../../somewhere");
        assert!(Listing::parse(bad.as_bytes()).is_err());
        assert!(Listing::parse(b"<html>").is_err());
        for name in ["../x", "/etc/x", "a/../../x", "a//x", "./x", "a/", "", ".."] {
            let bad = ANSWER.replace("vocab.json", name);
            let said = Listing::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(said.contains("is no name of a file in a repository"), "{name}: {said}");
        }
        assert!(is_inside("a/..b/c..d/.e"));
        let tag = "10c66461e4c109db5a2196bff4bb59be30396ed8";
        assert_eq!(Content::named(tag), Some(Content::Git(tag.to_string())));
        for tagged in [tag, &format!("W/\"{tag}\""), &format!("\"{{SHA1{{{}}}}}\"", tag.to_uppercase())] {
            assert_eq!(Content::tagged(tagged), Some(Content::Sha1(tag.to_string())), "{tagged}");
        }
        for bad in ["../x", "", &tag[1..], &format!("{}/", &tag[1..]), &tag.to_uppercase()] {
            assert_eq!(Content::named(bad), None, "{bad}");
        }
        for bad in ["../x", "\"\"", "{SHA1{../../x}}", "\"9e107d9d372bb6826bd81d3542a419d6\""] {
            assert_eq!(Content::tagged(bad), None, "{bad}");
        }
    }

    /// Compared with `printf 'hello
    /// ' | git hash-object --stdin` and `sha256sum`.
    #[test]
    fn digests_are_those_of_git_and_lfs() {
        for digits in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ] {
            let content = Content::named(digits).unwrap();
            let mut hasher = content.hasher(6);
            hasher.update(b"hel");
            hasher.update(b"lo\n");
            assert_eq!(hasher.finish(), content);
        }
        // A mirror's SHA-1 may be git's, or that of `sha1sum`.
        for digits in ["ce013625030ba8dba906f756967f9e9ca394464a", "f572d396fae9206628714fb2ce00f72e94f2258f"]
        {
            let content = Content::tagged(digits).unwrap();
            for (text, same) in [("hello\n", true), ("hellO\n", false)] {
                let mut hasher = content.hasher(6);
                hasher.update(text.as_bytes());
                assert_eq!(hasher.finish() == content, same, "{digits} {text}");
            }
        }
    }
}
