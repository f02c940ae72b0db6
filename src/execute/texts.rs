//! Statistics of the texts that a model reads: how many there are of each emotion, how many were rejected, and how many
//! are too short or too long. Reads stored tables; computes nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::plan::{Node, Plan, Unit, UnitId, Work};
use crate::stages::activations::{EXCEPTIONS, Exception, Short};
use crate::stages::stories::REJECTED;
use crate::store::table::Table;
use crate::store::{Lookup, Store};

/// Maximum number of emotions named in a message.
const NAMED: usize = 6;

/// The texts of one emotion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    /// Number of accepted texts.
    pub stories: usize,
    /// Number of rejected texts, by reason.
    pub rejected: BTreeMap<String, usize>,
    /// Number skipped by the reader because they have no token at `from_token`.
    pub short: usize,
    /// Number skipped by the reader because they have more tokens than its context.
    pub long: usize,
    /// Number truncated to the context.
    pub cut: usize,
    /// Tokens of the longest text that is too short, including the template around it.
    pub longest_short: usize,
}

/// Texts by their emotion; neutral text is under the empty string.
pub type ByEmotion = BTreeMap<String, Texts>;

/// The texts that `reader`, a node of activations, reads; `None` while some of them are not stored.
///
/// # Errors
/// A table that cannot be read.
pub fn read_by(plan: &Plan, store: &Store, reader: &Node) -> Result<Option<ByEmotion>> {
    let Some(first) = reader.units.first() else { return Ok(None) };
    // All layers skip the same texts.
    let units = reader.units.iter().filter(|unit| unit.layer == first.layer);
    gather(plan, store, units.map(|unit| (unit.inputs[0], Some(unit))))
}

/// The texts of a node of stories; `None` while some of them are not stored.
///
/// # Errors
/// A table that cannot be read.
pub fn written(plan: &Plan, store: &Store, node: usize) -> Result<Option<ByEmotion>> {
    let units = (0..plan.nodes[node].units.len()).map(|unit| (UnitId { node, unit }, None));
    gather(plan, store, units)
}

/// Counts the texts of units of stories and, for those paired with a unit of activations, the texts that it skipped.
fn gather<'a>(
    plan: &Plan,
    store: &Store,
    units: impl Iterator<Item = (UnitId, Option<&'a Unit>)>,
) -> Result<Option<ByEmotion>> {
    let mut all = ByEmotion::new();
    for (id, reading) in units {
        let Some(stories) = table(store, "stories", plan.unit(id), "stories")? else { return Ok(None) };
        let emotions = stories.opt_str("emotion")?;
        for emotion in emotions {
            of(&mut all, emotion).stories += 1;
        }
        if let Some(rejected) = table(store, "stories", plan.unit(id), REJECTED)? {
            for (emotion, reason) in rejected.opt_str("emotion")?.iter().zip(rejected.str("reason")?) {
                *of(&mut all, emotion).rejected.entry(reason.clone()).or_default() += 1;
            }
        }
        let Some(reading) = reading else { continue };
        let Some(exceptions) = table(store, "activations", reading, EXCEPTIONS)? else { return Ok(None) };
        let places: BTreeMap<&String, usize> = stories.str("story_id")?.iter().zip(0..).collect();
        let rows = exceptions.str("story_id")?.iter().zip(exceptions.str("what")?);
        for ((story, what), &tokens) in rows.zip(exceptions.i32("n_tokens")?) {
            let texts = of(&mut all, &places.get(story).and_then(|place| emotions[*place].clone()));
            match what.as_str() {
                what if what == Exception::Short.word() => {
                    texts.short += 1;
                    texts.longest_short = texts.longest_short.max(tokens as usize);
                }
                what if what == Exception::Long.word() => texts.long += 1,
                _ => texts.cut += 1,
            }
        }
    }
    Ok(Some(all))
}

fn of<'a>(all: &'a mut ByEmotion, emotion: &Option<String>) -> &'a mut Texts {
    all.entry(emotion.clone().unwrap_or_default()).or_default()
}

/// A stored table of a unit; `None` if the unit is not stored or has no such table.
fn table(store: &Store, stage: &str, unit: &Unit, name: &str) -> Result<Option<Table>> {
    match store.lookup(stage, &unit.key)? {
        Lookup::Hit(entry) if entry.manifest.file(name).is_ok() => Ok(Some(entry.read(name)?)),
        _ => Ok(None),
    }
}

/// A message about the texts of a node of stories or of activations: which are missing, and why. Empty if none are
/// missing or if this is not known yet.
///
/// # Errors
/// A table that cannot be read.
pub fn said(plan: &Plan, store: &Store, node: usize) -> Result<String> {
    let Node { work, .. } = &plan.nodes[node];
    let said = match work {
        Work::Activations { .. } if !skips(store, &plan.nodes[node]) => None,
        Work::Activations { params, .. } => read_by(plan, store, &plan.nodes[node])?.map(|all| {
            let short = format!("too short for from_token = {}", params.from_token);
            let skipped = [
                count(&all, &short, |texts| texts.short),
                count(&all, "longer than the context, skipped", |texts| texts.long),
                count(&all, "longer than the context, truncated", |texts| texts.cut),
            ];
            skipped.into_iter().flatten().collect::<Vec<_>>().join("; ")
        }),
        Work::Generate { items, .. } | Work::Served { items, .. } => {
            written(plan, store, node)?.map(|all| unwritten(items.iter().map(|item| &item.emotion), &all))
        }
        _ => None,
    };
    Ok(said.unwrap_or_default())
}

/// Whether `reader` is known to have skipped or truncated a text. Uses the manifests: for a thousand readers this takes
/// a tenth of the time of reading their tables.
fn skips(store: &Store, reader: &Node) -> bool {
    let rows =
        |unit: &Unit| store.manifest("activations", &unit.key)?.file(EXCEPTIONS).ok().map(|file| file.rows);
    reader.units.iter().filter_map(rows).any(|rows| rows > 0)
}

/// A message with the number of stories that are `what`, and their emotions.
fn count(all: &ByEmotion, what: &str, of: impl Fn(&Texts) -> usize) -> Option<String> {
    let sum: usize = all.values().map(&of).sum();
    let stories: usize = all.values().map(|texts| texts.stories).sum();
    let mut named: Vec<_> =
        all.iter().filter(|(emotion, texts)| !emotion.is_empty() && of(texts) > 0).collect();
    // Emotions with the fewest remaining texts come first.
    named.sort_by_key(|(_, texts)| texts.stories - of(texts).min(texts.stories));
    let more = named.len().saturating_sub(NAMED);
    let named: Vec<String> = named
        .iter()
        .take(NAMED)
        .map(|(emotion, texts)| format!("{emotion} {} of {}", of(texts), texts.stories))
        .collect();
    let named = match (named.is_empty(), more) {
        (true, _) => String::new(),
        (_, 0) => format!(" ({})", named.join(", ")),
        (_, more) => format!(" ({} and {more} more emotions)", named.join(", ")),
    };
    (sum > 0).then(|| format!("{sum} of {stories} texts {what}{named}"))
}

/// A message with the emotions for which no story was accepted.
fn unwritten<'a>(asked: impl Iterator<Item = &'a Option<String>>, all: &ByEmotion) -> String {
    let asked: BTreeSet<&str> = asked.map(|emotion| emotion.as_deref().unwrap_or_default()).collect();
    let mut empty: Vec<String> = Vec::new();
    for name in asked {
        let texts = all.get(name).cloned().unwrap_or_default();
        if texts.stories == 0 {
            empty.push(format!("{} ({})", quoted(name), rejections(&texts.rejected)));
        }
    }
    let more = empty.len().saturating_sub(NAMED);
    empty.truncate(NAMED);
    match (empty.is_empty(), more) {
        (true, _) => String::new(),
        (_, 0) => format!("no text was accepted of {}", empty.join(", ")),
        (_, more) => format!("no text was accepted of {} and {more} more emotions", empty.join(", ")),
    }
}

fn quoted(emotion: &str) -> String {
    if emotion.is_empty() { "neutral text".to_string() } else { format!("`{emotion}`") }
}

fn rejections(reasons: &BTreeMap<String, usize>) -> String {
    let total: usize = reasons.values().sum();
    let each: Vec<String> = reasons.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    format!("{total} rejected: {}", each.join(", "))
}

/// Why the vectors of `unit` cannot be computed: the first of `emotions` without usable texts, and what to do about it;
/// `None` if every emotion has some.
///
/// # Errors
/// A table that cannot be read.
pub fn lacking(plan: &Plan, store: &Store, unit: &Unit, emotions: &[String]) -> Result<Option<String>> {
    let readings = unit.inputs.iter().filter_map(|id| match &plan.nodes[id.node].work {
        Work::Activations { params, .. } => Some((params, plan.unit(*id))),
        _ => None,
    });
    let (params, readings): (Vec<_>, Vec<_>) = readings.unzip();
    let Some(params) = params.first() else { return Ok(None) };
    let units = readings.iter().map(|reading| (reading.inputs[0], Some(*reading)));
    let Some(all) = gather(plan, store, units)? else { return Ok(None) };
    let none = Texts::default();
    let of = |emotion: &String| all.get(emotion).unwrap_or(&none);
    let read = |texts: &Texts| texts.stories - texts.short - texts.long;
    let mut empty = emotions.iter().filter(|emotion| read(of(emotion)) == 0);
    let Some(emotion) = empty.next() else { return Ok(None) };
    let (texts, more) = (of(emotion), empty.count());
    let who = match more {
        0 => format!("`{emotion}` has"),
        more => format!("`{emotion}` and {more} more emotions have"),
    };
    let why = match texts {
        Texts { stories: 0, rejected, .. } if rejected.is_empty() => "its source has none".to_string(),
        Texts { stories: 0, rejected, .. } => {
            format!(
                "none of the generated texts was accepted ({}): see `reject` of the source",
                rejections(rejected)
            )
        }
        Texts { stories, short, longest_short, .. } if short == stories => format!(
            "its {stories} are too short: {longest_short} tokens at most, and pooling begins at `from_token` = {} with \
             `short` = \"{}\": lower `from_token`, or set `short = \"whole\"`",
            params.from_token,
            if params.short == Short::Skip { "skip" } else { "error" },
        ),
        Texts { stories, short, long, .. } => format!(
            "of its {stories}, {short} are too short for `from_token` = {} and {long} longer than the model's context: \
             lower `from_token`, or set `long = \"cut\"`",
            params.from_token
        ),
    };
    Ok(Some(format!("{who} no story to average: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(stories: usize, short: usize) -> Texts {
        Texts { stories, short, ..Texts::default() }
    }

    #[test]
    fn what_is_skipped_is_told_by_emotion_the_emptiest_first() {
        let all = ByEmotion::from([
            ("calm".to_string(), texts(12, 1)),
            ("sad".to_string(), texts(12, 11)),
            ("happy".to_string(), texts(12, 0)),
        ]);
        assert_eq!(
            count(&all, "too short", |texts| texts.short).unwrap(),
            "12 of 36 texts too short (sad 11 of 12, calm 1 of 12)"
        );
        assert_eq!(count(&all, "longer", |texts| texts.long), None);
        let neutral = ByEmotion::from([(String::new(), texts(4, 3))]);
        assert_eq!(count(&neutral, "too short", |texts| texts.short).unwrap(), "3 of 4 texts too short");
    }

    #[test]
    fn an_emotion_without_an_accepted_text_is_told_with_the_reasons() {
        let rejected = BTreeMap::from([("refusal".to_string(), 1), ("names_emotion".to_string(), 3)]);
        let all = ByEmotion::from([
            ("sad".to_string(), Texts { rejected, ..Texts::default() }),
            ("calm".to_string(), texts(2, 0)),
        ]);
        let asked = ["calm", "sad", "sad"].map(|emotion| Some(emotion.to_string()));
        assert_eq!(
            unwritten(asked.iter(), &all),
            "no text was accepted of `sad` (4 rejected: names_emotion 3, refusal 1)"
        );
        assert_eq!(unwritten(asked[..1].iter(), &all), "");
    }
}
