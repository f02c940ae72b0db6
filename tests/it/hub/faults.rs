//! Networks, servers and disks that fail on the way.

use std::path::PathBuf;

use emoflow::plan::key::Digest;

use super::server::Hub;
use super::{blobs, fails, home, plan, run, succeeds};

/// A hub that was asked for the plan already, so that only weights are left to fetch; its weights' blob.
fn planned() -> (Hub, tempfile::TempDir, PathBuf) {
    let hub = Hub::start("llama-gqa");
    let dir = tempfile::tempdir().unwrap();
    succeeds(&plan(dir.path(), &hub, &[]), "5 to run");
    hub.asked();
    let digest = Digest::of(&hub.state().files["model.safetensors"]);
    let blob = home(dir.path()).join("blobs").join(digest.to_string());
    (hub, dir, blob)
}

/// Where storage was asked to begin, request by request.
fn begun(hub: &Hub) -> Vec<usize> {
    let storage = hub.asked().into_iter().filter(|asked| asked.storage);
    let from = |range: String| range["bytes=".len()..].trim_end_matches('-').parse().unwrap();
    storage.map(|asked| asked.range.map_or(0, from)).collect()
}

fn incomplete(blob: &std::path::Path) -> PathBuf {
    PathBuf::from(format!("{}.incomplete", blob.display()))
}

#[test]
fn a_cut_connection_is_resumed() {
    let (hub, dir, blob) = planned();
    hub.state().cuts = [10_000, 50_000, 0].into();
    succeeds(&run(dir.path(), &hub, &[]), "ran 5,");
    assert_eq!(begun(&hub), [0, 10_000, 60_000, 60_000]);
    assert_eq!(std::fs::read(blob).unwrap(), hub.state().files["model.safetensors"]);
}

#[test]
fn a_storage_without_ranges_begins_again() {
    let (hub, dir, blob) = planned();
    (hub.state().cuts, hub.state().no_ranges) = ([10_000].into(), true);
    succeeds(&run(dir.path(), &hub, &[]), "ran 5,");
    assert_eq!(begun(&hub), [0, 10_000]);
    assert_eq!(std::fs::read(blob).unwrap(), hub.state().files["model.safetensors"]);
}

#[test]
fn a_busy_hub_is_asked_again() {
    let hub = Hub::start("llama-gqa");
    let dir = tempfile::tempdir().unwrap();
    hub.state().statuses = [429, 503, 503].into();
    succeeds(&plan(dir.path(), &hub, &[]), "5 to run");
    hub.state().statuses = [429, 500].into();
    succeeds(&run(dir.path(), &hub, &[]), "ran 5,");
    assert!(hub.state().statuses.is_empty());
    let fresh = tempfile::tempdir().unwrap();
    hub.state().statuses = [503; 50].into();
    fails(&plan(fresh.path(), &hub, &[]), &["status 503, 6 times in a row"]);
    assert_eq!(hub.state().statuses.len(), 44);
}

#[test]
fn damaged_bytes_are_not_kept() {
    let (hub, dir, blob) = planned();
    hub.state().damage = Some(70_000);
    let mut damaged = hub.state().files["model.safetensors"].clone();
    damaged[70_000] ^= 1;
    let expected =
        format!("expected digest {}, got {}", blob.file_name().unwrap().display(), Digest::of(&damaged));
    fails(&run(dir.path(), &hub, &[]), &["model.safetensors of tests/tiny is damaged", &expected]);
    assert!(!blob.exists() && !incomplete(&blob).exists(), "{:?}", blobs(dir.path()));
    hub.state().damage = None;
    succeeds(&run(dir.path(), &hub, &[]), "ran 4, cached 1");
}

#[test]
fn a_damaged_beginning_is_fetched_anew() {
    let (hub, dir, blob) = planned();
    std::fs::write(incomplete(&blob), vec![0; 1000]).unwrap();
    let output = run(dir.path(), &hub, &[]);
    succeeds(&output, "its partial download is damaged; downloading it again");
    assert_eq!(begun(&hub), [1000, 0]);
    assert_eq!(std::fs::read(blob).unwrap(), hub.state().files["model.safetensors"]);
}

#[test]
fn damaged_small_files_are_not_kept() {
    let hub = Hub::start("llama-gqa");
    let dir = tempfile::tempdir().unwrap();
    // The listing was made of other bytes of the same length.
    let name = super::server::git_name(&hub.state().files["config.json"]);
    hub.state().swapped = Some("config.json");
    fails(
        &plan(dir.path(), &hub, &[]),
        &["config.json of tests/tiny is damaged", &format!("expected digest {name}")],
    );
    assert_eq!(blobs(dir.path()), Vec::<String>::new());
}

#[test]
fn a_wrong_size_is_refused() {
    let (hub, dir, blob) = planned();
    hub.state().offered = Some(100_000);
    let expected = "model.safetensors of tests/tiny has the wrong size: expected 136968 bytes, got 100000";
    fails(&run(dir.path(), &hub, &[]), &[expected]);
    assert!(!blob.exists() && !incomplete(&blob).exists());
}

#[test]
fn a_disk_without_room_is_seen_before() {
    let (hub, dir, _) = planned();
    hub.state().listed_size = Some(1 << 60);
    fails(
        &run(dir.path(), &hub, &[]),
        &["no disk space in `", "1152921504606846976 bytes are needed", "HF_HOME"],
    );
    assert_eq!(begun(&hub), Vec::<usize>::new());
}

/// A limit on the size of files stands for a disk that becomes full: no privilege is needed for it.
#[test]
fn a_full_disk_keeps_what_came() {
    use std::os::unix::process::CommandExt;
    let (hub, dir, blob) = planned();
    let mut limited = super::command(dir.path(), &hub.url, super::EXPERIMENT, &["run", "--quiet"]);
    // SAFETY: both calls may be made between fork and exec.
    unsafe {
        limited.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 100_000, rlim_max: libc::RLIM_INFINITY };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            if libc::setrlimit(libc::RLIMIT_FSIZE, &limit) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    let expected = [
        "no disk space for model.safetensors of tests/tiny",
        "more bytes are needed; the part received is kept",
    ];
    fails(&limited.output().unwrap(), &[&expected[..], &[&blob.display().to_string()]].concat());
    assert_eq!(std::fs::metadata(incomplete(&blob)).unwrap().len(), 100_000);
    assert_eq!(begun(&hub), [0]);
    succeeds(&run(dir.path(), &hub, &[]), "ran 4, cached 1");
    assert_eq!(begun(&hub), [100_000]);
}
