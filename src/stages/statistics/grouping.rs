//! Assignment of stories to groups that are resampled, shuffled and held out together: the stories of a topic, or of
//! a passage. Independent of what is computed from them.

use std::collections::HashMap;

/// More groups than this are merged: group number `n` becomes part of group `n % MOST`. Resampling a hundred groups
/// is enough, and memory is bounded.
pub const MOST: usize = 100;

/// What a story shares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared<'a> {
    Topic(&'a str),
    /// The passage of a template.
    Passage(i32),
    Nothing,
}

/// Assigns stories to groups, numbered in order of first appearance.
#[derive(Debug, Default)]
pub struct Grouping {
    groups: HashMap<Name, usize>,
    sizes: Sizes,
    /// For each label, the number of stories that share nothing.
    rounds: Vec<usize>,
}

/// The identity of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    Topic(String),
    Passage(i32),
    /// Stories that share nothing are independent. The first story of each label forms one group, the second another,
    /// and so on: as these stories have nothing in common, this introduces no dependence, and labels can be shuffled
    /// within groups.
    Round(usize),
}

/// Number of groups of each kind.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    topics: usize,
    passages: usize,
    rounds: usize,
}

impl Grouping {
    /// The group of the next story of `label`, below [`MOST`].
    pub fn place(&mut self, label: usize, shared: Shared) -> usize {
        let name = match shared {
            Shared::Topic(topic) => Name::Topic(topic.to_string()),
            Shared::Passage(passage) => Name::Passage(passage),
            Shared::Nothing => {
                self.rounds.resize(self.rounds.len().max(label + 1), 0);
                self.rounds[label] += 1;
                Name::Round(self.rounds[label])
            }
        };
        let next = self.groups.len();
        let sizes = &mut self.sizes;
        let count = match name {
            Name::Topic(_) => &mut sizes.topics,
            Name::Passage(_) => &mut sizes.passages,
            Name::Round(_) => &mut sizes.rounds,
        };
        let group = *self.groups.entry(name).or_insert_with(|| {
            *count += 1;
            next
        });
        group % MOST
    }

    /// For each group the name of its topic or passage: `rain`, `passage 3`. `None` for stories that share nothing,
    /// and for merged groups.
    pub fn topics(&self) -> Vec<Option<String>> {
        let mut topics: Vec<Option<String>> = vec![None; self.groups.len().min(MOST)];
        let mut names = vec![0; topics.len()];
        for (name, number) in &self.groups {
            let group = number % MOST;
            names[group] += 1;
            topics[group] = match name {
                _ if names[group] > 1 => None,
                Name::Topic(topic) => Some(topic.clone()),
                Name::Passage(number) => Some(format!("passage {}", number + 1)),
                Name::Round(_) => None,
            };
        }
        topics
    }

    /// A description of the groups: `8 topics`.
    pub fn words(&self) -> String {
        let Sizes { topics, passages, rounds } = self.sizes;
        let some = |n: usize, what: &str| (n > 0).then(|| format!("{n} {what}"));
        let parts = [
            some(topics, "topics"),
            some(passages, "passages"),
            some(rounds, "stories an emotion, each by itself"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let merged = match self.groups.len() > MOST {
            true => format!(", merged into {MOST} groups"),
            false => String::new(),
        };
        format!("{}{merged}", parts.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(stories: &[(usize, Shared)]) -> (Vec<usize>, String) {
        let mut grouping = Grouping::default();
        let places = stories.iter().map(|&(label, shared)| grouping.place(label, shared)).collect();
        (places, grouping.words())
    }

    #[test]
    fn topics_passages_and_stories_without_either() {
        use Shared::{Nothing, Passage, Topic};
        let passages = [(0, Passage(0)), (0, Passage(1)), (1, Passage(0)), (1, Passage(1))];
        assert_eq!(placed(&passages), (vec![0, 1, 0, 1], "2 passages".to_string()));
        let topics = [(0, Topic("rain")), (1, Topic("snow")), (1, Topic("rain"))];
        assert_eq!(placed(&topics), (vec![0, 1, 0], "2 topics".to_string()));
        let others = [(1, Nothing), (0, Nothing), (0, Nothing), (0, Topic("rain"))];
        let words = "1 topics and 2 stories an emotion, each by itself";
        assert_eq!(placed(&others), (vec![0, 0, 1, 2], words.to_string()));
    }

    #[test]
    fn more_groups_than_can_be_held_are_merged() {
        let passages: Vec<_> = (0..MOST as i32 + 2).map(|number| (0, Shared::Passage(number))).collect();
        let (found, words) = placed(&passages);
        assert_eq!(found[MOST - 1..], [MOST - 1, 0, 1]);
        assert_eq!(words, "102 passages, merged into 100 groups");
        let mut grouping = Grouping::default();
        (0..MOST as i32 + 2).for_each(|number| _ = grouping.place(0, Shared::Passage(number)));
        let topics = grouping.topics();
        assert_eq!((topics.len(), &topics[1], topics[2].as_deref()), (MOST, &None, Some("passage 3")));
        let mut grouping = Grouping::default();
        for shared in [Shared::Topic("rain"), Shared::Nothing] {
            grouping.place(0, shared);
        }
        assert_eq!(grouping.topics(), [Some("rain".to_string()), None]);
    }
}
