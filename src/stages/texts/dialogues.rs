//! Dialogues: conversations in which two emotions are known, and the requests to their writer. Does not depend on any
//! model.

use anyhow::{Context, Result, ensure};

use super::{Labels, Said, Speaker, Transcript, plain};
use crate::lm::Role;
use crate::params::words;
use crate::stages::statistics::draws::Draws;
use crate::stages::stories::{self, Item, Story};
use crate::store::table::Table;

/// Increased when the same stories would give different dialogues.
pub const VERSION: u32 = 2;

words! {
    /// Whose the two emotions of a dialogue are.
    pub enum Pairing {
        /// The person's and the assistant's, independent of each other.
        Speakers = "speakers",
        /// What the person feels, and another emotion that they show.
        Deflection = "deflection",
    }
}

/// The speaker of a line that begins with each mark.
const MARKS: [(&str, Speaker); 7] = [
    ("Person:", Speaker::User),
    ("Human:", Speaker::User),
    ("User:", Speaker::User),
    ("Assistant:", Speaker::Assistant),
    ("AI Assistant:", Speaker::Assistant),
    ("AI:", Speaker::Assistant),
    ("Scenario:", Speaker::System),
];

impl Pairing {
    /// The default prompt for the writer.
    pub fn prompt(self) -> &'static str {
        match self {
            Pairing::Speakers => {
                "Write a conversation between a person and an AI assistant about {topic}. The person feels {emotion} all along, and \
                 the assistant speaks as somebody who feels {other}. Let what each of them says show it, and name neither feeling. \
                 Begin each turn on a new line with \"Person:\" or \"Assistant:\". Write six to ten exchanges and nothing else."
            }
            Pairing::Deflection => {
                "First write a short paragraph about {topic} that begins with \"Scenario:\" and says why a person feels {emotion}. Then \
                 write a conversation between this person and an AI assistant in which the person hides that and shows only that \
                 they feel {other}; in the conversation nobody names either feeling. Begin each turn on a new line with \"Person:\" \
                 or \"Assistant:\". Write four to six exchanges and nothing else."
            }
        }
    }

    /// Story `items`, each given a second emotion. Among the stories with one topic and number, each emotion is second
    /// exactly once. For speakers the order is drawn from all permutations, so that the two emotions are independent;
    /// for deflection it is drawn from those permutations in which no emotion is paired with itself.
    pub fn paired(self, items: Vec<Item>, emotions: &[String], seed: u64) -> Vec<Item> {
        let second = |item: Item| {
            let first =
                item.emotion.as_ref().and_then(|word| emotions.iter().position(|other| other == word));
            let (Some(first), n) = (first, emotions.len()) else { return item };
            let purpose = format!("second emotion of {}", item.topic.as_deref().unwrap_or_default());
            let mut draws = Draws::new(&purpose, &[seed, item.index as u64]);
            let mut order = draws.shuffled(n);
            while self == Pairing::Deflection && n > 1 && (0..n).any(|at| order[at] == at) {
                order = draws.shuffled(n);
            }
            let other = order[first];
            Item { other: Some(emotions[other].clone()), ..item }
        };
        items.into_iter().map(second).collect()
    }
}

/// The turns of a written dialogue; any text before the first turn is dropped.
fn turns(text: &str) -> Result<Vec<Said>> {
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.iter().position(|line| plain::mark(line, &MARKS).is_some());
    let first = first.context("no line begins with `Person:` or `Assistant:`")?;
    let said = plain::turns(first + 1, &lines[first..], &MARKS)?;
    // After the first turn it would be read as one of the person's turns.
    let late = said.iter().skip(1).any(|said| said.role == Speaker::System);
    ensure!(!late, "a `Scenario:` behind the first turn: it must stand before the dialogue");
    for (role, name) in [(Speaker::User, "Person:"), (Speaker::Assistant, "Assistant:")] {
        let speaks = |said: &Said| said.role == role && !said.content.trim().is_empty();
        ensure!(said.iter().any(speaks), "no turn begins with `{name}`");
    }
    Ok(said)
}

/// Whether a text is a dialogue; with `scenario`, one that begins with a scenario.
pub fn is_dialogue(text: &str, scenario: bool) -> bool {
    turns(text).is_ok_and(|said| !scenario || said[0].role == Speaker::System && !said[0].content.is_empty())
}

/// Whether a prompt asks the writer for a scenario.
pub fn asks_for_scenario(prompt: &str) -> bool {
    prompt.contains("Scenario:")
}

/// The lines of a dialogue without the scenario before it.
pub fn spoken(text: &str) -> String {
    let said = turns(text).unwrap_or_default().into_iter().filter(|said| said.role != Speaker::System);
    said.map(|said| said.content).collect::<Vec<_>>().join("\n")
}

/// The dialogues of a table of stories; each keeps the story's id.
///
/// # Errors
/// A text is not a dialogue.
pub fn of_stories(table: &Table) -> Result<Table> {
    let dialogue = |story: Story| {
        let Story { story_id: id, emotion, other, topic, index, text, writer, .. } = story;
        let passage = (writer == "template").then(|| format!("passage {}", index + 1));
        let topic = topic.or(passage);
        let place = topic.clone().unwrap_or_default();
        let said = turns(&text).with_context(|| format!("{place}: it is not a dialogue"))?;
        let (transcript, _) = Transcript::of(place, said, None, None)?;
        let emotions = [emotion, other].map(|emotion| emotion.context("a dialogue without its emotions"));
        let [emotion, other] = emotions;
        let labels = Some(Labels { emotions: [emotion?, other?], topic });
        Ok(Transcript { id, labels, ..transcript })
    };
    let all: Vec<Transcript> = stories::rows(table)?.into_iter().map(dialogue).collect::<Result<_>>()?;
    Ok(super::table(&all))
}

/// One user turn for each of `prompts`, labelled with its class.
pub fn of_prompts(prompts: &[(String, String)]) -> Result<Table> {
    let one = |(class, prompt): &(String, String)| {
        let said = vec![Said { role: Speaker::User, content: prompt.clone() }];
        Transcript::of(String::new(), said, Some(class.clone()), None).map(|(transcript, _)| transcript)
    };
    let all: Vec<Transcript> = prompts.iter().map(one).collect::<Result<_>>()?;
    debug_assert!(all.iter().all(|t| t.turns.iter().all(|turn| turn.role == Role::User)));
    Ok(super::table(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_found_and_the_scenario_is_none_of_them() {
        let text =
            "Here it is:\n\nScenario: Rain\nand a leak.\n**Person:** I am fine.\nReally.\n\nAssistant: Good.";
        let said = turns(text).unwrap();
        let roles: Vec<Speaker> = said.iter().map(|said| said.role).collect();
        assert_eq!(roles, [Speaker::System, Speaker::User, Speaker::Assistant]);
        assert_eq!(said[0].content, "Rain\nand a leak.");
        assert_eq!(spoken(text), "I am fine.\nReally.\nGood.");
        for wrong in ["A story.", "Person: Hello.", "Assistant: Hello.", "Person:\nAssistant: Hi."] {
            assert!(!is_dialogue(wrong, false), "{wrong}");
        }
        assert!(is_dialogue(text, true) && asks_for_scenario(Pairing::Deflection.prompt()));
        assert!(!asks_for_scenario(Pairing::Speakers.prompt()));
        let without = "Person: Fine.\nAssistant: Good.";
        assert!(is_dialogue(without, false) && !is_dialogue(without, true));
        assert!(!is_dialogue("Scenario:\nPerson: Fine.\nAssistant: Good.", true));
        assert!(!is_dialogue("Person: Fine.\nScenario: Rain.\nAssistant: Good.", false));
    }

    /// Over many blocks, each second emotion is equally frequent with each first one, in every order; for deflection
    /// the two are never the same.
    #[test]
    fn second_emotions_are_drawn_evenly() {
        let emotions: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        let mut orders = std::collections::HashSet::new();
        let mut count = |pairing: Pairing| {
            let mut counts = [[0; 4]; 4];
            for index in 0..3000 {
                let item = |word: &String| Item {
                    emotion: Some(word.clone()),
                    other: None,
                    topic: Some("rain".into()),
                    index,
                };
                let items = pairing.paired(emotions.iter().map(item).collect(), &emotions, 5);
                let at = |word: &str| emotions.iter().position(|e| e == word).unwrap();
                let seconds: Vec<usize> = items.iter().map(|i| at(i.other.as_ref().unwrap())).collect();
                seconds.iter().enumerate().for_each(|(first, &second)| counts[first][second] += 1);
                let mut all = seconds.clone();
                all.sort_unstable();
                assert_eq!(all, [0, 1, 2, 3]);
                orders.insert((pairing as usize, seconds));
            }
            counts
        };
        // 750 each, with a standard deviation of 24.
        assert!(count(Pairing::Speakers).iter().flatten().all(|n: &i32| (n - 750).abs() < 100));
        for (first, row) in count(Pairing::Deflection).iter().enumerate() {
            assert!(row.iter().enumerate().all(|(second, &n): (usize, &i32)| match first == second {
                true => n == 0,
                // 1,000 each, with a standard deviation of 26.
                false => (n - 1000).abs() < 110,
            }));
        }
        // All permutations of four, and their derangements.
        assert_eq!(orders.len(), 24 + 9);
    }
}
