//! The stored artifact that is most like a wanted one. Knows pre-images only as JSON.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::diff::differences;
use crate::plan::key::Key;
use crate::store::Manifest;

/// Artifacts with the same number of differing fields that are compared in every part.
const TIES: usize = 16;

/// Every artifact of a stage, by its fields.
pub struct Shelf {
    stored: Vec<Stored>,
}

struct Stored {
    key: Key,
    created: u64,
    kind: Value,
    layer: Option<Value>,
    fields: Fields,
}

/// Hashes of a pre-image's fields, by name: comparing two artifacts costs nothing then.
type Fields = BTreeMap<String, u64>;

/// What the search found.
#[derive(Clone, Debug, PartialEq)]
pub enum Nearest {
    Found(Key),
    /// There are artifacts that could be compared, but all of them are of other layers.
    OtherLayers,
    Nothing,
}

impl Shelf {
    /// The shelf of `manifests`, all of one stage.
    pub fn new(manifests: &[Manifest]) -> Shelf {
        let stored = manifests.iter().filter_map(|manifest| {
            let preimage: Value = serde_json::from_str(&manifest.preimage).ok()?;
            Some(Stored {
                key: manifest.key,
                created: manifest.created,
                kind: preimage["stage"].clone(),
                layer: layer(&preimage),
                fields: fields(&preimage),
            })
        });
        Shelf { stored: stored.collect() }
    }

    /// The artifact of the same kind and layer with the fewest differing fields; of several the one with the fewest
    /// differing parts of these, then the latest. `read` gives an artifact's pre-image.
    pub fn nearest(&self, wanted: &Value, read: impl Fn(&Key) -> Option<Value>) -> Nearest {
        let kind = self.stored.iter().filter(|stored| stored.kind == wanted["stage"]);
        let mut kind = kind.peekable();
        if kind.peek().is_none() {
            return Nearest::Nothing;
        }
        let (mine, layer) = (fields(wanted), layer(wanted));
        let layered = kind.filter(|stored| stored.layer == layer);
        let mut candidates: Vec<(usize, &Stored)> =
            layered.map(|stored| (differing(&stored.fields, &mine), stored)).collect();
        let Some(fewest) = candidates.iter().map(|(n, _)| *n).min() else { return Nearest::OtherLayers };
        candidates.retain(|(n, _)| *n == fewest);
        candidates.sort_by_key(|(_, stored)| std::cmp::Reverse(stored.created));
        candidates.truncate(TIES);
        let parts = |stored: &Stored| read(&stored.key).map(|it| differences("", &it, wanted).len());
        let best = match candidates.as_slice() {
            [(_, one)] => Some(*one),
            // The first of equals: the latest.
            several => {
                several.iter().map(|(_, stored)| *stored).min_by_key(|s| parts(s).unwrap_or(usize::MAX))
            }
        };
        best.map_or(Nearest::Nothing, |stored| Nearest::Found(stored.key))
    }
}

fn layer(preimage: &Value) -> Option<Value> {
    preimage["params"].get("layer").cloned()
}

fn fields(preimage: &Value) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in preimage.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => {
                fields.extend(inner.iter().map(|(field, value)| (format!("{name}.{field}"), hash(value))))
            }
            value => drop(fields.insert(name.clone(), hash(value))),
        }
    }
    fields
}

fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

fn differing(a: &Fields, b: &Fields) -> usize {
    let changed = a.iter().filter(|(name, value)| b.get(*name) != Some(value)).count();
    changed + b.keys().filter(|name| !a.contains_key(*name)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::key::Digest;
    use serde_json::json;

    fn stored(preimages: &[Value]) -> (Shelf, Vec<Key>) {
        let keys: Vec<Key> = preimages.iter().map(|p| Digest::of(p.to_string().as_bytes())).collect();
        let one = |(at, preimage): (usize, &Value)| Stored {
            key: keys[at],
            created: at as u64,
            kind: preimage["stage"].clone(),
            layer: layer(preimage),
            fields: fields(preimage),
        };
        (Shelf { stored: preimages.iter().enumerate().map(one).collect() }, keys)
    }

    fn activations(layer: usize, from_token: usize, input: &str, model: &str) -> Value {
        json!({
            "stage": "activations",
            "version": 1,
            "params": {"layer": layer, "from_token": from_token},
            "inputs": [["stories", input]],
            "model": model,
        })
    }

    #[test]
    fn the_fewest_differing_fields_win() {
        let all = [activations(1, 3, "a", "m"), activations(1, 5, "b", "m"), activations(2, 3, "b", "m")];
        let (shelf, keys) = stored(&all);
        let read = |key: &Key| keys.iter().position(|k| k == key).map(|at| all[at].clone());
        assert_eq!(shelf.nearest(&activations(1, 4, "b", "m"), read), Nearest::Found(keys[1]));
        assert_eq!(shelf.nearest(&activations(1, 3, "a", "n"), read), Nearest::Found(keys[0]));
        assert_eq!(shelf.nearest(&activations(2, 9, "z", "n"), read), Nearest::Found(keys[2]));
        assert_eq!(shelf.nearest(&activations(7, 3, "a", "m"), read), Nearest::OtherLayers);
        assert_eq!(shelf.nearest(&json!({"stage": "pca"}), read), Nearest::Nothing);
    }

    #[test]
    fn of_equals_the_one_with_fewer_differing_parts_wins_then_the_latest() {
        let stories = |words: &[&str]| json!({"stage": "stories/template", "params": {"stories": words}});
        let all = [stories(&["a", "b", "c"]), stories(&["x", "y", "z"]), stories(&["a", "b", "d"])];
        let (shelf, keys) = stored(&all);
        let read = |key: &Key| keys.iter().position(|k| k == key).map(|at| all[at].clone());
        assert_eq!(shelf.nearest(&stories(&["x", "y", "w"]), read), Nearest::Found(keys[1]));
        assert_eq!(shelf.nearest(&stories(&["a", "b", "e"]), read), Nearest::Found(keys[2]));
    }
}
