//! A hub that keeps its large files in Xet storage, and mirrors that name other digests.

use emoflow::plan::key::Digest;
use sha1::Digest as _;

use super::server::Hub;
use super::{blobs, fails, home, run, succeeds};

/// What huggingface.co says of repositories in Xet storage: `xetHash` in the listing; of a large file a redirect to another
/// host, with `X-Xet-Hash` and links to the storage's own protocol beside the SHA-256; of a small one a relative redirect.
/// The bytes at the end of the redirect are the file's own.
#[test]
fn files_in_xet_storage_are_fetched_resumed_and_checked() {
    let hub = Hub::start("llama-gqa");
    {
        let mut state = hub.state();
        state.xet = true;
        state.token = Some("secret".into());
        state.cuts = [1000, 20_000].into();
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("hf")).unwrap();
    std::fs::write(dir.path().join("hf/token"), "secret").unwrap();
    succeeds(&run(dir.path(), &hub, &[]), "ran 5, cached 0");
    let (storage, rest): (Vec<_>, Vec<_>) = hub.asked().into_iter().partition(|asked| asked.storage);
    let ranges: Vec<_> = storage.iter().map(|asked| asked.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=1000-"), Some("bytes=21000-")]);
    assert!(storage.iter().all(|asked| asked.authorization.is_none()), "the token went to another host");
    assert!(rest.iter().any(|asked| asked.path.starts_with("/api/resolve-cache/")), "{rest:?}");
    assert!(rest.iter().all(|asked| asked.authorization.is_some()), "{rest:?}");
    let weights = hub.state().files["model.safetensors"].clone();
    assert_eq!(
        std::fs::read(home(dir.path()).join("blobs").join(Digest::of(&weights).to_string())).unwrap(),
        weights
    );

    // Bytes that are not those of the SHA-256.
    let other = tempfile::tempdir().unwrap();
    hub.state().damage = Some(5000);
    std::fs::create_dir(other.path().join("hf")).unwrap();
    std::fs::write(other.path().join("hf/token"), "secret").unwrap();
    fails(&run(other.path(), &hub, &[]), &["model.safetensors", "is damaged: expected digest"]);
}

fn sha1(content: &[u8]) -> String {
    hex::encode(sha1::Sha1::digest(content))
}

/// Artifactory, Nexus, and a mirror of the hub's own tags; the listing has names only.
#[test]
fn digests_of_mirrors_are_checked() {
    let mirrors: [fn(&[u8]) -> String; 4] = [
        |content| format!("etag: {}\r\n", sha1(content)),
        |content| format!("etag: \"{{SHA1{{{}}}}}\"\r\n", sha1(content).to_uppercase()),
        |content| format!("etag: \"opaque\"\r\nx-checksum-sha256: {}\r\n", Digest::of(content)),
        |content| format!("etag: W/\"{}\"\r\n", super::server::git_name(content)),
    ];
    for (number, mirror) in mirrors.into_iter().enumerate() {
        let hub = Hub::start("llama-gqa");
        hub.state().mirror = Some(mirror);
        let dir = tempfile::tempdir().unwrap();
        succeeds(&run(dir.path(), &hub, &[]), "ran 5, cached 0");
        assert_eq!(blobs(dir.path()).len(), 4, "mirror {number}");
        let other = tempfile::tempdir().unwrap();
        // The weights' header says the digest of other bytes.
        hub.state().mirror = Some(match number {
            0 => |_| format!("etag: {}\r\n", sha1(b"other")),
            1 => |_| format!("etag: \"{{SHA1{{{}}}}}\"\r\n", sha1(b"other")),
            2 => |_| format!("x-checksum-sha256: {}\r\n", Digest::of(b"other")),
            _ => |_| format!("etag: \"{}\"\r\n", super::server::git_name(b"other")),
        });
        fails(&run(other.path(), &hub, &[]), &["is damaged: expected digest"]);
    }
    let hub = Hub::start("llama-gqa");
    hub.state().mirror = Some(|_| "etag: \"9e107d9d372bb6826bd81d3542a419d6\"\r\n".to_string());
    let dir = tempfile::tempdir().unwrap();
    fails(&run(dir.path(), &hub, &[]), &["gives no known digest"]);
}
