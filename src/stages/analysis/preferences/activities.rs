//! Lists of activities, each with a category: built in, or from a user's file. Does not depend on a model.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// An activity that a model could be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Activity {
    pub category: String,
    pub activity: String,
}

/// The 64 built-in activities, eight in each of eight categories.
const SHIPPED: &str = include_str!("../../../params/presets/activities-64.csv");

/// The names of the built-in lists, and the number of activities that they hold per category.
const LISTS: [(&str, usize); 2] = [("activities-64", 8), ("activities-16", 2)];

/// The minimum number of activities for a correlation.
const FEWEST: usize = 8;

/// The built-in list of this name.
pub fn shipped(name: &str) -> Option<Vec<Activity>> {
    let (_, of_each) = LISTS.iter().find(|(list, _)| *list == name)?;
    let all = read(SHIPPED).expect("a file that ships, which a test reads");
    let mut kept: Vec<Activity> = Vec::new();
    for activity in all {
        if kept.iter().filter(|other| other.category == activity.category).count() < *of_each {
            kept.push(activity);
        }
    }
    Some(kept)
}

/// The activities of a CSV file with the columns `category` and `activity`, separated by commas or tabs; lines that
/// begin with `#` are comments.
///
/// # Errors
/// With the file and the line: no such file or column, an empty field, a duplicate activity, fewer than eight.
pub fn of_file(path: &Path) -> Result<Vec<Activity>> {
    let read = || read(&fs_err::read_to_string(path)?);
    read().with_context(|| format!("read activities from {}", path.display()))
}

fn read(text: &str) -> Result<Vec<Activity>> {
    let text = text.trim_start_matches('\u{feff}');
    let header = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
    let separator = if header.contains('\t') { b'\t' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(separator).comment(Some(b'#')).from_reader(text.as_bytes());
    let header: Vec<String> = reader.headers()?.iter().map(|name| name.trim().to_lowercase()).collect();
    let column = |name: &str| {
        let there = || header.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        header
            .iter()
            .position(|h| h == name)
            .with_context(|| format!("no column `{name}`; there are {}", there()))
    };
    let columns = [column("category")?, column("activity")?];
    let (mut activities, mut seen) = (Vec::new(), HashSet::new());
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, |place| place.line());
        let [category, activity] = columns.map(|at| record[at].trim().to_string());
        ensure!(!category.is_empty() && !activity.is_empty(), "line {line}: an empty field");
        ensure!(seen.insert(activity.to_lowercase()), "line {line}: `{activity}` stands twice");
        activities.push(Activity { category, activity });
    }
    ensure!(
        activities.len() >= FEWEST,
        "{} activities: correlations need {FEWEST} or more",
        activities.len()
    );
    Ok(activities)
}

/// The index of each activity's category, in order of appearance.
pub fn categories<'a>(activities: &'a [Activity]) -> Vec<usize> {
    let mut names: Vec<&'a str> = Vec::new();
    let number = |activity: &'a Activity| {
        let category = activity.category.as_str();
        if !names.contains(&category) {
            names.push(category);
        }
        names.iter().position(|name| *name == category).unwrap_or_default()
    };
    activities.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_has_as_many_of_each_category() {
        for (name, of_each) in LISTS {
            let list = shipped(name).unwrap();
            assert_eq!(Some(list.len()), name.rsplit('-').next().and_then(|n| n.parse().ok()));
            let categories = categories(&list);
            assert_eq!(categories.iter().max(), Some(&7));
            assert!((0..8).all(|c| categories.iter().filter(|&&of| of == c).count() == of_each));
        }
        assert!(SHIPPED.starts_with("# Canary: "));
        assert_eq!(shipped("activities-65"), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let check = |text: &str, wanted: &str| {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(wanted), "{error}");
        };
        check("kind,activity\na,b\n", "no column `category`; there are `kind`, `activity`");
        check("# a\ncategory,activity\na,b\nc,\n", "line 4: an empty field");
        check("category\tactivity\na\tb\nc\tB\n", "line 3: `B` stands twice");
        check("category,activity\na,b\n", "1 activities: correlations need 8 or more");
    }
}
