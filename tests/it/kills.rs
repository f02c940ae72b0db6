//! The real program, killed again and again at moments that chance chooses: what it ends in is what an uninterrupted run
//! ends in, to the byte, and nothing in the cache is damaged.

use std::time::Duration;

use emoflow::store::Store;

use crate::interrupt::{Running, results};
use crate::project::Project;

/// Kills of a plain `cargo test`; `EMOFLOW_KILLS` asks for more.
const KILLS: usize = 40;
/// Milliseconds that a run is given at most: less than the experiment takes, more than the start and a batch do.
const LONGEST: u64 = 800;

/// The next of a row of numbers (Knuth's linear congruence).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn killed_at_random_it_ends_in_the_same_bytes() {
    let wanted =
        std::env::var("EMOFLOW_KILLS").map_or(KILLS, |n| n.parse().expect("EMOFLOW_KILLS is a number"));
    // The experiment that ships, in small shards.
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/quickstart.toml"));
    let text = format!("shard = 8\n{}", text.unwrap().replace("\"models/demo\"", "\"{demo}\""));
    let project = Project::new(&text);
    assert_eq!(project.run(&[]).code, 0);
    let whole = results(&project);
    let mut state = 2026;
    let mut kills = 0;
    let mut project = Project::new(&text);
    while kills < wanted {
        let running = Running::start(&project, &[]);
        std::thread::sleep(Duration::from_millis(next(&mut state) % LONGEST));
        running.signal(libc::SIGKILL);
        match running.ended() {
            (None, ..) => kills += 1,
            (Some(0), ..) => {
                assert!(results(&project) == whole, "after {kills} kills the results differ");
                let verified = Store::open(project.path("cache")).unwrap().read_only().verify(true).unwrap();
                assert!(verified.damaged.is_empty(), "after {kills} kills: {:?}", verified.damaged);
                project = Project::new(&text);
            }
            (code, _, said) => panic!("after {kills} kills: {code:?}, {said}"),
        }
    }
    let last = project.run(&[]);
    assert_eq!(last.code, 0, "{:?}", last.nodes);
    assert!(results(&project) == whole, "after {kills} kills the results differ");
}
