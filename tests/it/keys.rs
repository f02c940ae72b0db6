//! Keys under change: in experiments drawn at random, what cannot change a result changes no key, and each key of the
//! file that can changes the units downstream of it and no other.

mod draw;
mod flips;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use emoflow::lm::Layer;
use emoflow::plan::key::Key;
use emoflow::plan::{Node, Plan, UnitId, Work};

use crate::project::Project;
use draw::{Dice, File, data, plan, swap};

/// Experiments that each property is tried on; any seed will do.
fn seeds() -> impl Iterator<Item = u64> {
    0..6
}

const NEUTRAL: [&str; 3] = ["template", "generate", "file"];

/// A unit by what it is about: node, first story, layer.
type Place = (String, usize, Option<Layer>);

/// A unit that compares two sets is about both, in no order.
fn place(node: &Node, unit: usize) -> Place {
    let planned = &node.units[unit];
    let mut about = node.name();
    if let Work::Across { pairs, .. } = &node.work {
        let mut sets = pairs[unit].sets.each_ref().map(|set| format!(" {}/{}", set.model, set.stories));
        sets.sort();
        about.extend(sets);
    }
    (about, planned.stories.start, planned.layer)
}

fn keys(plan: &Plan) -> BTreeMap<Place, Key> {
    let mut keys = BTreeMap::new();
    for node in &plan.nodes {
        for unit in 0..node.units.len() {
            let place = place(node, unit);
            assert!(
                keys.insert(place.clone(), node.units[unit].key).is_none(),
                "{place:?} is twice in the plan"
            );
        }
    }
    keys
}

/// The sets behind a node's name in their order.
fn sorted(about: &str) -> String {
    let mut parts = about.split(' ');
    let name = parts.next().unwrap_or_default().to_string();
    let mut sets: Vec<&str> = parts.collect();
    sets.sort();
    std::iter::once(name.as_str()).chain(sets).collect::<Vec<_>>().join(" ")
}

#[test]
fn order_spaces_comments_and_names_change_no_key() {
    let data = data();
    for seed in seeds() {
        let mut dice = Dice(seed);
        let file = File::draw(&mut dice, NEUTRAL[seed as usize % 3]);
        let before = keys(&plan(&file.plain(), data.path()));
        let text = file.scrambled(&mut dice);
        assert_eq!(keys(&plan(&text, data.path())), before, "{text}");

        let models = [("m0", "zoe"), ("m1", "m0")];
        let others =
            [("s0", "said"), ("s1", "s3"), ("s3", "s1"), ("a0", "space"), ("a3", "a2"), ("a2", "lens")];
        let names: BTreeMap<&str, &str> = models.into_iter().chain(others).collect();
        let text = file.renamed(&names).scrambled(&mut dice);
        let renamed: BTreeMap<Place, Key> = before
            .into_iter()
            .map(|((name, first, layer), key)| ((sorted(&swap(&name, &names)), first, layer), key))
            .collect();
        assert_eq!(keys(&plan(&text, data.path())), renamed, "{text}");
    }
}

#[test]
fn each_key_of_the_file_changes_what_is_downstream_of_it_and_nothing_else() {
    let data = data();
    flips::every_key_is_told_of();
    for seed in seeds() {
        for flip in flips::all() {
            let mut dice = Dice(seed);
            let neutral = flip.neutral().unwrap_or(NEUTRAL[seed as usize % 3]);
            let file = File::draw(&mut dice, neutral).with(flip.given);
            let changed = file.with(flip.edits);
            assert_ne!(file.plain(), changed.plain(), "{} does not change", flip.key);
            let (before, after) = (plan(&file.plain(), data.path()), plan(&changed.plain(), data.path()));
            let (old, new) = (keys(&before), keys(&after));
            let found: BTreeSet<&Place> = new
                .iter()
                .filter(|(place, key)| old.get(place).is_some_and(|k| k != *key))
                .map(|(p, _)| p)
                .collect();
            let roots: Vec<String> = flip.roots.iter().map(ToString::to_string).collect();
            let expected = if roots.is_empty() { BTreeSet::new() } else { downstream(&after, &roots) };
            let expected: BTreeSet<&Place> =
                expected.iter().filter(|place| old.contains_key(place)).collect();
            assert!(
                found == expected,
                "{}: {:?}\nchanged, but should not: {:?}\nshould have changed: {:?}\n{}",
                flip.key,
                flip.edits,
                found.difference(&expected).collect::<Vec<_>>(),
                expected.difference(&found).collect::<Vec<_>>(),
                file.plain()
            );
        }
    }
}

/// The units of the nodes that `roots` select, and all that is made of them.
fn downstream(plan: &Plan, roots: &[String]) -> BTreeSet<Place> {
    let roots = plan.select(roots).map(|selected| selected.units).unwrap_or_default();
    let roots: HashSet<UnitId> = roots.into_iter().collect();
    let mut reached: HashSet<UnitId> = HashSet::new();
    let mut places = BTreeSet::new();
    // Inputs come before what needs them.
    for (index, node) in plan.nodes.iter().enumerate() {
        for (unit, planned) in node.units.iter().enumerate() {
            if roots.contains(&UnitId { node: index, unit })
                || planned.inputs.iter().any(|input| reached.contains(input))
            {
                reached.insert(UnitId { node: index, unit });
                places.insert(place(node, unit));
            }
        }
    }
    places
}

#[test]
fn what_is_added_changes_nothing_that_was_there() {
    let data = data();
    let model = format!("\"{}\"", draw::fixture_folder("smollm3").display());
    for seed in seeds() {
        let file = File::draw(&mut Dice(seed), NEUTRAL[seed as usize % 3]);
        let before = keys(&plan(&file.plain(), data.path()));
        let mut more = file.clone();
        more.set("models.added", "path", &model);
        more.set("stories.added.template", "passages", "[\"Such {emotion} days.\"]");
        more.set("analysis.added.pca", "components", "1");
        let after = keys(&plan(&more.plain(), data.path()));
        assert!(after.len() > before.len());
        for (place, key) in &before {
            assert_eq!(after.get(place), Some(key), "{place:?} in {}", more.plain());
        }
    }
}

#[test]
fn two_models_share_no_key_below_the_stories() {
    let data = data();
    for seed in seeds() {
        let file = File::draw(&mut Dice(seed), NEUTRAL[seed as usize % 3]);
        let mut readers: BTreeMap<Key, String> = BTreeMap::new();
        for node in plan(&file.plain(), data.path()).nodes {
            let Some(reader) = node.id.subject.model() else { continue };
            for unit in &node.units {
                let other = readers.insert(unit.key, reader.to_string());
                assert!(
                    other.as_deref().is_none_or(|o| o == reader),
                    "{}: {other:?}\n{}",
                    node.name(),
                    file.plain()
                );
            }
        }
        assert!(readers.values().collect::<BTreeSet<_>>().len() >= 2);
    }
}

const MOVABLE: &str = r#"
layers = [1]
[models.tiny]
path = "models/tiny"
[emotions]
words = ["happy", "sad"]
[stories.told.file]
path = "data/told.csv"
[activations]
from_token = 1
[analysis.space.pca]
components = 1
"#;

#[test]
fn files_that_are_touched_copied_or_moved_run_nothing() {
    let project = Project::new(MOVABLE);
    copy_folder(&draw::fixture_folder("llama-gqa"), &project.path("models/tiny"));
    std::fs::create_dir(project.path("data")).unwrap();
    let told = "emotion,text\nhappy,She laughed all day.\nsad,She wept all night.\n";
    std::fs::write(project.path("data/told.csv"), told).unwrap();
    let ran = |what: &str| {
        let ran = project.run(&[]);
        assert_eq!(ran.code, 0, "{what}: {:?}", ran.nodes);
        ran.names("ran").into_iter().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(
        ran("first"),
        ["activations/tiny/told", "report", "space/tiny/told", "stories/told", "vectors/tiny/told"]
    );
    let nothing = Vec::<String>::new();
    assert_eq!(ran("as it was"), nothing);

    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for time in [old, std::time::SystemTime::now()] {
        let mut files = vec![project.path("data/told.csv")];
        files.extend(std::fs::read_dir(project.path("models/tiny")).unwrap().map(|f| f.unwrap().path()));
        for file in files {
            std::fs::File::options().append(true).open(file).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(ran("touched"), nothing);
    }

    copy_folder(&project.path("models/tiny"), &project.path("models/copy"));
    std::fs::copy(project.path("data/told.csv"), project.path("data/copy.csv")).unwrap();
    project.write(&MOVABLE.replace("models/tiny", "models/copy").replace("told.csv", "copy.csv"));
    assert_eq!(ran("copied"), nothing);

    std::fs::rename(project.path("models/copy"), project.path("moved")).unwrap();
    std::fs::rename(project.path("data/copy.csv"), project.path("moved.csv")).unwrap();
    project.write(&MOVABLE.replace("models/tiny", "moved").replace("data/told.csv", "moved.csv"));
    assert_eq!(ran("moved"), nothing);

    // And one bit of the weights is another model, one more story another file.
    let weights = project.path("moved/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 4; // the low bits of a number's mantissa
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    assert_eq!(
        ran("another model"),
        ["activations/tiny/told", "report", "space/tiny/told", "vectors/tiny/told"]
    );
    std::fs::write(project.path("moved.csv"), format!("{told}sad,She wept all day.\n")).unwrap();
    assert_eq!(ran("another file").len(), 5);
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
